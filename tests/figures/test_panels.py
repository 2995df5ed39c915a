import dataclasses

import numpy as np
import pytest
import torch

from toy_figures import cell, left_of, texts
from unscene.errors import InputError
from unscene.figures import decomposition_panel, mask_logits_panel, palette, refinement_panel
from unscene.scenes import Decomposition


def test_decomposition_panel_shows_image_reconstruction_mask_and_slots(decomposition):
    image = torch.rand(2, 3, 4, 6)
    figure = decomposition_panel(image, decomposition)
    assert texts(figure) == ["image", "reconstruction", "mask", "slot 0", "slot 1"]
    for row in range(2):
        np.testing.assert_allclose(cell(figure, row, 0)[0], image[row].movedim(0, -1) * 255, atol=0.51)
        assert tuple(cell(figure, row, 1)[0][0, 0]) == (255, 0, 0)
        assert tuple(cell(figure, row, 2)[0][3, 5]) == tuple(palette(2)[0])
        slot, frame = cell(figure, row, 4)
        assert tuple(frame[:3]) == tuple(palette(2)[1])
        assert tuple(slot[0, 0]) == (255, 0, 0) and set(slot[3, 5]) < {232, 255}  # else the checkerboard


def test_unmasked_components_are_shown_whole(decomposition):
    slot, _ = cell(decomposition_panel(torch.rand(2, 3, 4, 6), decomposition, masked=False), 0, 4)
    assert (slot == (255, 0, 0)).all()


@pytest.mark.parametrize("num_slots", [1, 20])
def test_gray_video_of_any_number_of_slots(num_slots):
    masks = torch.full((1, 3, num_slots, 5, 4), 1 / num_slots)
    video = Decomposition(
        masks=masks, components=torch.rand(1, 3, num_slots, 1, 5, 4), slots=torch.zeros(1, 3, num_slots, 2)
    )
    figure = decomposition_panel(torch.rand(1, 3, 1, 5, 4), video, titles=["t = 0", "t = 1", "t = 2"])
    assert texts(figure)[-4:] == [f"slot {num_slots - 1}", "t = 0", "t = 1", "t = 2"]


def test_refinement_panel_has_a_row_per_iteration_of_the_first_image(decomposition):
    figure = refinement_panel(decomposition)
    assert texts(figure) == ["reconstruction", "mask", "slot 0", "slot 1", "0 steps", "1 step", "2 steps"]
    reconstruction, _ = cell(figure, 2, 0, left_of(figure, 4))
    assert tuple(reconstruction[3, 3]) == (159, 0, 128)  # half of (1.25, 0, 0) and half of (0, 0, 1)


def test_refinement_panel_needs_a_history(decomposition):
    with pytest.raises(InputError, match="no history; decompose with history=True"):
        refinement_panel(dataclasses.replace(decomposition, history=()))


def test_mask_logits_panel_pairs_masks_with_logits(decomposition):
    truth = torch.full((2, 4, 6), 3)
    figure = mask_logits_panel(torch.rand(2, 3, 4, 6), decomposition, truth)
    left = left_of(figure, 3)
    assert texts(figure) == ["image", "slot 0", "slot 1", *("masks", "logits") * 2]
    assert (cell(figure, 1, 0, left)[0] == palette(4)[3]).all()
    logits, frame = cell(figure, 3, 2, left)
    assert tuple(frame[:3]) == tuple(palette(2)[1])
    assert tuple(logits[0, 0]) == (253, 231, 36) and tuple(logits[3, 5]) == (68, 1, 84)  # ends of viridis


def test_mask_logits_panel_falls_back_to_the_segmentation(decomposition):
    figure = mask_logits_panel(torch.rand(2, 3, 4, 6), decomposition)
    assert tuple(cell(figure, 1, 0, left_of(figure, 3))[0][0, 0]) == tuple(palette(2)[1])


def test_mask_logits_panel_needs_logits(decomposition):
    with pytest.raises(InputError, match="no mask logits; draw decomposition_panel instead"):
        mask_logits_panel(torch.rand(2, 3, 4, 6), dataclasses.replace(decomposition, mask_logits=None))
