import numpy as np
import pytest
import torch

from unscene.figures import palette, uncertainty_map, views_panel
from unscene.figures.views import log_variance
from unscene.scenes import Decomposition


def test_uncertainty_goes_from_dark_to_bright_over_four_decades():
    variance = torch.tensor([[0.0, 1e-4, 1e-2, 5.0]])
    assert log_variance(variance)[0, 0] == -6
    pixels = uncertainty_map(variance)
    assert pixels.shape == (1, 4, 3) and pixels.dtype == np.uint8
    assert (pixels[0, 2] == pixels[0, 3]).all()
    assert list(np.argsort(pixels[0, :3].sum(1))) == [0, 1, 2]


@pytest.mark.parametrize("known", [True, False])
def test_views_panel_shows_view_segmentation_uncertainty_and_slots(known):
    masks = torch.tensor([1.0, 0.0])[None, :, None, None].expand(3, 2, 8, 10)
    views = Decomposition(masks, torch.rand(3, 2, 3, 8, 10), torch.zeros(3, 2, 4))
    image = torch.rand(3, 3, 8, 10) if known else None
    figure = views_panel(views, torch.rand(3, 8, 10), image, titles=["a", "b", "c"])
    columns = ["shown", "mask", "uncertainty", "slot 0", "slot 1"]
    assert [text.get_text() for text in figure.texts] == [*(["image"] if known else []), *columns, "a", "b", "c"]
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert (canvas == [*palette(2)[1], 255]).all(-1).any()
