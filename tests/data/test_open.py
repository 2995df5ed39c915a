import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unscene.data import HDF5Scenes, ImageFolder, MultiDSprites, Shapes, Tetrominoes, open_dataset, save_hdf5
from unscene.data.multi_object import LAYOUTS
from unscene.errors import InputError


@pytest.mark.parametrize(
    ("source", "kind"), [("tetrominoes", Tetrominoes), ("multi_dsprites", MultiDSprites), ("shapes", Shapes)]
)
def test_generators(source, kind):
    train, val, test = (open_dataset(source, split) for split in ("train", "val", "test"))
    assert [len(train), len(val), len(test)] == [60_000, 320, 320]
    assert all(type(dataset) is kind for dataset in (train, val, test))
    assert not torch.equal(train[0]["image"], test[0]["image"])
    assert torch.equal(open_dataset(source, None)[7]["image"], test[7]["image"])


def test_generator_options():
    dataset = open_dataset("multi_dsprites/binarized", num_scenes=3, seed=5)
    assert len(dataset) == 3
    expected = MultiDSprites(3, seed=5, split="test", variant="binarized")
    assert torch.equal(dataset[2]["image"], expected[2]["image"])


def test_whole_numbers_do_for_any_number():
    scene = open_dataset("orbit", views=2, image_size=8, arc=180)[0]
    torch.testing.assert_close(scene["viewpoint"][1], torch.tensor([-1.0, 1.0, 0.0]), atol=1e-4, rtol=0)


def test_hdf5(tmp_path):
    for name in ("a.h5", "a.hdf5"):
        save_hdf5({"test": Tetrominoes(2)}, tmp_path / name)
        dataset = open_dataset(tmp_path / name)
        assert type(dataset) is HDF5Scenes and len(dataset) == 2
        assert open_dataset(str(tmp_path / name), None, grayscale=True)[0]["image"].shape == (1, 35, 35)


def test_image_folder(tmp_path):
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(tmp_path / "a.png")
    dataset = open_dataset(tmp_path, None, image_size=5)
    assert type(dataset) is ImageFolder and dataset[0]["image"].shape == (3, 5, 5)


OFFICIAL_NAMES = {
    "tetrominoes_train.tfrecords": "tetrominoes",
    "multi_dsprites_binarized.tfrecords": "multi_dsprites/binarized",
    "multi_dsprites_colored_on_grayscale.tfrecords": "multi_dsprites/colored_on_grayscale",
    "multi_dsprites_colored_on_colored.tfrecords": "multi_dsprites/colored_on_colored",
    "clevr_with_masks_train.tfrecords": "clevr_with_masks",
    "objects_room_train.tfrecords": "objects_room/train",
    "objects_room_test_empty_room.tfrecords": "objects_room/empty_room",
    "objects_room_test_six_objects.tfrecords": "objects_room/six_objects",
    "objects_room_test_identical_color.tfrecords": "objects_room/identical_color",
    "cater_with_masks_test.tfrecords-00000-of-00100": "cater_with_masks",
}


@pytest.mark.parametrize("file_name", OFFICIAL_NAMES)
@pytest.mark.parametrize("as_folder", [False, True])
def test_official_names_tell_the_kind(tmp_path, tfrecord, file_name, as_folder):
    path = tfrecord.write(tmp_path / file_name, [tfrecord.encode_example({})])
    with pytest.raises(InputError, match=f"does not hold {OFFICIAL_NAMES[file_name]}: in record 0"):
        open_dataset(tmp_path if as_folder else path, "test")


def test_other_names_need_the_kind(tmp_path, tfrecord):
    path = tfrecord.write(tmp_path / "mine.tfrecords", [tfrecord.encode_example({})])
    with pytest.raises(InputError, match="the name mine.tfrecords does not tell its data set; set kind"):
        open_dataset(path)
    with pytest.raises(InputError, match="does not hold multi_dsprites/binarized"):
        open_dataset(path, None, kind="multi_dsprites", variant="binarized")


def test_every_official_kind_is_guessed():
    assert set(OFFICIAL_NAMES.values()) == LAYOUTS.keys()


@pytest.mark.parametrize("source", ["tetris", "gone.png", "no/such/folder"])
def test_anything_else_lists_what_is_accepted(source):
    message = f"cannot open '{source}'; expected a generator .tetrominoes, multi_dsprites, shapes.* a .tfrecords file"
    with pytest.raises(InputError, match=message):
        open_dataset(source)


@pytest.mark.parametrize("source", ["gone.h5", "gone_tetrominoes.tfrecords"])
def test_a_missing_file_is_said_to_be_missing(source):
    with pytest.raises(InputError, match=f"{source} does not exist|there is no TFRecord file at {source}"):
        open_dataset(source)


def test_unknown_options_are_named():
    with pytest.raises(InputError, match="Shapes has no option 'variant'; its options are num_scenes, seed, split"):
        open_dataset("shapes/binarized")
    with pytest.raises(InputError, match="Tetrominoes has no option 'num_scene'; its options are num_scenes"):
        open_dataset("tetrominoes", num_scene=4)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ("shapes", {"num_scenes": "many"}, "option num_scenes of Shapes is 'many'; it must be int$"),
        (".", {"image_size": "abc"}, "option image_size of ImageFolder is 'abc'; it must be int . tuple"),
        (".", {"image_size": 0}, "image_size is 0; give one number of pixels"),
        (".", {"image_size": [4, 0]}, "image_size is .4, 0.; give one number of pixels"),
        (".", {"crop": 3}, "option crop of ImageFolder is 3; it must be str . None"),
        ("a.tfrecords", {"kind": "tetrominoes", "limit": "all"}, "option limit of TFRecordScenes is 'all'"),
    ],
)
def test_options_of_another_type_are_named(source, options, message):
    with pytest.raises(InputError, match=message):
        open_dataset(source, **options)


def test_h5py_is_imported_only_when_needed():
    code = "import sys, unscene.data; print('h5py' in sys.modules, unscene.data.HDF5Scenes.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "HDF5Scenes"]
