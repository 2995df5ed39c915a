"""The layout of DTI-Sprites' data: read from files made by hand, and written and read again."""

import numpy as np
import pytest
import torch
from PIL import Image

from unscene.cli import main
from unscene.data import (
    MultiDSprites,
    SceneDataset,
    Shapes,
    SpriteFolder,
    Tetrominoes,
    open_dataset,
    save_sprite_folder,
)
from unscene.data.orbit import OrbitScenes
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, dtype=np.uint8)).save(path)


def write_scene(root, name, mask, classes=None, image=None):
    mask = np.asarray(mask)
    save(root / f"images/{name}.png", RNG.integers(0, 256, (*mask.shape, 3)) if image is None else image)
    save(root / f"masks/{name}.png", mask)
    if classes is not None:
        save(root / f"sem_masks/{name}.png", np.asarray(classes)[mask])


MASK = np.array([[0, 1, 1], [0, 3, 3]])


def test_instances_and_classes(tmp_path):
    image = RNG.integers(0, 256, (2, 3, 3), dtype=np.uint8)
    write_scene(tmp_path, 10, MASK, [0, 5, 7, 2], image)
    write_scene(tmp_path, 9, 0 * MASK, [0])
    batch = SpriteFolder(tmp_path).batch([1, 0])  # 9 comes before 10
    np.testing.assert_array_equal(batch["image"][0].movedim(0, -1), image.astype(np.float32) / np.float32(255))
    assert batch["mask"].dtype == torch.uint8 and batch["mask"].tolist() == [MASK.tolist(), (0 * MASK).tolist()]
    assert batch["factors"]["class"].dtype == torch.int64
    assert batch["factors"]["class"].tolist() == [[0, 5, 0, 2], [0, 0, 0, 0]]
    assert batch["visibility"].tolist() == [[True, True, False, True], [True, False, False, False]]


def test_max_id_saves_the_search(tmp_path):
    write_scene(tmp_path, 0, MASK, [0, 1, 1, 1])
    assert SpriteFolder(tmp_path, max_id=6)[0]["factors"]["class"].tolist() == [0, 1, 0, 1, 0, 0, 0]
    with pytest.raises(InputError, match="mask of .*0.png has the id 3, above max_id 2"):
        SpriteFolder(tmp_path, max_id=2)[0]
    with pytest.raises(InputError, match="max_id is 0; it is the largest id of an object"):
        SpriteFolder(tmp_path, max_id=0)


def test_without_sem_masks_there_are_no_classes(tmp_path):
    write_scene(tmp_path, 0, MASK)
    assert SpriteFolder(tmp_path)[0].keys() == {"image", "mask", "visibility"}


def test_grayscale(tmp_path):
    write_scene(tmp_path, 0, MASK, image=np.full((2, 3), 51))
    torch.testing.assert_close(SpriteFolder(tmp_path)[0]["image"], torch.full((1, 2, 3), 0.2))
    write_scene(tmp_path, 0, MASK, image=np.full((2, 3, 3), (255, 0, 0)))
    torch.testing.assert_close(SpriteFolder(tmp_path, grayscale=True)[0]["image"], torch.full((1, 2, 3), 0.299))


def test_splits_of_one_folder(tmp_path):
    for i in range(650):
        for kind in ("images", "masks"):
            save(tmp_path / kind / f"{i}.png", [[i % 2]])

    def numbers(split, **options):
        return [int(path.stem) for path in SpriteFolder(tmp_path, split, max_id=1, **options).paths]

    assert numbers("test") == list(range(320)) and numbers("val") == list(range(320, 640))
    assert numbers("train") == numbers(None) == list(range(650))
    assert numbers("train", holdout=True) == list(range(640, 650))
    assert SpriteFolder(tmp_path, max_id=1).splits == {"train": 650, "val": 320, "test": 320}
    assert SpriteFolder(tmp_path, holdout=True, max_id=1).splits == {"train": 10, "val": 320, "test": 320}
    with pytest.raises(InputError, match="has no split 'dev'; choose one of train, val, test, or None"):
        numbers("dev")


def test_too_few_images_for_a_split(tmp_path):
    write_scene(tmp_path, 0, MASK)
    for options in ({"split": "val"}, {"split": "train", "holdout": True}):
        with pytest.raises(InputError, match="the 1 images of .* are too few for a split '"):
            SpriteFolder(tmp_path, **options)


@pytest.mark.parametrize(
    "dataset",
    [Tetrominoes(9), MultiDSprites(70), MultiDSprites(9, variant="binarized"), Shapes(9)],
    ids=["Tetrominoes", "MultiDSprites", "binarized", "Shapes"],
)
def test_a_round_trip_gives_the_same_scenes(tmp_path, dataset):
    calls = []
    codes = save_sprite_folder({"train": dataset}, tmp_path / "out", progress=lambda *state: calls.append(state))
    read = SpriteFolder(tmp_path / "out")
    written, again = dataset.batch(range(len(dataset))), read.batch(range(len(dataset)))
    assert len(read) == len(dataset) and calls[-1] == ("train", len(dataset), len(dataset))
    torch.testing.assert_close(again["image"], written["image"], rtol=0, atol=0.5 / 255 + 1e-7)
    assert torch.equal(again["mask"], written["mask"])
    num_ids = again["visibility"].shape[1]
    assert torch.equal(again["visibility"], written["visibility"][:, :num_ids])
    assert not written["visibility"][:, num_ids:].any()
    shape = torch.tensor([(0,), *codes])[:, 0][again["factors"]["class"]]
    assert torch.equal(shape, (written["factors"]["shape"] * written["visibility"])[:, :num_ids])
    second = tmp_path / "second"
    assert len(save_sprite_folder({"train": read}, second, ("class",))) == len(codes)
    for path in (tmp_path / "out").rglob("*.png"):
        assert (second / path.relative_to(tmp_path / "out")).read_bytes() == path.read_bytes()


class TwoFactors(SceneDataset):
    """Two pixels, each an object, of the given (shape, material); the third object is hidden."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def __len__(self):
        return len(self.pairs)

    def batch(self, indices):
        values = torch.tensor([[(0, 0), *self.pairs[i], (9, 9)] for i in indices])
        return {
            "image": torch.zeros(len(indices), 3, 1, 2),
            "mask": torch.tensor([[[1, 2]]]).expand(len(indices), 1, 2),
            "factors": {"shape": values[..., 0], "material": values[..., 1], "mass": values[..., 0].float()},
        }


def test_several_factors_make_a_class_and_splits_share_them(tmp_path):
    train, test = TwoFactors(((2, 1), (1, 2))), TwoFactors(((1, 1), (2, 1)), ((1, 2), (1, 2)))
    codes = save_sprite_folder({"train": train, "test": test}, tmp_path / "out", ("shape", "material"))
    assert codes == [(1, 1), (1, 2), (2, 1)]  # what only hidden objects have is left out
    read = {split: SpriteFolder(tmp_path / "out", split) for split in ("train", "test")}
    assert read["train"][0]["factors"]["class"].tolist() == [0, 3, 2]
    assert read["test"].batch([0, 1])["factors"]["class"].tolist() == [[0, 1, 3], [0, 2, 2]]
    assert read["test"].splits == {"train": 1, "test": 2}
    with pytest.raises(InputError, match="has no split 'val'; its splits are train, test"):
        SpriteFolder(tmp_path / "out", "val")
    with pytest.raises(InputError, match="holds the splits train, test; choose one of them"):
        SpriteFolder(tmp_path / "out")


@pytest.mark.parametrize(
    ("dataset", "classes", "message"),
    [
        (Tetrominoes(2), ("color",), "Tetrominoes has no factor 'color' with categories, .*; it has shape"),
        (TwoFactors(((1, 1), (2, 2))), ("mass",), "has no factor 'mass' with categories, .*; it has shape, material"),
        (Tetrominoes(2), (), "name at least one factor whose values are the classes: shape"),
        (OrbitScenes(1), ("shape",), "OrbitScenes does not hold single images; only images with masks"),
    ],
)
def test_what_cannot_be_written(tmp_path, dataset, classes, message):
    with pytest.raises(InputError, match=message):
        save_sprite_folder({"train": dataset}, tmp_path / "out", classes)
    assert list(tmp_path.iterdir()) == []


def test_images_without_masks_cannot_be_written(tmp_path):
    save(tmp_path / "photos/a.png", np.zeros((2, 2, 3)))
    with pytest.raises(InputError, match="ImageFolder has no label maps; only images with masks"):
        save_sprite_folder({"all": open_dataset(tmp_path / "photos", None)}, tmp_path / "out")
    with pytest.raises(InputError, match="nothing to write to .*out: there is no split, or an empty one"):
        save_sprite_folder({}, tmp_path / "out")


def test_nothing_is_overwritten(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/precious.txt").write_text("mine")
    with pytest.raises(InputError, match="out is there already; name a new or empty folder"):
        save_sprite_folder({"train": Tetrominoes(2)}, tmp_path / "out")


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="image folder .*images does not exist"):
        SpriteFolder(tmp_path / "gone")
    write_scene(tmp_path, 0, MASK, [0, 1, 1, 1])
    save(tmp_path / "images/1.png", np.zeros((2, 3, 3)))
    with pytest.raises(InputError, match="1 of 2 images have no mask in .*masks, the first is 1.png"):
        SpriteFolder(tmp_path)
    save(tmp_path / "masks/1.png", np.zeros((2, 3)))
    with pytest.raises(InputError, match="1 of 2 images have no mask in .*sem_masks, the first is 1.png"):
        SpriteFolder(tmp_path)


@pytest.mark.parametrize(
    ("kind", "array", "message"),
    [
        ("images", np.zeros((4, 3, 3)), "images/1.png is 4 x 3 but the first image is 2 x 3; all must have one size"),
        ("masks", np.zeros((5, 3)), "masks/1.png is 5 x 3 but the first image is 2 x 3"),
        ("masks", np.zeros((2, 3, 3)), "mask .*masks/1.png is of mode RGB; it must be gray of 8 bits"),
        ("sem_masks", MASK + 1, "sem_masks and masks of .*1.png do not fit: every object must have one class"),
        ("sem_masks", MASK * 0, "sem_masks and masks of .*1.png do not fit"),
        ("sem_masks", [[0, 1, 2], [0, 1, 1]], "sem_masks and masks of .*1.png do not fit"),
    ],
)
def test_files_that_do_not_fit(tmp_path, kind, array, message):
    for name in (0, 1):
        write_scene(tmp_path, name, MASK, [0, 1, 1, 1])
    save(tmp_path / kind / "1.png", array)
    with pytest.raises(InputError, match=message):
        SpriteFolder(tmp_path)[1]


def test_damaged_files_are_named(tmp_path):
    write_scene(tmp_path, 0, MASK)
    (tmp_path / "masks/0.png").write_text("not an image")
    with pytest.raises(InputError, match="cannot read image .*masks/0.png"):
        SpriteFolder(tmp_path)


def test_commands(tmp_path, capsys):
    out, options = str(tmp_path / "sprites"), ["--layout", "sprites", "--options.num_scenes", "4"]
    assert main(["data", "convert", "shapes", out, *options, "--splits", "train"]) == 0
    assert capsys.readouterr().out == f"3 classes of shape: 1, 2, 3\n{out}\n"
    assert type(open_dataset(out, None)) is SpriteFolder
    assert main(["data", "inspect", out, "--split", "null"]) == 0
    assert "SpriteFolder" in capsys.readouterr().out
    assert main(["data", "convert", out, str(tmp_path / "a.h5"), "--splits", "test"]) == 0
    again = open_dataset(tmp_path / "a.h5")
    assert torch.equal(again[3]["mask"], open_dataset(out)[3]["mask"])
    assert main(["data", "convert", "shapes", out, *options]) == 2
    assert "is there already" in capsys.readouterr().err
