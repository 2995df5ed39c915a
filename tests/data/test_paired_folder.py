import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import ImageFolder, PairedFolder, open_dataset
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)


def write_pair(root, number, mask, size=(6, 8)):
    save(root / f"images/horse{number}.jpg", RNG.integers(0, 256, (*size, 3)))
    save(root / f"masks/mask-{number}.png", mask)


HALF = np.repeat([[0] * 4 + [1] * 4], 6, axis=0)


@pytest.mark.parametrize("values", [(0, 255), (0, 1), (3, 252)])
def test_foreground_is_one(tmp_path, values):
    write_pair(tmp_path, 1, np.take(values, HALF))
    scene = PairedFolder(tmp_path)[0]
    assert scene["mask"].dtype == torch.int64 and scene["mask"].tolist() == HALF.tolist()
    assert scene["visibility"].tolist() == [True, True]


def test_masks_without_foreground_or_background(tmp_path):
    write_pair(tmp_path, 1, 0 * HALF)
    write_pair(tmp_path, 2, 0 * HALF + 255)
    batch = PairedFolder(tmp_path).batch([0, 1])
    assert not batch["mask"][0].any() and batch["mask"][1].all()
    assert batch["visibility"].tolist() == [[True, False], [False, True]]


def test_pairs_are_in_natural_order_also_within_splits(tmp_path):
    for number in range(1, 31):
        columns = np.arange(40) < number
        write_pair(tmp_path, number, np.repeat([255 * columns], 4, axis=0), (4, 40))
    sizes = {}
    for split in ("train", "val", "test"):
        dataset = PairedFolder(tmp_path, split=split)
        sizes[split] = len(dataset)
        for path, scene in zip(dataset.paths, dataset, strict=False):
            assert scene["mask"][0].sum() == int(path.stem.removeprefix("horse"))
    assert sum(sizes.values()) == 30 and dataset.splits == sizes
    assert len(PairedFolder(tmp_path)) == 30


def test_images_are_resized_bilinear_and_masks_to_the_nearest_pixel(tmp_path):
    write_pair(tmp_path, 1, 255 * (np.arange(48).reshape(6, 8) % 8 < 3))
    scene = PairedFolder(tmp_path, image_size=4)[0]
    assert scene["mask"].tolist() == [[1, 0, 0, 0]] * 4  # columns 1, 3, 5 and 7
    expected = ImageFolder(tmp_path / "images", image_size=4)[0]["image"]
    torch.testing.assert_close(scene["image"], expected, rtol=0, atol=0)


def test_it_opens_where_there_are_images_and_masks(tmp_path):
    write_pair(tmp_path, 1, 255 * HALF)
    assert type(open_dataset(tmp_path, None, image_size=4)) is PairedFolder
    save(tmp_path / "labels/horse1.png", HALF)
    dataset = open_dataset(tmp_path / "images", None, mask_root=str(tmp_path / "labels"))
    assert type(dataset) is ImageFolder and dataset[0]["mask"].max() == 1


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="image folder .*images does not exist"):
        PairedFolder(tmp_path)
    write_pair(tmp_path, 1, 255 * HALF)
    save(tmp_path / "images/horse2.jpg", np.zeros((6, 8, 3)))
    with pytest.raises(InputError, match=r"images has 2 images but .*masks has 1 masks .*; every image needs one"):
        PairedFolder(tmp_path)
    save(tmp_path / "masks/mask-2.png", np.zeros((5, 8)))
    with pytest.raises(InputError, match="mask .*mask-2.png is 5 x 8 but image .*horse2.jpg is 6 x 8"):
        PairedFolder(tmp_path)[1]
    with pytest.raises(InputError, match="image folder .*segments does not exist"):
        PairedFolder(tmp_path, masks="segments")


def test_masks_of_several_objects_are_refused(tmp_path):
    write_pair(tmp_path, 1, HALF + 3 * HALF.cumsum(0) // 3)
    with pytest.raises(
        InputError, match=r"mask .*mask-1.png has the ids \[0, .*\], of several objects; open the images"
    ):
        PairedFolder(tmp_path)[0]
