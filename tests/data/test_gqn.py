"""GQN's scenes in both layouts, written here: MulMON's HDF5 files and TFRecord files of JPEG frames."""

import io
import pickle

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import GQNScenes, Views
from unscene.data.gqn import is_gqn
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def write_hdf5(path, num_scenes=4, num_views=3, **members):
    images = RNG.integers(0, 256, (num_scenes, num_views, 6, 8, 3), dtype=np.uint8)
    viewpoints = RNG.normal(size=(num_scenes, num_views, 7))
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in ({"images": images, "viewpoints": viewpoints} | members).items():
            if value is not None:
                file[name] = value
    return images, viewpoints


@pytest.fixture
def jaco(tmp_path):
    folder = tmp_path / "GQN" / "gqn_jaco"
    write_hdf5(folder / "gqn_jaco_test.h5", num_scenes=2)
    return folder, *write_hdf5(folder / "gqn_jaco_train.h5")


def test_hdf5_scenes_come_back(jaco):
    folder, images, viewpoints = jaco
    dataset = pickle.loads(pickle.dumps(GQNScenes(folder)))
    assert len(dataset) == 4 and dataset.splits == {"train": 4, "test": 2}
    batch = dataset.batch([3, 0])
    assert batch.keys() == {"image", "viewpoint"}
    assert torch.equal(batch["image"], torch.from_numpy(images[[3, 0]]).movedim(-1, 2).float() / 255)
    assert torch.equal(batch["viewpoint"], torch.from_numpy(viewpoints[[3, 0]]).float())
    assert len(GQNScenes(folder, "test")) == 2


def test_images_may_be_numbers_from_0_to_1(tmp_path):
    images = RNG.random((4, 3, 6, 8, 3))
    write_hdf5(tmp_path / "a.h5", images=images)
    expected = torch.from_numpy(images[2]).movedim(-1, 1).float()
    assert torch.equal(GQNScenes(tmp_path / "a.h5")[2]["image"], expected)
    assert torch.equal(GQNScenes(tmp_path / "a.h5", grayscale=True)[2]["image"], to_grayscale(expected))
    write_hdf5(tmp_path / "b.h5", images=np.full((4, 3, 6, 8, 3), 255.0))
    with pytest.raises(InputError, match="images of .*b.h5 have values from 255 to 255; expected bytes, or numbers"):
        GQNScenes(tmp_path / "b.h5")[0]


def test_options_of_hdf5_scenes(jaco):
    folder, images, viewpoints = jaco
    few = GQNScenes(folder, views=2, limit=3, grayscale=True)
    assert len(few) == 3 and few[0]["image"].shape == (2, 1, 6, 8) and few[0]["viewpoint"].shape == (2, 7)
    assert torch.equal(few[2]["image"], to_grayscale(GQNScenes(folder)[2]["image"][:2]))
    views = Views(GQNScenes(folder, limit=2))
    assert len(views) == 6 and views.splits == {"train": 12, "test": 6}
    one = views.batch([5, 1])
    assert torch.equal(one["image"], torch.from_numpy(images[[1, 0], [2, 1]]).movedim(-1, 1).float() / 255)
    np.testing.assert_allclose(one["viewpoint"], viewpoints[[1, 0], [2, 1]].astype(np.float32))


def test_a_single_file_is_the_split_of_its_name(jaco, tmp_path):
    folder, images, _ = jaco
    assert GQNScenes(folder / "gqn_jaco_test.h5", "test").splits == {"test": 2}
    with pytest.raises(InputError, match="gqn_jaco_test.h5 has no split 'train' of GQN's scenes; it has test"):
        GQNScenes(folder / "gqn_jaco_test.h5", "train")
    other = (folder / "gqn_jaco_train.h5").rename(tmp_path / "scenes.h5")
    assert GQNScenes(other, "val").splits == {"val": 4}


def jpeg(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg")
    return file.getvalue()


def smooth(height=8, width=8):
    """A picture that JPEG keeps."""
    return np.full((height, width, 3), RNG.integers(0, 256, 3), dtype=np.uint8)


@pytest.fixture
def records(tmp_path, tfrecord):
    """Two files to train of 3 and 2 scenes, one to test of 1, each scene of 4 views."""

    def write(path, count):
        pixels = np.array([[smooth() for _ in range(4)] for _ in range(count)])
        cameras = RNG.normal(size=(count, 4, 5)).astype(np.float32)
        payloads = [
            tfrecord.encode_example({"frames": [jpeg(p) for p in scene], "cameras": camera})
            for scene, camera in zip(pixels, cameras, strict=True)
        ]
        path.parent.mkdir(parents=True, exist_ok=True)
        tfrecord.write(path, payloads, "none")
        return pixels, cameras

    folder = tmp_path / "rooms_ring_camera"
    write(folder / "test" / "1-of-1.tfrecord", 1)
    parts = [write(folder / "train" / f"{i}-of-2.tfrecord", count) for i, count in ((1, 3), (2, 2))]
    return folder, *(np.concatenate(part) for part in zip(*parts, strict=True))


def test_records_come_back(records):
    folder, pixels, cameras = records
    dataset = pickle.loads(pickle.dumps(GQNScenes(folder)))
    assert len(dataset) == 5 and dataset.splits == {"train": 5}
    batch = dataset.batch([4, 0, 2])
    assert batch["image"].shape == (3, 4, 3, 8, 8)
    expected = torch.from_numpy(pixels[[4, 0, 2]]).movedim(-1, 2) / 255
    torch.testing.assert_close(batch["image"], expected, rtol=0, atol=3 / 255)
    position, (yaw, pitch) = cameras[[4, 0, 2], :, :3], np.moveaxis(cameras[[4, 0, 2], :, 3:], -1, 0)
    angles = np.stack([np.sin(yaw), np.cos(yaw), np.sin(pitch), np.cos(pitch)], axis=-1)
    np.testing.assert_allclose(batch["viewpoint"], np.concatenate([position, angles], axis=-1), rtol=1e-5)
    assert len(GQNScenes(folder, "test")) == len(GQNScenes(folder / "test", "test")) == 1


def test_options_of_records(records):
    folder, *_ = records
    whole = GQNScenes(folder)
    assert [len(GQNScenes(folder, limit=limit)) for limit in (1, 3, 4, 9)] == [1, 3, 4, 5]
    assert torch.equal(GQNScenes(folder, limit=4, views=2)[3]["image"], whole[3]["image"][:2])
    assert torch.equal(Views(whole)[18]["image"], whole[4]["image"][2])
    assert torch.equal(Views(whole)[18]["viewpoint"], whole[4]["viewpoint"][2])


def test_files_and_folders_of_one_split(records, tmp_path):
    folder, *_ = records
    assert len(GQNScenes(folder / "train" / "2-of-2.tfrecord")) == 2
    with pytest.raises(InputError, match="2-of-2.tfrecord has no split 'test' of GQN's scenes; it has train"):
        GQNScenes(folder / "train" / "2-of-2.tfrecord", "test")
    with pytest.raises(InputError, match="train has no split 'val' of GQN's scenes; it has train"):
        GQNScenes(folder / "train", "val")
    elsewhere = (folder / "train").rename(tmp_path / "mine")
    assert len(GQNScenes(elsewhere, "test")) == 5


def test_both_are_known_by_their_names_and_members(jaco, records, tmp_path):
    folder, *_ = records
    for path in (folder, folder / "train", folder / "train" / "1-of-2.tfrecord"):
        assert is_gqn(path)
    assert is_gqn(jaco[0]) and is_gqn(jaco[0] / "gqn_jaco_test.h5")
    write_hdf5(tmp_path / "other.h5", viewpoints=None)
    assert not any(map(is_gqn, (tmp_path, tmp_path / "other.h5", tmp_path / "gone.h5", tmp_path / "gone")))
    (folder / "train" / "1-of-2.tfrecord").rename(tmp_path / "scenes.tfrecord")
    assert not is_gqn(tmp_path / "scenes.tfrecord")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"images": None}, "a.h5 has no 'images', only viewpoints; it does not hold GQN's scenes"),
        ({"viewpoints": None}, "a.h5 has no 'viewpoints', only images"),
        (
            {"images": np.zeros((4, 3, 6, 8), int)},
            r"'images' of .*a.h5 are int64 of shape .*; expected bytes",
        ),
        ({"viewpoints": np.zeros((4, 3, 5))}, r"'viewpoints' of .*a.h5 have shape \(4, 3, 5\); expected 7 numbers for"),
        ({"viewpoints": np.zeros((4, 2, 7))}, r"shape \(4, 2, 7\); .* of the 3 views of 4 scenes: \(4, 3, 7\)"),
    ],
)
def test_other_hdf5_layouts_are_refused(tmp_path, members, message):
    write_hdf5(tmp_path / "a.h5", **members)
    with pytest.raises(InputError, match=message):
        GQNScenes(tmp_path / "a.h5")


GOOD = {"frames": [jpeg(smooth()), jpeg(smooth())], "cameras": np.zeros(10, np.float32)}


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ({"frames": GOOD["frames"]}, "record 1 of .*a.tfrecord has no 'cameras', only frames; it is no scene of GQN's"),
        ({"cameras": GOOD["cameras"]}, "record 1 of .*a.tfrecord has no 'frames', only cameras"),
        (
            GOOD | {"cameras": np.zeros(14, np.float32)},
            "record 1 .* has 14 numbers for the cameras of 2 frames; expected 5",
        ),
        (
            GOOD | {"frames": [b"no", b"picture"]},
            "record 1 of .* has a frame that is no readable image: cannot identify",
        ),
        (
            GOOD | {"frames": [jpeg(smooth(6, 8))] * 2},
            "has a frame of 6 x 8 pixels, the first scene of 8 x 8; all views",
        ),
        (
            {"frames": [jpeg(smooth())] * 3, "cameras": np.zeros(15, np.float32)},
            "record 1 of .* has 3 frames, the first scene 2; read the files of one data set at a time",
        ),
        (None, "record 1 of .*a.tfrecord cannot be read: the payload is not a tf.train.Example message"),
    ],
)
def test_records_that_hold_something_else_are_named(tmp_path, tfrecord, features, message):
    payloads = [tfrecord.encode_example(GOOD), b"text" if features is None else tfrecord.encode_example(features)]
    dataset = GQNScenes(tfrecord.write(tmp_path / "a.tfrecord", payloads, "none"))
    assert dataset[0]["image"].shape == (2, 3, 8, 8)
    with pytest.raises(InputError, match=message):
        dataset[1]


def test_compressed_records_are_refused(tmp_path, tfrecord):
    path = tfrecord.write(tmp_path / "a.tfrecord", [tfrecord.encode_example(GOOD)], "gzip")
    with pytest.raises(
        InputError, match="a.tfrecord is compressed, so its records cannot be found .*; unpack it first"
    ):
        GQNScenes(path)


def test_bad_paths_and_options(jaco, tmp_path):
    folder, *_ = jaco
    with pytest.raises(
        InputError, match="gone has no split 'train' of GQN's scenes; there are no .h5 and no .tfrecord"
    ):
        GQNScenes(tmp_path / "gone")
    with pytest.raises(InputError, match="gqn_jaco has no split 'val' of GQN's scenes; it has train, test"):
        GQNScenes(folder, "val")
    with pytest.raises(InputError, match="limit is 0; read at least 1 scene, or all with None"):
        GQNScenes(folder, limit=0)
    for views in (0, 4):
        with pytest.raises(InputError, match=f"views is {views}, but the scenes of .*gqn_jaco have 3; set 1 to 3"):
            GQNScenes(folder, views=views)
