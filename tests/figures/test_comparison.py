import numpy as np
import pytest
import torch

from toy_figures import cell, texts
from unscene.errors import InputError
from unscene.figures import comparison_panel, palette
from unscene.figures.comparison import as_in
from unscene.scenes import Decomposition

TRUE = torch.zeros(1, 4, 6, dtype=torch.long)
TRUE[0, :, 5], TRUE[0, 2:, 1:4] = 1, 2


def one_hot(labels, num_slots):
    """A Decomposition whose segmentation is ``labels`` (B, H, W)."""
    masks = torch.nn.functional.one_hot(labels, num_slots).movedim(-1, 1).float()
    levels = torch.linspace(0, 1, num_slots).view(1, -1, 1, 1, 1)
    return Decomposition(masks, levels.expand(*masks.shape[:2], 3, *masks.shape[2:]), masks.flatten(2))


def test_slots_get_the_number_of_their_object():
    shuffled = torch.tensor([5, 0, 3])[TRUE]
    assert as_in(TRUE, shuffled).equal(TRUE)


def test_what_is_left_over_gets_numbers_that_no_object_has():
    split = TRUE.clone()
    split[0, 0, 5] = 4  # the corner of object 1, of which slot 1 keeps more
    split[0, 0, 0] = 3
    expected = TRUE.clone()
    expected[0, 0, 5], expected[0, 0, 0] = 4, 3
    assert as_in(TRUE, split).equal(expected)
    everything = torch.full_like(TRUE, 7)
    assert as_in(TRUE, everything).equal(torch.zeros_like(TRUE))  # the background, of which it has most


def test_images_are_renumbered_one_by_one():
    both = torch.cat([TRUE, TRUE])
    labels = torch.cat([torch.tensor([1, 2, 0])[TRUE], torch.tensor([2, 0, 1])[TRUE]])
    assert as_in(both, labels).equal(both)


def test_rows_are_pictures_and_segmentations_in_matching_colours():
    image, colours = torch.rand(1, 3, 4, 6), palette(3)
    methods = {"A": one_hot(torch.tensor([2, 0, 1])[TRUE], 3), "B": one_hot(TRUE, 4)}
    figure = comparison_panel(image, methods, TRUE)
    assert texts(figure) == ["data", "A", "B"]
    np.testing.assert_allclose(cell(figure, 0, 0)[0], image[0].movedim(0, -1) * 255, atol=0.51)
    assert tuple(cell(figure, 0, 1)[0][0, 0]) == (255, 255, 255)  # slot 2 of A
    for column in range(3):
        assert (cell(figure, 1, column)[0] == colours[TRUE[0].numpy()]).all()


def test_without_masks_colours_follow_the_first_method():
    image = torch.rand(1, 3, 4, 6)
    methods = {"A": one_hot(TRUE, 3), "B": one_hot(torch.tensor([2, 0, 1])[TRUE], 3)}
    figure = comparison_panel(image, methods)
    np.testing.assert_allclose(cell(figure, 1, 0)[0], image[0].movedim(0, -1) * 255, atol=0.51)
    assert (cell(figure, 1, 1)[0] == cell(figure, 1, 2)[0]).all()


def test_nothing_to_compare():
    with pytest.raises(InputError, match="no decomposition to compare; give at least one"):
        comparison_panel(torch.rand(1, 3, 4, 6), {})
