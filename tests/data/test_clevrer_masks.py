"""Run-length codes against a decoder written after the C code of pycocotools, and small mask files."""

import json

import numpy as np
import pytest
from PIL import Image

from unscene.data.clevrer_masks import decode_rle, read_colors, read_detections
from unscene.errors import InputError


def runs_of(mask):
    flat = np.asarray(mask).T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *edges, flat.size]).tolist()
    return [0, *runs] if flat[0] else runs


def compress(runs):
    """rleToString of COCO's maskApi.c, line by line."""
    text = ""
    for i, run in enumerate(runs):
        x, more = run - runs[i - 2] if i > 2 else run, True
        while more:
            c, x = x & 0x1F, x >> 5
            more = x != -1 if c & 0x10 else x != 0
            text += chr((c | 0x20 if more else c) + 48)
    return text


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_runs_and_strings_give_the_mask(share):
    mask = np.random.default_rng(0).random((32, 48)) < share
    mask[5:20, 7:30] |= share > 0  # long runs too, which need several characters
    runs = runs_of(mask)
    for counts in (runs, compress(runs), compress(runs).encode()):
        decoded = decode_rle((32, 48), counts)
        assert decoded.dtype == bool
        np.testing.assert_array_equal(decoded, mask)


def test_a_known_string():
    """The first example of a compressed mask one meets: 4 x 4, a 2 x 2 square in the middle."""
    assert compress([5, 2, 2, 2, 5]) == "52203"
    expected = np.zeros((4, 4), bool)
    expected[1:3, 1:3] = True
    np.testing.assert_array_equal(decode_rle((4, 4), "52203"), expected)


def test_bad_codes_are_refused():
    with pytest.raises(InputError, match="a run-length coded mask of 4 x 4 has runs of 15 pixels in total"):
        decode_rle((4, 4), [5, 2, 2, 2, 4])
    with pytest.raises(InputError, match="a run-length coded mask of 4 x 4 has runs of 16 pixels"):
        decode_rle((4, 4), [20, -4])
    for text in ("52203P", ""):
        with pytest.raises(InputError, match="a run-length coded mask ends in the middle of a number"):
            decode_rle((4, 4), text)


KINDS = [("red", "metal", "cube"), ("blue", "rubber", "sphere")]


def detection(kind, mask):
    rle = {"size": list(mask.shape), "counts": compress(runs_of(mask))}
    return dict(zip(("color", "material", "shape"), kind, strict=True), mask=rle)


def rectangle(rows, columns):
    mask = np.zeros((6, 8), bool)
    mask[rows, columns] = True
    return mask


def write(path, *frames):
    content = {"frames": [{"frame_index": 4 + i, "objects": objects} for i, objects in enumerate(frames)]}
    path.write_text(json.dumps(content))
    return path


def test_detections_are_matched_to_objects(tmp_path):
    left, right, all_over = rectangle(np.s_[1:4], np.s_[0:3]), rectangle(np.s_[2:5], np.s_[2:6]), np.ones((6, 8), bool)
    path = write(
        tmp_path / "sim_00001.json",
        [detection(KINDS[1], right), detection(KINDS[0], left)],  # the first covers the second
        [
            detection(KINDS[0], left),
            detection(("green", "metal", "cube"), all_over),  # no such object
            detection(KINDS[0], all_over),  # a duplicate
            detection(KINDS[1], right),
        ],
    )
    masks = read_detections(path, KINDS, range(4, 6))
    np.testing.assert_array_equal(masks[0], np.where(right, 2, left))
    np.testing.assert_array_equal(masks[1], np.where(left, 1, 2 * right))
    assert masks.dtype == np.uint8


def test_detections_that_do_not_fit(tmp_path):
    path = write(tmp_path / "a.json", [detection(KINDS[0], np.ones((6, 8), bool)), detection(KINDS[1], np.eye(4) > 0)])
    with pytest.raises(InputError, match="a.json has no frame 5; use other frames"):
        read_detections(path, KINDS, range(4, 6))
    with pytest.raises(InputError, match=r"a.json has masks of \(4, 4\) and \(6, 8\) pixels in the same frame"):
        read_detections(path, KINDS, range(4, 5))


def test_flat_colors_with_compression_noise(tmp_path):
    """Ids count by area; noise and blended outlines belong to the nearest colour."""
    rng, ids = np.random.default_rng(0), np.zeros((3, 40, 60), np.uint8)
    for t in range(3):
        ids[t, 4:30, 5 + t : 25 + t], ids[t, 20:36, 35:45] = 1, 2
    colors = np.array([[0, 0, 0], [200, 30, 40], [40, 120, 220]])
    frames = colors[ids] + rng.integers(-12, 13, (3, 40, 60, 3))
    frames[:, 10, 25:27] = [110, 20, 25]  # a blend
    for t, frame in enumerate(frames):
        Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(tmp_path / f"{t}.png")
    found = read_colors(tmp_path)
    outline = np.zeros(ids.shape, bool)
    outline[:, 10, 25:27] = True
    np.testing.assert_array_equal(found[~outline], ids[~outline])
    assert set(np.unique(found)) == {0, 1, 2}
