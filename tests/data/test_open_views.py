"""Multi-view data by name and by path, and the commands of `unscene data` on them."""

import json

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from unscene.cli import main
from unscene.data import GQNScenes, HDF5Scenes, ImageFolder, MultiViewScenes, OrbitScenes, ViewFolder, open_dataset
from unscene.errors import InputError


def test_orbit_by_name():
    dataset = open_dataset("orbit", seed=3, views=2, image_size=8, most=3)
    assert type(dataset) is OrbitScenes and len(dataset) == 320
    expected = OrbitScenes(320, seed=3, split="test", views=2, image_size=8, most=3)
    assert torch.equal(dataset[5]["image"], expected[5]["image"])
    assert len(open_dataset("orbit", "train")) == 60_000
    with pytest.raises(InputError, match="OrbitScenes has no option 'variant'"):
        open_dataset("orbit/ten")


def test_folders_of_mulmon(tmp_path):
    folder = tmp_path / "clevr_mv"
    (folder / "data").mkdir(parents=True)
    scene = {"data_path": "data/a.npy", "camera": {"location": [[1, 1, 1]]}, "depth_orders": [[]], "objects": []}
    (folder / "clevr_mv_test.json").write_text(json.dumps({"num_views": 1, "scenes": [scene]}))
    arrays = {"images": np.zeros((1, 4, 6, 3), np.uint8), "masks": np.zeros((1, 4, 6, 1), np.uint8)}
    with (folder / "data" / "a.npy").open("wb") as file:
        np.savez(file, **arrays)
    for split in ("test", None):
        dataset = open_dataset(folder, split, unsafe_pickle=False)
        assert type(dataset) is MultiViewScenes and dataset[0]["image"].shape == (1, 3, 4, 6)
    with pytest.raises(InputError, match="clevr_mv has no index of the split 'train'"):
        open_dataset(folder, "train")


def test_files_and_folders_of_gqn(tmp_path, tfrecord):
    with h5py.File(tmp_path / "gqn_jaco_test.h5", "w") as file:
        file["images"], file["viewpoints"] = np.zeros((2, 3, 4, 4, 3), np.uint8), np.zeros((2, 3, 7))
    for path in (tmp_path, tmp_path / "gqn_jaco_test.h5"):
        dataset = open_dataset(path, None, views=2)
        assert type(dataset) is GQNScenes and dataset[0]["image"].shape == (2, 3, 4, 4)
    (tmp_path / "rooms" / "test").mkdir(parents=True)
    tfrecord.write(tmp_path / "rooms" / "test" / "1-of-1.tfrecord", [b""], "none")
    for path in (tmp_path / "rooms", tmp_path / "rooms" / "test" / "1-of-1.tfrecord"):
        with pytest.raises(InputError, match="record 0 of .*1-of-1.tfrecord has no 'cameras'"):
            open_dataset(path)


def test_folders_of_views_are_images_unless_asked_for_as_scenes(tmp_path):
    for name in ("a/0", "a/1", "b/0", "b/1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.png")
    assert type(open_dataset(tmp_path, None)) is ImageFolder
    for views in (None, 2):
        dataset = open_dataset(tmp_path, None, views=views)
        assert type(dataset) is ViewFolder and dataset[1]["image"].shape == (2, 3, 4, 6)


def test_generate_inspect_and_convert(tmp_path, capsys):
    file, copy, sheet, numbers = (str(tmp_path / name) for name in ("a.h5", "b.h5", "a.png", "a.json"))
    options = ["--options.views", "4", "--options.image_size", "16", "--options.seed", "2"]
    assert main(["data", "generate", "orbit", file, "--count", "11", *options]) == 0
    assert HDF5Scenes(file).splits == {"test": 1, "train": 9, "val": 1}
    assert main(["data", "convert", file, copy, "--splits", "train"]) == 0
    capsys.readouterr()
    assert main(["data", "inspect", copy, "--sheet", sheet, "--count", "3", "--json", numbers]) == 0
    text = capsys.readouterr().out
    assert "float32 (4, 3, 16, 16)" in text and "viewpoint  (4, 3), -2 to 1, the same in all scenes" in text
    assert json.loads((tmp_path / "a.json").read_text())["viewpoint"]["shape"] == [4, 3]
    with Image.open(sheet) as picture:
        assert picture.width > 100 and picture.height > 100
    expected = OrbitScenes(9, seed=2, views=4, image_size=16)[8]
    stored = open_dataset(copy, "train")[8]
    assert torch.equal(stored["mask"], expected["mask"]) and torch.equal(stored["viewpoint"], expected["viewpoint"])


def test_recipes_find_views_by_name(capsys):
    data = ["--data.train", "Views", "--data.train.dataset", "OrbitScenes", "--data.train.dataset.views", "3"]
    with pytest.raises(SystemExit) as stop:
        main(["train", "iodine/tetrominoes", *data, "--data.val", "null", "--print_config"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and "class_path: unscene.data.Views" in text and "views: 3" in text


def test_few_scenes_all_go_to_train(tmp_path):
    options = ["--count", "2", "--options.views", "1", "--options.image_size", "4"]
    assert main(["data", "generate", "orbit", str(tmp_path / "a.h5"), *options]) == 0
    assert HDF5Scenes(tmp_path / "a.h5").splits == {"train": 2}
