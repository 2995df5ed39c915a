"""Figures of sprites, read back pixel by pixel."""

import numpy as np
import pytest
import torch

from toy_figures import cell, left_of, texts
from unscene.errors import InputError
from unscene.figures import palette
from unscene.figures.sprites import (
    BAR,
    PAPER,
    SHEET_CELL,
    SHEET_GAP,
    clusters_panel,
    layers_panel,
    manipulation_grid,
    sprite_gallery,
    sprite_sheet,
)
from unscene.scenes import Decomposition

SIZE = (4, 6)


@pytest.fixture
def sprites():
    """12 sprites of 4 x 6, of which k has the grey value k / 20; their left halves are opaque."""
    colours = (torch.arange(12) / 20).view(-1, 1, 1, 1).expand(-1, 3, *SIZE)
    masks = torch.zeros(12, 1, *SIZE)
    masks[..., :3] = 1
    return colours, masks


def grey(k):
    return round(255 * k / 20)


def test_gallery_has_ten_in_a_row(sprites):
    usage = torch.arange(12.0) / 11
    figure = sprite_gallery(*sprites, usage)
    rows = ["sprite", "colours", "mask", "usage", "sprite 10 +", "colours", "mask", "usage"]
    assert texts(figure) == [*map(str, range(10)), *rows]
    left = left_of(figure, 10)
    for k, row, column in ((7, 0, 7), (11, 4, 1)):
        sprite, _ = cell(figure, row, column, left)
        assert (sprite[:, :3] == grey(k)).all() and set(sprite[:, 3:].flatten()) <= {232, 255}  # the checkerboard
        assert (cell(figure, row + 1, column, left)[0] == grey(k)).all()
        mask, _ = cell(figure, row + 2, column, left)
        assert (mask[:, :3] == 255).all() and not mask[:, 3:].any()
    full, empty = cell(figure, 7, 1, left)[0], cell(figure, 3, 0, left)[0]
    assert (full[:, 1:5] == BAR).all() and (full[:, [0, 5]] == PAPER).all() and (empty == PAPER).all()
    half = cell(figure, 3, 5, left)[0][:, 2]  # 5 / 11 of 4 pixels
    assert (half[2:] == BAR).all() and (half[:2] == PAPER).all()


def test_gallery_of_prototypes_without_masks_or_counts(sprites):
    figure = sprite_gallery(sprites[0][:2])
    assert texts(figure) == ["0", "1", "sprite"]
    assert (cell(figure, 0, 1, left_of(figure, 2))[0] == grey(1)).all()


def test_gallery_of_sprites_that_nobody_uses(sprites):
    figure = sprite_gallery(sprites[0][:2], usage=torch.zeros(2))
    assert (cell(figure, 1, 1, left_of(figure, 2))[0] == PAPER).all()


def test_sheet_shows_all_in_rows(sprites):
    sheet = sprite_sheet(sprites[0][:5], sprites[1][:5])
    factor = SHEET_CELL // 4
    height, width = 4 * factor + SHEET_GAP, 6 * factor + SHEET_GAP
    assert sheet.shape == (2 * height + SHEET_GAP, 3 * width + SHEET_GAP, 3)
    for k in range(5):
        y, x = SHEET_GAP + k // 3 * height, SHEET_GAP + k % 3 * width
        picture = sheet[y : y + 4 * factor, x : x + 6 * factor]
        assert (picture[:, : 3 * factor] == grey(k)).all() and (picture[:, 3 * factor :] >= 232).all()
    assert (sheet[height + SHEET_GAP :, 2 * width + SHEET_GAP :] == 255).all()  # where the sixth would be
    assert (sprite_sheet(sprites[0][:1])[SHEET_GAP:-SHEET_GAP, SHEET_GAP:-SHEET_GAP] == 0).all()
    assert sprite_sheet(torch.zeros(1, 1, 100, 100)).shape == (100 + 2 * SHEET_GAP, 100 + 2 * SHEET_GAP, 3)


@pytest.fixture
def layered():
    """One image of two layers: sprite 4 in the left third, the background, the right third belongs to layer 2."""
    masks = torch.zeros(1, 3, *SIZE)
    masks[:, 1, :, :2], masks[:, 0, :, 2:4], masks[:, 2, :, 4:] = 1, 1, 1
    components = torch.tensor([0.2, 0.6, 1.0]).view(1, 3, 1, 1, 1).expand(1, 3, 3, *SIZE)
    return Decomposition(masks, components, torch.zeros(1, 3, 2), sprite_ids=torch.tensor([[-1, 4, 0]]))


def test_layers_panel(layered):
    image = torch.rand(1, 3, *SIZE)
    figure = layers_panel(image, layered, titles=("here",))
    names = ["image", "reconstruction", "sprites", "layers", "background", "layer 1", "layer 2", "here"]
    assert texts(figure) == names
    left = left_of(figure, 7)
    pictures = [cell(figure, 0, column, left) for column in range(7)]
    np.testing.assert_allclose(pictures[0][0], image[0].movedim(0, -1) * 255, atol=0.51)
    assert pictures[1][0][0, [0, 2, 4], 0].tolist() == [153, 51, 255]
    colours = palette(6)
    assert (pictures[2][0][0, [0, 2, 4]] == colours[[5, 0, 1]]).all()  # of sprites 4, none and 0
    assert (pictures[3][0][0, [0, 2, 4]] == colours[[1, 0, 2]]).all()
    for slot in range(3):
        assert tuple(pictures[4 + slot][1][:3]) == tuple(colours[slot])
    assert (pictures[5][0][:, :2] == 153).all() and (pictures[5][0][:, 2:] >= 232).all()


def test_layers_panel_takes_label_maps(layered):
    labels = torch.full((1, *SIZE), 2, dtype=torch.uint8)
    figure = layers_panel(torch.rand(1, 3, *SIZE), layered, labels)
    assert (cell(figure, 0, 3)[0] == palette(3)[2]).all() and (cell(figure, 0, 2)[0] == palette(2)[1]).all()


def test_layers_panel_needs_sprites(layered):
    bare = Decomposition(layered.masks, layered.components, layered.slots)
    with pytest.raises(InputError, match="no sprites; draw decomposition_panel instead"):
        layers_panel(torch.rand(1, 3, *SIZE), bare)


def test_manipulation_grid():
    flat = [torch.full((3, *SIZE), value) for value in (0.2, 0.4)]
    variants = {"sprite": torch.full((3, 3, *SIZE), 0.6), "scale": torch.full((2, 3, *SIZE), 0.8)}
    figure = manipulation_grid(*flat, variants)
    assert texts(figure) == ["image", "reconstruction", "", "sprite", "scale"]
    left = left_of(figure, 3)
    for row, column, value in ((0, 0, 51), (0, 1, 102), (1, 2, 153), (2, 1, 204)):
        assert (cell(figure, row, column, left)[0] == value).all()


@pytest.fixture
def clustered():
    """9 images in cluster 0, image i missed by (8 - i) / 20; 1 in cluster 2 and 1 in none."""
    image = torch.full((11, 1, *SIZE), 0.5)
    missed = torch.tensor([*(torch.arange(8, -1, -1) / 20), 0.0, 0.0]).view(-1, 1, 1, 1)
    return image, image - missed, torch.tensor([0] * 9 + [2, -1])


def test_clusters_panel_shows_the_best_and_others(clustered):
    image, reconstruction, cluster = clustered
    prototypes = torch.tensor([0.2, 0.6, 1.0]).view(3, 1, 1, 1).expand(3, 1, *SIZE)
    figure = clusters_panel(prototypes, image, reconstruction, cluster)
    rows = ["sprite 0", "9 images", "sprite 1", "0 images", "sprite 2", "1 image"]
    best = [f"best {i}" for i in range(1, 6)]
    assert texts(figure) == ["sprite, mean", *best, *["other"] * 4, *rows]
    left = left_of(figure, 10)
    assert (cell(figure, 0, 0, left)[0] == 51).all() and (cell(figure, 1, 0, left)[0] == 128).all()
    shown = [cell(figure, 1, column, left)[0][0, 0, 0] for column in range(1, 10)]
    expected = [round(255 * (0.5 - missed / 20)) for missed in range(9)]
    np.testing.assert_allclose(shown[:5], expected[:5], atol=1)
    np.testing.assert_allclose(sorted(shown[5:], reverse=True), expected[5:], atol=1)
    assert (cell(figure, 4, 1, left)[0] == 128).all()
    canvas = np.asarray(figure.axes[0].images[0].get_array())
    assert texts(clusters_panel(prototypes, image, reconstruction, cluster)) == texts(figure)
    again = clusters_panel(prototypes, image, reconstruction, cluster).axes[0].images[0].get_array()
    assert np.array_equal(canvas, np.asarray(again))


def test_clusters_of_small_sprites_with_masks(clustered):
    figure = clusters_panel(torch.zeros(3, 1, 2, 2), *clustered, masks=torch.ones(3, 1, 2, 2))
    sprite, _ = cell(figure, 0, 0, left_of(figure, 10))
    assert not sprite[1:3, 2:4].any() and (sprite[[0, 3]] >= 232).all() and (sprite[:, [0, 1, 4, 5]] >= 232).all()
