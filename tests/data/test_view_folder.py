"""ViewFolder: which scenes and views it finds, what it does to them, and what it refuses."""

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import ImageFolder, ViewFolder, Views
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def save(path, height=6, width=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def folder(tmp_path):
    """Scenes of 3, 2 and 3 views."""
    for name in ("scene10/1", "scene2/0", "scene2/1", "scene2/10", "scene2/.1", "cubes/b", "cubes/a", "cubes/c"):
        save(tmp_path / "views" / f"{name}.png")
    save(tmp_path / "views" / "scene10" / "2.png")
    save(tmp_path / "views" / "overview.png", 30, 40)
    return tmp_path / "views"


def read(path):
    return ImageFolder(path.parent)[sorted(p.name for p in path.parent.glob("[!.]*")).index(path.name)]["image"]


def test_scenes_and_views_in_natural_order(folder):
    dataset = ViewFolder(folder)
    assert [path.name for path in dataset.paths] == ["cubes", "scene2", "scene10"]
    assert len(dataset) == 3 and list(dataset.view_counts) == [3, 3, 2]
    scene = pickle.loads(pickle.dumps(dataset))[1]
    assert scene.keys() == {"image"}
    expected = torch.stack([read(folder / "scene2" / f"{name}.png") for name in (0, 1, 10)])
    assert torch.equal(scene["image"], expected)
    assert torch.equal(dataset.batch([0, 1])["image"][1], expected)


def test_single_views_of_scenes_with_different_numbers_of_them(folder):
    views = Views(ViewFolder(folder))
    assert len(views) == 8 and views.splits == {}
    batch = views.batch([7, 0, 5])["image"]
    assert torch.equal(batch[0], read(folder / "scene10" / "2.png"))
    assert torch.equal(batch[2], read(folder / "scene2" / "10.png"))


def test_the_first_views(folder):
    dataset = ViewFolder(folder, views=2)
    assert dataset.batch([0, 1, 2])["image"].shape == (3, 2, 3, 6, 8)
    assert torch.equal(dataset[2]["image"], ViewFolder(folder)[2]["image"])
    assert len(Views(dataset)) == 6


def test_size_crop_and_gray(folder):
    assert ViewFolder(folder, image_size=4)[0]["image"].shape == (3, 3, 4, 4)
    assert ViewFolder(folder, image_size=(4, 5), grayscale=True)[0]["image"].shape == (3, 1, 4, 5)
    assert torch.equal(ViewFolder(folder, grayscale=True)[0]["image"], to_grayscale(ViewFolder(folder)[0]["image"]))
    cropped = ImageFolder(folder / "cubes", image_size=4, crop="center")
    assert torch.equal(ViewFolder(folder, image_size=4, crop="center")[0]["image"], cropped.batch(range(3))["image"])


def test_splits_keep_the_views_of_a_scene_together(tmp_path):
    for scene in range(60):
        for view in range(2):
            save(tmp_path / f"{scene}" / f"{view}.png", 2, 2)
    parts = {split: ViewFolder(tmp_path, split=split) for split in ("train", "val", "test")}
    names = [path.name for part in parts.values() for path in part.paths]
    assert sorted(map(int, names)) == list(range(60)) and len(parts["train"]) > 40
    assert parts["train"].splits == {split: len(part) for split, part in parts.items()}
    assert Views(parts["val"]).splits == {split: 2 * len(part) for split, part in parts.items()}
    kept = {path.name for path in parts["train"].paths}
    for scene in range(60, 90):
        save(tmp_path / f"{scene}" / "0.png", 2, 2)
    assert kept <= {path.name for path in ViewFolder(tmp_path, split="train").paths}


def test_splits_by_folder(tmp_path):
    for name in ("train/a/1", "train/b/1", "test/c/1"):
        save(tmp_path / f"{name}.png")
    assert [path.name for path in ViewFolder(tmp_path, split="train").paths] == ["a", "b"]
    assert ViewFolder(tmp_path).splits == {"train": 2, "test": 1} and len(ViewFolder(tmp_path)) == 3
    with pytest.raises(InputError, match="has no subfolder 'val'; its splits are train, test"):
        ViewFolder(tmp_path, split="val")


def test_views_of_different_sizes_are_named(folder):
    save(folder / "scene2" / "1.png", 6, 9)
    message = r"views have different sizes \(cubes/a.png is 6 x 8, scene2/1.png 6 x 9\); set image_size to resize them"
    with pytest.raises(InputError, match=message):
        ViewFolder(folder)
    assert ViewFolder(folder, image_size=6)[1]["image"].shape == (3, 3, 6, 6)


def test_different_numbers_of_views_cannot_be_stacked(folder):
    message = (
        r"scenes have different numbers of views \(scene10 has 2, scene2 3\); set views to the smallest, or take single"
    )
    with pytest.raises(InputError, match=message):
        ViewFolder(folder).batch([1, 2])
    with pytest.raises(InputError, match="scene .*scene10 has 2 views, not 3 as asked for; lower views"):
        ViewFolder(folder, views=3)


def test_bad_folders_and_options(folder, tmp_path):
    with pytest.raises(InputError, match="image folder .*gone does not exist"):
        ViewFolder(tmp_path / "gone")
    with pytest.raises(InputError, match="cubes has images but no folders of them; expected one per scene: SCENE/VIEW"):
        ViewFolder(folder / "cubes")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty has no images"):
        ViewFolder(tmp_path / "empty")
    with pytest.raises(InputError, match="views is 0; take at least 1 of each scene, or all with None"):
        ViewFolder(folder, views=0)
    with pytest.raises(InputError, match="crop='center' is not possible; use 'center' together with image_size"):
        ViewFolder(folder, crop="center")
    with pytest.raises(InputError, match="image_size is 0"):
        ViewFolder(folder, image_size=0)
    (folder / "cubes" / "b.png").write_text("no image")
    with pytest.raises(InputError, match="cannot read image .*cubes/b.png"):
        ViewFolder(folder, image_size=4)[0]
