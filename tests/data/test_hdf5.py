import io
import pickle
import subprocess
import sys

import h5py
import numpy as np
import pytest
import torch

from unscene.data import HDF5Scenes, MultiDSprites, OrbitScenes, SceneDataset, Tetrominoes, Views, collate, save_hdf5
from unscene.data.hdf5 import _OutputFile
from unscene.data.preprocess import crop_clevr, to_grayscale
from unscene.errors import InputError

RNG = np.random.default_rng(0)


class TensorScenes(SceneDataset):
    """Scenes given as one batch."""

    def __init__(self, scenes):
        self.scenes = scenes

    def __len__(self):
        return len(self.scenes["image"])

    def batch(self, indices):
        return {key: value[list(indices)] for key, value in self.scenes.items()}


def whole(dataset):
    return dataset.batch(range(len(dataset)))


@pytest.fixture
def tetrominoes(tmp_path):
    datasets = {"train": Tetrominoes(70), "test": Tetrominoes(5, split="test")}
    save_hdf5(datasets, tmp_path / "t.h5")
    return tmp_path / "t.h5", datasets


def test_every_split_comes_back_exactly(tetrominoes):
    path, datasets = tetrominoes
    for split, dataset in datasets.items():
        torch.testing.assert_close(whole(HDF5Scenes(path, split)), whole(dataset), rtol=0, atol=0)


def test_layout_on_disk(tetrominoes):
    with h5py.File(tetrominoes[0]) as file:
        assert dict(file.attrs) == {"layout": "unscene", "version": 1}
        image, mask = file["train/image"], file["train/mask"]
        assert (image.shape, image.dtype, image.chunks) == ((70, 35, 35, 3), np.uint8, (1, 35, 35, 3))
        assert (mask.shape, mask.dtype, mask.compression) == ((70, 35, 35), np.uint8, "gzip")
        assert file["train/factors/color"].shape == (70, 4, 3) and file["train/visibility"].dtype == bool


def test_batches_equal_samples_in_any_order(tetrominoes):
    dataset = HDF5Scenes(tetrominoes[0], "train")
    torch.testing.assert_close(dataset.batch([66, 2, 66]), collate([dataset[66], dataset[2], dataset[-4]]))


def test_videos_and_viewpoints(tmp_path):
    scenes = {
        "image": torch.randint(256, (3, 4, 3, 6, 8)) / 255,
        "mask": torch.randint(200, (3, 4, 6, 8)),
        "viewpoint": torch.randn(3, 4, 2),
        "collision": torch.rand(3, 4, 6, 8) < 0.5,
    }
    save_hdf5({"val": TensorScenes(scenes)}, tmp_path / "v.h5")
    read = whole(HDF5Scenes(tmp_path / "v.h5", "val"))
    assert torch.equal(read["image"], scenes["image"]) and torch.equal(read["viewpoint"], scenes["viewpoint"])
    assert torch.equal(read["collision"], scenes["collision"])
    assert torch.equal(read["mask"], scenes["mask"].to(torch.uint8))


def test_multi_view_scenes(tmp_path):
    dataset = OrbitScenes(3, views=4, image_size=16)
    save_hdf5({"test": dataset}, tmp_path / "o.h5")
    read, expected = whole(HDF5Scenes(tmp_path / "o.h5", "test")), whole(dataset)
    assert (read.pop("image") - expected.pop("image")).abs().max() <= 0.5 / 255 + 1e-6
    torch.testing.assert_close(read, expected, rtol=0, atol=0)
    views = Views(HDF5Scenes(tmp_path / "o.h5", "test"))
    assert len(views) == 12 and torch.equal(views[6]["mask"], expected["mask"][1, 2])
    with h5py.File(tmp_path / "o.h5") as file:
        assert file["test/image"].chunks == (1, 4, 16, 16, 3) and file["test/viewpoint"].shape == (3, 4, 3)


def test_grayscale(tetrominoes):
    path, datasets = tetrominoes
    gray = HDF5Scenes(path, "test", grayscale=True)[2]["image"]
    torch.testing.assert_close(gray, to_grayscale(datasets["test"][2]["image"]))


def test_images_are_rounded_to_bytes(tmp_path):
    image = torch.rand(2, 1, 5, 7)
    save_hdf5({"test": TensorScenes({"image": image})}, tmp_path / "a.h5")
    read = whole(HDF5Scenes(tmp_path / "a.h5", "test"))
    assert read.keys() == {"image"}
    assert (read["image"] - image).abs().max() <= 0.5 / 255 + 1e-6


def test_progress_is_reported(tmp_path):
    calls = []
    save_hdf5({"train": MultiDSprites(70)}, tmp_path / "a.h5", progress=lambda *call: calls.append(call))
    assert calls == [("train", 64, 70), ("train", 70, 70)]


def test_a_failure_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a.h5"
    save_hdf5({"test": TensorScenes({"image": torch.zeros(2, 1, 4, 4)})}, path)
    before = path.read_bytes()
    bad = {"image": torch.zeros(2, 1, 4, 4), "mask": torch.full((2, 4, 4), 256)}
    with pytest.raises(InputError, match="a label map has ids outside 0 to 255"):
        save_hdf5({"test": TensorScenes(bad)}, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_nothing_to_write(tmp_path):
    with pytest.raises(InputError, match="nothing to write to .*a.h5: no splits"):
        save_hdf5({}, tmp_path / "a.h5")
    with pytest.raises(InputError, match="nothing to write to .*a.h5: split 'val' is empty"):
        save_hdf5({"train": Tetrominoes(1), "val": TensorScenes({"image": torch.zeros(0, 1, 4, 4)})}, tmp_path / "a.h5")


def test_missing_folders_are_made(tmp_path):
    save_hdf5({"train": Tetrominoes(1)}, tmp_path / "new" / "folder" / "a.h5")
    assert len(HDF5Scenes(tmp_path / "new" / "folder" / "a.h5")) == 1


@pytest.mark.parametrize("limit", [1000, 50_000, 300_000])
def test_a_full_disk_ends_in_one_sentence(tmp_path, limit):
    """In a process of its own: HDF5 used to crash it when it met the error while closing the file."""
    script = f"""
import resource
from pathlib import Path
from unscene.data import MultiDSprites, save_hdf5
from unscene.errors import InputError
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    save_hdf5({{"train": MultiDSprites(300)}}, Path("a.h5"))
except InputError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("cannot write a.h5: File too large; make room") and done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_partial_writes_are_completed(tmp_path):
    class Reluctant(io.FileIO):
        def write(self, data):
            return super().write(data[:3])

    class Output(_OutputFile, Reluctant):
        pass

    with Output(tmp_path / "a", "w+") as output:
        assert output.write(b"eight by") == 8
    assert (tmp_path / "a").read_bytes() == b"eight by"


def test_truncated_files_are_named(tetrominoes):
    path = tetrominoes[0]
    dataset = HDF5Scenes(path)
    path.write_bytes(path.read_bytes()[:-200])
    for read in (lambda: dataset[3], lambda: HDF5Scenes(path)):
        with pytest.raises(InputError, match=r"cannot read .*t.h5: .*truncated file.*; if it is damaged or truncated"):
            read()


def test_visibility_among_the_factors_of_older_files_is_left_out(tetrominoes):
    path, datasets = tetrominoes
    with h5py.File(path, "a") as file:
        file["test/factors/visibility"] = np.ones((5, 4), bool)
    assert HDF5Scenes(path, "test")[0]["factors"].keys() == datasets["test"][0]["factors"].keys()


def test_all_splits_are_listed(tetrominoes):
    assert HDF5Scenes(tetrominoes[0], "test").splits == {"test": 5, "train": 70}


def test_pickles_and_works_in_forked_workers(tetrominoes):
    dataset = HDF5Scenes(tetrominoes[0], "train")
    expected = whole(dataset)["image"]  # read before the fork
    torch.testing.assert_close(pickle.loads(pickle.dumps(dataset))[3]["image"], expected[3])
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=35, num_workers=1, collate_fn=collate, multiprocessing_context="fork"
    )
    torch.testing.assert_close(torch.cat([batch["image"] for batch in loader]), expected)


def write_release(path, image, labels, num_entities, **factors):
    masks = 255 * (labels[:, None] == np.arange(num_entities)[:, None, None])
    with h5py.File(path, "w") as file:
        group = file.create_group("test")
        group["imgs"], group["masks"] = image, masks[..., None].astype(np.float32)
        for name, values in factors.items():
            group[name] = values


def test_reads_the_efficientmorl_release(tmp_path):
    image, labels = RNG.integers(0, 256, (3, 6, 8, 3), dtype=np.uint8), RNG.integers(0, 5, (3, 6, 8))
    factors = RNG.normal(size=(3, 5, 9))
    write_release(tmp_path / "a.h5", image.astype(np.float32), labels, 5, factors=factors)
    batch = HDF5Scenes(tmp_path / "a.h5", "test").batch([2, 0])
    assert torch.equal(batch["image"], torch.from_numpy(image[[2, 0]]).movedim(-1, 1).float() / 255)
    np.testing.assert_array_equal(batch["mask"], labels[[2, 0]])
    np.testing.assert_array_equal(batch["factors"]["factors"], factors[[2, 0]])


def test_reads_named_factors_of_the_release(tmp_path):
    image, labels = np.zeros((2, 6, 8, 3), np.uint8), np.zeros((2, 6, 8))
    write_release(tmp_path / "a.h5", image, labels, 2, **{"factors/x": np.arange(4.0).reshape(2, 2)})
    assert HDF5Scenes(tmp_path / "a.h5", "test")[1]["factors"]["x"].tolist() == [2, 3]


def test_crops_clevr_of_the_release(tmp_path):
    image = RNG.integers(0, 256, (1, 240, 320, 3), dtype=np.uint8)
    labels = RNG.integers(0, 3, (1, 240, 320), dtype=np.uint8)
    write_release(tmp_path / "a.h5", image, labels, 3)
    sample = HDF5Scenes(tmp_path / "a.h5", "test")[0]
    pixels, mask = crop_clevr(image[0], labels[0])
    np.testing.assert_array_equal((sample["image"] * 255).round().movedim(0, -1), pixels)
    np.testing.assert_array_equal(sample["mask"], mask)


def test_bad_files(tetrominoes, tmp_path):
    with pytest.raises(InputError, match="HDF5 file .*gone.h5 does not exist"):
        HDF5Scenes(tmp_path / "gone.h5")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(InputError, match="text.h5 is not an HDF5 file"):
        HDF5Scenes(tmp_path / "text.h5")
    with pytest.raises(InputError, match="t.h5 has no split 'val'; it has test, train"):
        HDF5Scenes(tetrominoes[0], "val")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["train/pictures"] = np.zeros(3)
    with pytest.raises(InputError, match="group 'train' of .*other.h5 has neither 'image' nor 'imgs'"):
        HDF5Scenes(tmp_path / "other.h5", "train")
    with h5py.File(tetrominoes[0], "a") as file:
        file.attrs["version"] = 2
    with pytest.raises(InputError, match="t.h5 is of a newer version 2 than 1; update unscene"):
        HDF5Scenes(tetrominoes[0])
