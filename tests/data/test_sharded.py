"""Reading folders of parts: the scenes that were drawn, whole or cut, and what is said where some are missing."""

import json
import pickle

import h5py
import pytest
import torch

from toy_generators import SlowScenes
from unscene.data import (
    BouncingBalls,
    Clips,
    FilteredScenes,
    Frames,
    HDF5Scenes,
    MultiDSprites,
    OrbitScenes,
    ShardedScenes,
    Tetrominoes,
    Views,
    collate,
    open_dataset,
    save_hdf5,
    save_shards,
    shards,
)
from unscene.data import open as opening
from unscene.data.clips import ReadsClips
from unscene.data.preprocess import to_grayscale
from unscene.data.views import ReadsViews
from unscene.errors import InputError


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(shards, "MOST_SCENES", 4)
    monkeypatch.setitem(opening.GENERATORS, "slow", SlowScenes)


def stored(root, source, dataset, **options):
    """The first scenes of a generator, read from a folder of parts."""
    split = options.pop("split", "train")
    save_shards(source, root, {split: len(dataset)}, options=options, processes=1)
    return ShardedScenes(root, split)


def assert_equal(read, expected, indices):
    assert len(read) == len(expected)
    torch.testing.assert_close(read.batch(indices), expected.batch(indices), rtol=0, atol=0)


def test_all_scenes_come_back_in_any_order(tmp_path):
    expected = Tetrominoes(10, seed=3)
    read = stored(tmp_path, "tetrominoes", expected, seed=3)
    assert_equal(read, expected, range(10))
    assert_equal(read, expected, [9, 0, 4, 3, 9])
    torch.testing.assert_close(read.batch([8, 2]), collate([read[8], read[-8]]))
    assert read.splits == {"train": 10} and type(open_dataset(tmp_path, "train")) is ShardedScenes


def test_everything_that_a_scene_has_is_kept(tmp_path):
    expected = SlowScenes(6)
    assert expected[0].keys() == {"image", "mask", "factors", "visibility", "camera", "contacts"}
    assert_equal(stored(tmp_path, "slow", expected), expected, [5, 1])


def test_one_channel(tmp_path):
    expected = MultiDSprites(3, variant="binarized", split="test")
    read = stored(tmp_path, "multi_dsprites/binarized", expected, split="test")
    assert_equal(read, expected, range(3))
    gray = ShardedScenes(tmp_path, "test", grayscale=True)
    assert torch.equal(gray[1]["image"], expected[1]["image"])


def test_grayscale(tmp_path):
    stored(tmp_path, "tetrominoes", Tetrominoes(2), split="test")
    gray = open_dataset(tmp_path, None, grayscale=True)[1]["image"]
    torch.testing.assert_close(gray, to_grayscale(Tetrominoes(2, split="test")[1]["image"]))


def test_clips_and_frames(tmp_path):
    expected = BouncingBalls(6, variant="6-8", frames=9, collisions=True)
    read = stored(tmp_path, "bouncing_balls/6-8", expected, frames=9, collisions=True)
    assert isinstance(read, ReadsClips) and not isinstance(read, ReadsViews)
    assert (read.num_frames, read.timed_factors) == (9, set(BouncingBalls.timed_factors))
    assert_equal(read, expected, [5, 2])
    assert_equal(Clips(read, 4), Clips(expected, 4), [11, 0, 5, 4])
    assert_equal(Frames(read), Frames(expected), [53, 0, 17, 18, 20])


def test_frames_are_stored_one_by_one(tmp_path):
    stored(tmp_path, "bouncing_balls", BouncingBalls(2, frames=5), frames=5)
    with h5py.File(tmp_path / "parts" / "train-000000.h5") as file:
        chunks = {name: file["train"][name].chunks for name in ("image", "mask")}
    assert chunks == {"image": (1, 1, 64, 64, 3), "mask": (1, 1, 64, 64)}


def test_timed_factors_are_guessed_where_the_generator_does_not_tell(tmp_path, monkeypatch):
    monkeypatch.delattr(BouncingBalls, "timed_factors")
    read = stored(tmp_path, "bouncing_balls", BouncingBalls(1, frames=7), frames=7)
    assert read.timed_factors == {"position", "velocity", "collision"}


def test_views(tmp_path):
    expected = OrbitScenes(6, views=3, image_size=16)
    read = stored(tmp_path, "orbit", expected, views=3, image_size=16)
    assert isinstance(read, ReadsViews) and not isinstance(read, ReadsClips) and read.view_counts == [3] * 6
    file = tmp_path / "o.h5"
    save_hdf5({"train": expected}, file)
    expected = HDF5Scenes(file)  # images as bytes
    assert_equal(read, expected, [5, 2])
    assert_equal(Views(read), Views(expected), [17, 0, 4, 5])
    with pytest.raises(InputError, match="ShardedScenes holds images of shape"):
        Views(stored(tmp_path / "t", "tetrominoes", Tetrominoes(1)))


def test_cameras_are_cut_too(tmp_path, monkeypatch):
    balls = BouncingBalls(2, frames=5)

    def film(self, draws):
        camera = torch.arange(len(draws.keys) * 5 * 16).reshape(-1, 5, 4, 4)
        return self._film(draws, [0] * len(draws.keys), 5) | {"camera": camera, "pose": camera[:, 0]}

    monkeypatch.setattr(BouncingBalls, "generate", film)
    read = stored(tmp_path, "bouncing_balls", balls, frames=5)
    clip = read.batch_clips([0, 1], [3, 1], 2)
    whole = read.batch([0, 1])
    assert torch.equal(clip["camera"][0], whole["camera"][0, 3:]) and clip["pose"].shape == (2, 4, 4)


def test_number_of_objects(tmp_path):
    stored(tmp_path, "multi_dsprites", MultiDSprites(30), split="test")
    chosen = open_dataset(tmp_path, "test", num_objects=2)
    expected = FilteredScenes(MultiDSprites(30, split="test"), 2, 2)
    assert chosen.indices == expected.indices
    assert torch.equal(chosen[0]["mask"], expected[0]["mask"])


def test_pickles_and_works_in_forked_workers(tmp_path):
    read = stored(tmp_path, "tetrominoes", Tetrominoes(10))
    expected = read.batch(range(10))["image"]  # read before the fork
    torch.testing.assert_close(pickle.loads(pickle.dumps(read))[3]["image"], expected[3])
    loader = torch.utils.data.DataLoader(
        read, batch_size=5, num_workers=1, collate_fn=collate, multiprocessing_context="fork"
    )
    torch.testing.assert_close(torch.cat([batch["image"] for batch in loader]), expected)


def test_missing_scenes_are_counted_with_the_command_that_makes_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_shards("shapes", "my data", {"train": 18, "test": 2}, options={"seed": 5}, shard="1/2", processes=1)
    command = "`unscene data generate shapes --options.seed 5 --out 'my data' --train 18 --val 0 --test 2`"
    with pytest.raises(
        InputError, match=f"^10 of the 18 scenes of split 'train' are missing in my data; {command} makes"
    ):
        ShardedScenes("my data")
    save_shards("shapes", "my data", {"train": 18}, options={"seed": 5}, processes=1)
    assert len(ShardedScenes("my data")) == 18
    with pytest.raises(InputError, match="^2 of the 2 scenes of split 'test'"):
        ShardedScenes("my data", "test")
    (tmp_path / "my data" / "parts" / "train-000002.h5").unlink()
    with pytest.raises(InputError, match="^4 of the 18 scenes of split 'train'"):
        ShardedScenes("my data")


def test_more_scenes_than_are_there_yet(tmp_path, monkeypatch):
    stored(tmp_path, "shapes", Tetrominoes(6))
    monkeypatch.setattr(shards, "run_jobs", lambda *_: None)  # killed in the first moment
    save_shards("shapes", tmp_path, {"train": 11}, processes=1)
    with pytest.raises(InputError, match="^5 of the 11 scenes"):
        ShardedScenes(tmp_path)


def test_damaged_parts_are_named(tmp_path):
    read = stored(tmp_path, "tetrominoes", Tetrominoes(10))
    part = tmp_path / "parts" / "train-000001.h5"
    content = part.read_bytes()
    part.write_bytes(content[:-100])
    with pytest.raises(InputError, match="cannot read .*train-000001.h5: .*truncated.*; if it is damaged or truncated"):
        read[5]
    with h5py.File(part, "w") as file:
        file["test/image"] = 0
    with pytest.raises(InputError, match="train-000001.h5 is no part of generated scenes of split 'train'; delete it"):
        read[5]
    part.write_bytes(content)
    with h5py.File(part, "a") as file:
        file.attrs["settings"] = "other"
    with pytest.raises(
        InputError, match="train-000001.h5 was made with another seed, options or renderer than the man"
    ):
        read[5]
    assert torch.equal(read[0]["image"], Tetrominoes(1)[0]["image"])


def edited(root, change):
    """The folder, with this change to the content of its manifest."""
    path = root / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return root


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(splits={"train": "many"}), "is damaged: it counts scenes in other than positive whole num"),
        (lambda m: m.update(scenes_per_part=0), "is damaged: it counts scenes in other than positive"),
        (
            lambda m: m.pop("seed"),
            "is damaged: its seed is None; delete it, and `unscene data generate` writes it again",
        ),
        (lambda m: m.update(parts={"a.h5": {"scenes": 3}}), "is damaged: it lists parts without their hashes; delete"),
        (lambda m: m.update(layout="web app"), "manifest.json is no manifest of generated scenes; name another folder"),
        (lambda m: m.update(version=2), "manifest.json is of version 2, not 1; update unscene"),
    ],
)
def test_bad_manifests(tmp_path, change, message):
    stored(tmp_path, "shapes", Tetrominoes(2))
    with pytest.raises(InputError, match=message):
        open_dataset(edited(tmp_path, change), "train")


def test_manifests_that_cannot_be_read(tmp_path):
    stored(tmp_path, "shapes", Tetrominoes(2))
    with pytest.raises(InputError, match="has no split 'val'; it has train"):
        ShardedScenes(tmp_path, "val")
    for text in ("{", "", "\udc80"):
        (tmp_path / "manifest.json").write_text(text, errors="surrogateescape")
        with pytest.raises(
            InputError, match="manifest.json is damaged: it is no JSON, .*; delete it, and `unscene data"
        ):
            ShardedScenes(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(InputError, match="is no manifest of generated scenes"):
        ShardedScenes(tmp_path)
    with pytest.raises(
        InputError, match="cannot read .*gone/manifest.json: No such file or directory; name a folder of"
    ):
        ShardedScenes(tmp_path / "gone")
