import pytest
import torch

from unscene.scenes import Decomposition


@pytest.fixture
def decomposition():
    """Two slots on two images of 4 x 6: slot 0 paints blue, slot 1 red; slot 1 owns the top left quarter."""
    masks = torch.zeros(2, 2, 4, 6)
    masks[:, 1, :2, :3] = 1
    masks[:, 0] = 1 - masks[:, 1]
    components = torch.zeros(2, 2, 3, 4, 6)
    components[:, 0, 2], components[:, 1, 0] = 1, 1.25  # decoders may overshoot the range of colours
    first = Decomposition(masks=torch.full_like(masks, 0.5), components=components, slots=torch.zeros(2, 2, 3))
    return Decomposition(
        masks=masks, components=components, slots=torch.zeros(2, 2, 3), mask_logits=8 * masks, history=(first,) * 3
    )
