import pytest
import torch
from torch.utils.data import Dataset

from unscene.errors import InputError
from unscene.figures import contact_sheet
from unscene.figures.grid import GAP


class Squares(Dataset):
    """Scenes i with i % 3 + 1 labelled columns."""

    def __init__(self, length, leading=(), masks=True):
        self.length, self.leading, self.masks = length, leading, masks

    def __len__(self):
        return self.length

    def __getitem__(self, i):
        mask = torch.zeros(*self.leading, 20, 30, dtype=torch.uint8)
        for n in range(i % 3 + 1):
            mask[..., 2 * n] = n + 1
        scene = {"image": torch.rand(*self.leading, 1, 20, 30)}
        return scene | {"mask": mask} if self.masks else scene


def title(figure):
    return figure.texts[0].get_text()


def height(figure):
    return figure.axes[0].images[0].get_array().shape[0]


def test_title_counts_scenes_and_objects():
    assert title(contact_sheet(Squares(12_345), 16)) == (
        "Squares, 12,345 scenes of 20 x 30 gray, 1 to 3 objects in those shown"
    )
    assert title(contact_sheet(Squares(1), 16)) == "Squares, 1 scene of 20 x 30 gray, 1 object in those shown"


def test_masks_take_a_row_each():
    with_masks, without = contact_sheet(Squares(16)), contact_sheet(Squares(16, masks=False))
    assert title(without).endswith("gray, no masks")
    row = (height(with_masks) - height(without)) // 2
    assert row - GAP == 20 * 5 + 6  # enlarged five-fold and framed


def test_videos_become_filmstrips():
    figure = contact_sheet(Squares(4, leading=(10,)), 2)
    assert "10 frames of 20 x 30" in title(figure)
    canvas = figure.axes[0].images[0].get_array()
    assert canvas.shape[1] >= 8 * 30 * 5  # eight frames beside each other


def test_views_take_a_row_too():
    class Views(Squares):
        def __getitem__(self, i):
            return super().__getitem__(i) | {"viewpoint": torch.zeros(10, 3)}

    assert "3 scenes of 10 views of 20 x 30 gray" in title(contact_sheet(Views(3, leading=(10,))))


def test_empty_dataset_is_refused():
    with pytest.raises(InputError, match="the dataset is empty"):
        contact_sheet(Squares(0))


def test_no_scenes_make_no_sheet():
    with pytest.raises(InputError, match="count is 0; a contact sheet shows at least 1 scene"):
        contact_sheet(Squares(3), 0)
