import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import ImageFolder
from unscene.data.images import height_and_width
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path, **options)


def pixels(height=6, width=8):
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_images_in_natural_order(tmp_path):
    names = ["b/1.png", "img10.png", "img2.PNG", "img1.bmp"]
    images = {name: pixels() for name in names}
    for name, image in images.items():
        save(tmp_path / name, image)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / "._img2.png").write_text("the shadow that macOS leaves")
    save(tmp_path / ".thumbnails" / "img2.png", pixels())
    dataset = ImageFolder(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in dataset.paths] == [
        "b/1.png",
        "img1.bmp",
        "img2.PNG",
        "img10.png",
    ]
    batch = dataset.batch([0, 3])
    expected = np.stack([images["b/1.png"], images["img10.png"]]).astype(np.float32) / np.float32(255)
    assert batch["image"].shape == (2, 3, 6, 8) and "mask" not in batch
    np.testing.assert_array_equal(batch["image"].movedim(1, -1), expected)


def test_grayscale_and_gray_files(tmp_path):
    save(tmp_path / "a.png", pixels())
    save(tmp_path / "b.png", np.full((6, 8), 51))
    color, gray = ImageFolder(tmp_path), ImageFolder(tmp_path, grayscale=True)
    torch.testing.assert_close(gray[0]["image"], to_grayscale(color[0]["image"]))
    torch.testing.assert_close(color[1]["image"], torch.full((3, 6, 8), 0.2))


def test_exif_orientation_is_applied(tmp_path):
    image, exif = pixels(), Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to view
    save(tmp_path / "a.png", image, exif=exif)
    save(tmp_path / "b.png", pixels(8, 6))
    dataset = ImageFolder(tmp_path)
    np.testing.assert_array_equal((dataset[0]["image"] * 255).round().movedim(0, -1), np.rot90(image, -1))


def test_stretch_and_center_crop(tmp_path):
    columns = np.repeat([0, 255, 255, 0], 4)  # 4 x 16: the central 8 columns are white
    save(tmp_path / "images/a.png", np.tile(columns[:, None], (4, 1, 3)))
    save(tmp_path / "masks/a.png", np.tile(columns // 255, (4, 1)))
    folders = tmp_path / "images", tmp_path / "masks"
    stretched = ImageFolder(*folders, image_size=4)[0]
    assert stretched["image"].shape == (3, 4, 4) and stretched["mask"].tolist() == [[0, 1, 1, 0]] * 4
    cropped = ImageFolder(*folders, image_size=(4, 8), crop="center")[0]
    assert cropped["image"].shape == (3, 4, 8) and cropped["image"].min() == 1 and cropped["mask"].min() == 1
    smaller = ImageFolder(*folders, image_size=(2, 4), crop="center")[0]
    assert smaller["image"].shape == (3, 2, 4) and smaller["mask"].tolist() == [[1] * 4] * 2


def write_pair(tmp_path, mask, name="a.png"):
    save(tmp_path / "images" / "a.jpg", pixels())
    (tmp_path / "masks").mkdir(exist_ok=True)
    mask.save(tmp_path / "masks" / name)
    return ImageFolder(tmp_path / "images", tmp_path / "masks")


LABELS = RNG.integers(0, 4, (6, 8))


def test_palette_and_gray_masks_hold_ids(tmp_path):
    palette = Image.frombytes("P", (8, 6), LABELS.astype(np.uint8).tobytes())
    palette.putpalette([9, 9, 9, 250, 0, 0, 0, 250, 0, 9, 9, 9])
    for mask in (palette, Image.fromarray((LABELS * 60).astype(np.uint8))):
        label_map = write_pair(tmp_path, mask)[0]["mask"]
        assert label_map.dtype == torch.int64
        np.testing.assert_array_equal(label_map, LABELS * (60 if mask.mode == "L" else 1))


@pytest.mark.parametrize("first_id", [0, 1])
def test_colours_become_ids(tmp_path, first_id):
    colors = np.array([[0, 0, 0], [0, 0, 255], [0, 255, 0], [255, 0, 0]], dtype=np.uint8)
    labels = LABELS.clip(first_id)  # with and without black background
    mask = write_pair(tmp_path, Image.fromarray(colors[labels]))[0]["mask"]
    np.testing.assert_array_equal(mask, labels)


def test_masks_of_subfolders_and_other_extensions(tmp_path):
    save(tmp_path / "images/x/a.jpg", pixels())
    save(tmp_path / "masks/x/a.tif", np.ones((6, 8)))
    assert ImageFolder(tmp_path / "images", tmp_path / "masks")[0]["mask"].unique().tolist() == [1]


def test_splits_by_name_are_disjoint_and_stable(tmp_path):
    for i in range(60):
        save(tmp_path / f"{i}.png", np.zeros((2, 2, 3)))
    splits = {split: set(ImageFolder(tmp_path, split=split).paths) for split in ("train", "val", "test")}
    assert sum(map(len, splits.values())) == 60 and set.union(*splits.values()) == set(ImageFolder(tmp_path).paths)
    assert len(splits["train"]) > 36
    assert ImageFolder(tmp_path).splits == {split: len(paths) for split, paths in splits.items()}
    save(tmp_path / "another.png", np.zeros((2, 2, 3)))
    assert set(ImageFolder(tmp_path, split="train").paths) >= splits["train"]
    assert set(ImageFolder(tmp_path, split="test").paths) >= splits["test"]


def test_a_subfolder_is_the_split(tmp_path):
    save(tmp_path / "images/train/a.png", pixels())
    save(tmp_path / "images/test/b.png", pixels())
    save(tmp_path / "masks/test/b.png", np.ones((6, 8)))
    dataset = ImageFolder(tmp_path / "images", tmp_path / "masks", split="test")
    assert [path.name for path in dataset.paths] == ["b.png"] and dataset[0]["mask"].min() == 1
    assert dataset.splits == {"train": 1, "test": 1}
    with pytest.raises(InputError, match="has no subfolder 'val'; its splits are train, test"):  # not 10 % of both
        ImageFolder(tmp_path / "images", split="val")


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="image folder .*gone does not exist"):
        ImageFolder(tmp_path / "gone")
    with pytest.raises(InputError, match=r"folder .* has no images \(.bmp, .gif, .jpeg"):
        ImageFolder(tmp_path)
    save(tmp_path / "a.png", pixels())
    save(tmp_path / "b.png", pixels(4, 9))
    with pytest.raises(InputError, match=r"different sizes \(a.png is 6 x 8, b.png 4 x 9\); set image_size"):
        ImageFolder(tmp_path)
    with pytest.raises(InputError, match="no subfolder 'holdout'; by name it splits into train, val, test"):
        ImageFolder(tmp_path, image_size=4, split="holdout")
    with pytest.raises(InputError, match="none of the 2 images in .* fall into the 'val' split; use .*--split null"):
        ImageFolder(tmp_path, image_size=4, split="val")


@pytest.mark.parametrize("options", [{"crop": "center"}, {"crop": "left", "image_size": 4}])
def test_bad_crop(tmp_path, options):
    with pytest.raises(InputError, match="use 'center' together with image_size, or None"):
        ImageFolder(tmp_path, **options)


def test_unreadable_images_are_named(tmp_path):
    save(tmp_path / "a.png", pixels(40, 40))
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    dataset = ImageFolder(tmp_path)
    with pytest.raises(InputError, match="cannot read image .*cut.png"):
        dataset[1]
    (tmp_path / "text.png").write_text("not a PNG")
    with pytest.raises(InputError, match="cannot read image .*text.png"):
        ImageFolder(tmp_path)


def test_sixteen_bit_images_keep_their_range(tmp_path):
    Image.fromarray(np.array([[0, 257, 32896, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    torch.testing.assert_close(ImageFolder(tmp_path)[0]["image"][0] * 255, torch.tensor([[0.0, 1, 128, 255]]))


def test_images_of_floating_point_numbers_are_refused(tmp_path):
    Image.new("F", (4, 4)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="a.tif: its pixels are floating-point numbers; save it with 8 or 16 bits"):
        ImageFolder(tmp_path)[0]


@pytest.mark.parametrize("size", [0, (4, -1), (4, 4, 3)])
def test_impossible_sizes_are_refused(tmp_path, size):
    with pytest.raises(InputError, match="image_size is .*; give one number of pixels, or height and width"):
        height_and_width(size)


def test_masks_that_do_not_match(tmp_path):
    dataset = write_pair(tmp_path, Image.new("L", (5, 3)))
    with pytest.raises(InputError, match="mask .*a.png is 3 x 5 but image .*a.jpg is 6 x 8"):
        dataset[0]
    save(tmp_path / "images/b.jpg", pixels())
    with pytest.raises(InputError, match="1 of 2 images have no mask in .*masks, the first is b"):
        ImageFolder(tmp_path / "images", tmp_path / "masks")
