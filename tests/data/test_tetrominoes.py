"""Tetrominoes against the official conventions, recomputed from image and label map."""

import numpy as np
import pytest
from scipy import stats

from unscene.data.tetrominoes import Tetrominoes

# Shape ids of the official files
PIECES = {
    "1111": 1, "1/1/1/1": 2, "111/100": 3, "100/111": 4, "001/111": 5, "111/001": 6, "11/01/01": 7, "01/01/11": 8,
    "11/10/10": 9, "10/10/11": 10, "110/011": 11, "011/110": 12, "01/11/10": 13, "10/11/01": 14, "010/111": 15,
    "111/010": 16, "01/11/01": 17, "10/11/10": 18, "11/11": 19,
}  # fmt: skip
BLOCK = [[191, 255, 255, 255, 223], *[[127, 159, 159, 159, 191]] * 3, [95, 63, 63, 63, 127]]


@pytest.fixture(scope="module")
def scenes():
    batch = Tetrominoes(2000).batch(range(2000))
    return {name: value.numpy() for name, value in (batch | batch["factors"]).items() if name != "factors"}


def test_shapes_and_types(scenes):
    assert scenes["image"].shape == (2000, 3, 35, 35) and scenes["image"].dtype == np.float32
    assert scenes["color"].shape == (2000, 4, 3)
    assert {name: scenes[name].dtype for name in ("x", "shape", "color")} == {
        "x": np.float32,
        "shape": np.uint8,
        "color": np.float32,
    }


def test_three_pieces_without_overlap(scenes):
    areas = np.stack([(scenes["mask"] == i).sum((1, 2)) for i in range(4)], axis=1)
    np.testing.assert_array_equal(areas, [[35 * 35 - 300, 100, 100, 100]] * 2000)
    assert scenes["visibility"].all()


def test_each_piece_is_drawn_as_its_factors_say(scenes):
    for scene in range(200):
        for i in (1, 2, 3):
            rows, columns = np.nonzero(scenes["mask"][scene] == i)
            top, left = rows.min(), columns.min()
            assert (scenes["x"][scene, i], scenes["y"][scene, i]) == (top, left)
            window = np.s_[top : rows.max() + 1, left : columns.max() + 1]
            pattern = (scenes["mask"][scene][window] == i)[::5, ::5].astype(int)
            assert scenes["shape"][scene, i] == PIECES["/".join("".join(map(str, row)) for row in pattern)]

            drawn = np.where(scenes["mask"][scene] == i, scenes["image"][scene] * 255, 0)[:, *window]
            expected = scenes["color"][scene, i][:, None, None] * np.kron(pattern, BLOCK)
            np.testing.assert_allclose(drawn, expected, atol=1e-4)


def test_background_is_black(scenes):
    assert not np.where(scenes["mask"][:, None] == 0, scenes["image"], 0).any()


def test_all_shapes_and_colors_are_equally_frequent(scenes):
    shapes = np.bincount(scenes["shape"][:, 1:].ravel(), minlength=20)[1:]
    codes = np.bincount((scenes["color"][:, 1:] @ [1, 2, 4]).astype(int).ravel(), minlength=8)
    assert len(shapes) == 19 and codes[0] == codes[7] == 0  # neither black nor white
    assert stats.chisquare(shapes).pvalue > 1e-3
    assert stats.chisquare(codes[1:7]).pvalue > 1e-3


def test_placements_use_the_whole_image_and_favour_no_piece(scenes):
    for name in ("x", "y"):
        assert set(scenes[name][:, 1:].ravel()) == set(range(31))
        first, second, third = scenes[name][:, 1:].T
        assert stats.f_oneway(first, second, third).pvalue > 1e-3
