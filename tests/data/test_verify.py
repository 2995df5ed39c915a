"""Looking over folders of parts: every kind of damage is named."""

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch

from toy_generators import SlowScenes
from unscene.data import open as opening
from unscene.data import save_shards, shards, verify_shards
from unscene.data.manifest import read_manifest
from unscene.data.parts import read_part, write_part
from unscene.errors import InputError


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Ten scenes to train and three to test, in parts of four."""
    monkeypatch.setitem(opening.GENERATORS, "slow", SlowScenes)
    monkeypatch.setattr(shards, "MOST_SCENES", 4)
    save_shards("slow", tmp_path / "a", {"train": 10, "test": 3}, options={"seed": 4}, processes=1)
    return tmp_path / "a"


def part(root, name="train-000001.h5"):
    return root / "parts" / name


def faults(root, **options):
    return verify_shards(root, **options).faults


def rewrite(path, **arrays):
    """Write the part with other arrays, and the hashes of these."""
    piece = read_part(path, path.name.split("-")[0], read_manifest(path.parents[1]).settings)
    write_part(path, "train", replace(piece, arrays=piece.arrays | arrays), read_manifest(path.parents[1]).settings)
    (path.parents[1] / "manifest.json").write_text(  # which then has not yet seen it
        json.dumps(json.loads((path.parents[1] / "manifest.json").read_text()) | {"parts": {}})
    )
    return piece.arrays


def test_what_is_right(root):
    calls = []
    found = verify_shards(root, redraw=13, progress=lambda *call: calls.append(call))
    assert found.to_json() == {
        "complete": True,
        "faults": [],
        "scenes": {"train": 10, "test": 3},
        "parts": 4,
        "redrawn": 13,
    }
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_hashes_that_the_manifest_lacks_are_added(root):
    complete = json.loads((root / "manifest.json").read_text())
    parts = dict(complete["parts"])
    parts.pop("train-000002.h5")
    (root / "manifest.json").write_text(json.dumps(complete | {"parts": parts}))
    assert faults(root) == []
    assert json.loads((root / "manifest.json").read_text()) == complete


def test_missing_scenes(root):
    part(root, "train-000000.h5").unlink()
    part(root, "train-000002.h5").unlink()
    part(root, "test-000000.h5").unlink()
    before = (root / "manifest.json").read_text()
    found = verify_shards(root)
    assert found.faults == [
        "6 of the 10 scenes of split 'train' are missing, the first in parts/train-000000.h5",
        "3 of the 3 scenes of split 'test' are missing, the first in parts/test-000000.h5",
    ]
    assert found.scenes == {"train": 4, "test": 0} and found.parts == 1
    assert (root / "manifest.json").read_text() == before


def test_scenes_that_are_asked_for_but_not_made_yet(root, monkeypatch):
    monkeypatch.setattr(shards, "run_jobs", lambda *_: None)
    save_shards("slow", root, {"train": 15}, options={"seed": 4}, processes=1)
    assert faults(root) == ["5 of the 15 scenes of split 'train' are missing, the first in parts/train-000002.h5"]


def test_unreadable_parts(root):
    content = part(root).read_bytes()
    part(root).write_bytes(content[:1000])
    (fault,) = faults(root)
    assert fault.startswith(f"cannot read {part(root)}: ") and "damaged or truncated" in fault
    with h5py.File(part(root, "test-000000.h5")) as file:
        offset, size = file["test/image"].id.get_chunk_info(1)[2:]
    damaged = bytearray(part(root, "test-000000.h5").read_bytes())
    damaged[offset : offset + size] = bytes(size)
    part(root, "test-000000.h5").write_bytes(damaged)
    assert len(faults(root)) == 2 and "test-000000.h5" in faults(root)[1]


def test_parts_of_other_scenes(root, tmp_path):
    save_shards("slow", tmp_path / "b", {"train": 10}, options={"seed": 5}, processes=1)
    shutil.copy(part(tmp_path / "b"), part(root))
    (fault,) = faults(root)
    assert "train-000001.h5 was made with another seed, options or renderer than the manifest" in fault
    shutil.copy(part(root, "train-000000.h5"), part(root))
    assert faults(root) == [
        "parts/train-000001.h5 holds 4 scenes from 0 on, not 4 from 4 on",
        "parts/train-000001.h5 is not the part that the manifest lists",
    ]


def test_parts_that_nobody_knows(root):
    shutil.copy(part(root), part(root, "train-000009.h5"))
    (root / "parts" / ".train-000003.h5.0a.part").touch()  # of a generation that goes on
    assert faults(root) == ["parts/train-000009.h5 is unknown to the manifest"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("image", "has other images or label maps than were stored"),
        ("mask", "has other images or label maps than were stored"),
        ("factors/x", "has other factors or labels than were stored"),
        ("camera", "has other factors or labels than were stored"),
    ],
)
def test_changed_numbers(root, name, fault):
    with h5py.File(part(root), "a") as file:
        values = file["train"][name][...]
        values.flat[0] += 1
        file["train"][name][...] = values
    assert faults(root)[0] == f"parts/train-000001.h5 {fault}"


def test_files_beside_the_scenes(root):
    (root / "notes" / "train-4.txt").write_text("x = none")
    (root / "notes" / "test-2.txt").unlink()
    assert faults(root) == [
        "notes/train-4.txt, which belongs to parts/train-000001.h5, has changed",
        "notes/test-2.txt, which belongs to parts/test-000000.h5, is missing",
    ]


def test_labels_that_contradict_each_other(root):
    mask = read_part(part(root), "train", read_manifest(root).settings).arrays["mask"]
    mask[1:3, 0, 0] = 2  # where there are the background and one object
    rewrite(part(root), mask=mask)
    assert faults(root) == [
        "parts/train-000001.h5 has ids in its label maps that none of 2 entities has, in 2 scenes, the first number 5"
    ]


@pytest.mark.parametrize("seen", [False, True])
def test_visibility_that_is_not_that_of_the_label_maps(root, seen):
    arrays = read_part(part(root), "train", read_manifest(root).settings).arrays
    mask, visibility = arrays["mask"], arrays["visibility"]
    if seen:
        mask[2] = 0  # the object is gone, but said to be visible
    else:
        visibility[2, 1] = False
    rewrite(part(root), mask=mask, visibility=visibility)
    assert faults(root) == [
        "parts/train-000001.h5 has a visibility that is not that of its label maps, in 1 scenes, the first number 6"
    ]


def test_scenes_that_are_drawn_otherwise_now(root, monkeypatch):
    draw = SlowScenes.generate

    def darker(self, draws):
        scenes = draw(self, draws)
        return scenes | {"image": scenes["image"] * np.float32(0.9)}

    monkeypatch.setattr(SlowScenes, "generate", darker)
    assert faults(root) == []
    assert faults(root, redraw=3) == [
        f"scene {index} of split {split!r}, drawn again, differs in 3 bytes of its image"
        for index, split in ((0, "train"), (4, "train"), (8, "train"))
    ]


def test_redrawing_takes_the_generator_as_it_was(root, monkeypatch):
    with pytest.raises(InputError, match="cannot draw 14 scenes again; there are 13"):
        verify_shards(root, redraw=14)
    monkeypatch.setattr(SlowScenes, "provenance", lambda self: {"painter": "toy 9"})
    with pytest.raises(InputError, match="was made with painter = 'toy 1', not 'toy 9'"):
        verify_shards(root, redraw=1)
    monkeypatch.delitem(opening.GENERATORS, "slow")
    with pytest.raises(InputError, match="there is no generator 'slow'"):
        verify_shards(root, redraw=1)
    assert faults(root) == []


def test_data_without_labels(root, monkeypatch):
    draw = SlowScenes.generate
    monkeypatch.setattr(SlowScenes, "generate", lambda self, draws: {"image": draw(self, draws)["image"]})
    monkeypatch.setattr(SlowScenes, "files", lambda *_: {})
    save_shards("slow", root.parent / "b", {"val": 5}, processes=1)
    assert faults(root.parent / "b", redraw=2) == []
    assert torch.equal(opening.open_dataset(root.parent / "b", "val")[4]["image"], SlowScenes(5, 0, "val")[4]["image"])
