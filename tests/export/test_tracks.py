import csv

import numpy as np
import pytest

from unscene.export.tracks import Track, TrackWriter, tracks_of


def test_boxes_centres_and_areas():
    labels = np.array([[0, 0, 2, 2], [0, 0, 2, 0], [0, 0, 0, 0]])
    assert tracks_of(labels, frame=7) == [
        Track(7, 0, 0, 0, 4, 3, pytest.approx(11 / 9), pytest.approx(11 / 9), 9),
        Track(7, 2, 2, 0, 4, 2, pytest.approx(7 / 3), pytest.approx(1 / 3), 3),
    ]


def test_both_files_tell_the_same(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    labels[2] = 1  # in which slots 0 and 2 have no pixel
    slots = np.arange(4 * 3 * 2, dtype=np.float32).reshape(4, 3, 2)
    with TrackWriter(tmp_path) as tracks:
        for frame in zip(labels, slots, strict=True):
            tracks.add(*frame)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tracks.csv", "tracks.npz"]
    arrays = np.load(tmp_path / "tracks.npz")
    np.testing.assert_array_equal(arrays["labels"], labels)
    np.testing.assert_array_equal(arrays["slots"], slots)
    rows = list(csv.DictReader((tmp_path / "tracks.csv").read_text().splitlines()))
    assert len(rows) == len(arrays["frame"]) == 3 * 3 + 1
    for i, row in enumerate(rows):
        assert [int(row[name]) for name in ("frame", "object", "area")] == [
            arrays[name][i] for name in ("frame", "object", "area")
        ]
        assert [int(row[name]) for name in ("left", "top", "right", "bottom")] == arrays["box"][i].tolist()
        np.testing.assert_allclose([float(row["x"]), float(row["y"])], arrays["centre"][i], atol=0.006)


def test_a_failure_is_not_packed(tmp_path):
    with pytest.raises(RuntimeError, match="in the middle"), TrackWriter(tmp_path) as tracks:
        tracks.add(np.zeros((2, 2), np.uint8), np.zeros((1, 1)))
        raise RuntimeError("in the middle")
    assert not (tmp_path / "tracks.npz").exists()
