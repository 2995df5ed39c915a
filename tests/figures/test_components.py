"""Slots drawn alone, duplicates framed, and masks beside those that are decoded."""

import numpy as np
import pytest
import torch

from toy_figures import cell, left_of, texts
from unscene.errors import InputError
from unscene.figures import components_panel, decoder_masks_panel
from unscene.figures.components import DUPLICATE, decodes_other_masks
from unscene.scenes import Decomposition


def decompose(same):
    """Slot 0 covers the left half in blue, slots 1 and 2 the same right half in red, or one of them in green."""
    logits = torch.full((1, 3, 4, 6), -9.0)
    logits[:, 0, :, :3], logits[:, 1:, :, 3:] = 9, 9
    colours = torch.tensor([[0.0, 0, 1], [1, 0, 0], [1, 0, 0] if same else [0, 1, 0]])
    components = colours[None, :, :, None, None].expand(1, 3, 3, 4, 6)
    return Decomposition(logits.softmax(1), components, torch.zeros(1, 3, 2), mask_logits=logits)


@pytest.mark.parametrize("same", [True, False])
def test_slots_are_drawn_alone_and_duplicates_framed(same):
    image = torch.rand(1, 3, 4, 6)
    figure = components_panel(image, decompose(same))
    assert texts(figure) == ["image", "reconstruction", "slot 0", "slot 1", "slot 2"]
    np.testing.assert_allclose(cell(figure, 0, 0)[0], image[0].movedim(0, -1) * 255, atol=0.51)
    blue, frame = cell(figure, 0, 2)
    assert tuple(blue[0, 0]) == (0, 0, 255) and tuple(blue[0, 5]) == (0, 0, 0) and frame[3] == 0
    red, frame = cell(figure, 0, 3)
    assert tuple(red[0, 5]) == (255, 0, 0)
    assert (tuple(frame[:3]) == tuple(DUPLICATE) and frame[3] == 255) if same else frame[3] == 0


def test_masks_stand_above_those_that_are_decoded():
    decomposition = decompose(True)
    figure = decoder_masks_panel(torch.rand(1, 3, 4, 6), decomposition)
    left = left_of(figure, 4)
    assert texts(figure)[4:] == ["masks", "decoded"]
    assert np.array_equal(cell(figure, 0, 1, left)[0], cell(figure, 1, 1, left)[0])
    assert not decodes_other_masks(decomposition)
    masks = decomposition.masks.flip(1)
    other = Decomposition(masks, decomposition.components, decomposition.slots, mask_logits=decomposition.mask_logits)
    figure = decoder_masks_panel(torch.rand(1, 3, 4, 6), other)
    assert not np.array_equal(cell(figure, 0, 1, left)[0], cell(figure, 1, 1, left)[0])
    assert decodes_other_masks(other)


def test_logits_are_needed():
    whole = decompose(True)
    without = Decomposition(whole.masks, whole.components, whole.slots)
    for panel in (components_panel, decoder_masks_panel):
        with pytest.raises(InputError, match="no mask logits; draw decomposition_panel instead"):
            panel(torch.rand(1, 3, 4, 6), without)
    assert not decodes_other_masks(without)
