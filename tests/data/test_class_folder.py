import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import ClassFolder, ImageFolder
from unscene.data.class_folder import NAMED
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def save(path, shape=(6, 8, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def test_classes_are_folders_in_natural_order(tmp_path):
    pixels = save(tmp_path / "10/a.ppm")
    for name in ("2/deep/b.png", "2/a.PNG", "left.png"):
        save(tmp_path / name)
    dataset = ClassFolder(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in dataset.paths] == ["2/a.PNG", "2/deep/b.png", "10/a.ppm"]
    assert dataset.class_names == ["2", "10"]
    batch = dataset.batch([2, 0])
    assert batch.keys() == {"image", "factors"} and batch["image"].shape == (2, 3, 6, 8)
    assert batch["factors"]["class"].dtype == torch.int64 and batch["factors"]["class"].tolist() == [[0, 2], [0, 1]]
    np.testing.assert_array_equal(batch["image"][0].movedim(0, -1), pixels.astype(np.float32) / np.float32(255))
    assert dataset[-1]["factors"]["class"].tolist() == [0, 2]


@pytest.mark.parametrize("options", [{"image_size": 4}, {"image_size": (5, 3), "crop": "center", "grayscale": True}])
def test_images_are_resized_as_in_image_folder(tmp_path, options):
    save(tmp_path / "a/1.png", (7, 9, 3))
    save(tmp_path / "b/2.png", (12, 5, 3))
    labelled, plain = ClassFolder(tmp_path, **options).batch([0, 1]), ImageFolder(tmp_path, **options).batch([0, 1])
    torch.testing.assert_close(labelled["image"], plain["image"], rtol=0, atol=0)


def test_the_eight_classes_of_gtsrb(tmp_path):
    for number in range(43):
        save(tmp_path / f"train/{number:05d}/{number}.png")
    dataset = ClassFolder(tmp_path, classes="GTSRB-8", split="train")
    assert [path.parent.name for path in dataset.paths] == [
        *("00003", "00007", "00009", "00011", "00017", "00018", "00025", "00035")
    ]
    assert dataset.labels == list(range(8)) and dataset.class_names == list(NAMED["gtsrb-8"])


def test_chosen_classes_keep_their_order_and_only_they_need_one_size(tmp_path):
    save(tmp_path / "cat/1.png")
    save(tmp_path / "dog/1.png")
    save(tmp_path / "0007/1.png", (3, 3, 3))
    dataset = ClassFolder(tmp_path, classes=("dog", "cat"))
    assert [path.parent.name for path in dataset.paths] == ["dog", "cat"]
    assert ClassFolder(tmp_path, classes=(7,)).paths == [tmp_path / "0007/1.png"]


def test_splits_by_name_are_disjoint_and_by_folder_as_they_are(tmp_path):
    for i in range(60):
        save(tmp_path / f"photos/{'ab'[i % 2]}/{i}.png")
    parts = [ClassFolder(tmp_path / "photos", split=split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 60 == len(set().union(*(part.paths for part in parts)))
    assert parts[0].splits == {"train": len(parts[0]), "val": len(parts[1]), "test": len(parts[2])}
    save(tmp_path / "divided/test/b/1.png")
    dataset = ClassFolder(tmp_path / "divided", split="test")
    assert dataset.class_names == ["b"] and dataset.splits == {"test": 1}
    with pytest.raises(InputError, match="has no subfolder 'train'; its splits are test"):
        ClassFolder(tmp_path / "divided", split="train")


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="image folder .*gone does not exist"):
        ClassFolder(tmp_path / "gone")
    save(tmp_path / "1.png")
    with pytest.raises(InputError, match="has images but no folders of them; expected one per class: CLASS/IMAGE"):
        ClassFolder(tmp_path)
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/2.png", (4, 9, 3))
    with pytest.raises(InputError, match=r"different sizes \(1.png is 6 x 8, 2.png 4 x 9\); set image_size"):
        ClassFolder(tmp_path)
    (tmp_path / "b/2.png").write_text("not an image")
    with pytest.raises(InputError, match="cannot read image .*2.png"):
        ClassFolder(tmp_path, image_size=4)[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ()}, "classes is an empty list; name at least one folder"),
        ({"classes": ("a", "c")}, "class c has no images in .*; its classes are a, b"),
        ({"classes": "gtsrb-8"}, "class 3 has no images in .*; its classes are a, b"),
        ({"classes": "signs"}, "there is no list of classes 'signs'; give gtsrb-8, or a list"),
        ({"classes": ("a", "b", "a")}, "class a is named twice"),
        ({"classes": ("7", "007")}, "class 7 is named twice"),
        ({"crop": "center"}, "use 'center' together with image_size, or None"),
        ({"image_size": 0}, "image_size is 0; give one number of pixels"),
    ],
)
def test_bad_options(tmp_path, options, message):
    save(tmp_path / "a/1.png")
    save(tmp_path / "b/2.png")
    with pytest.raises(InputError, match=message):
        ClassFolder(tmp_path, **options)
