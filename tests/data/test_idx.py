import gzip
import struct

import numpy as np
import pytest

from unscene.data import IDXScenes, open_dataset
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def write(path, array, kind=8):
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, kind, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_set(folder, train=5, test=3, ending=".gz", dot="-", prefix="", size=(6, 4)):
    arrays = {}
    for name, count in (("train", train), ("t10k", test)):
        arrays[name] = RNG.integers(0, 256, (count, *size), dtype=np.uint8)
        write(folder / f"{prefix}{name}-images{dot}idx3-ubyte{ending}", arrays[name])
        write(folder / f"{prefix}{name}-labels{dot}idx1-ubyte{ending}", np.arange(count, dtype=np.uint8) * 2)
    return arrays


@pytest.mark.parametrize(("ending", "dot", "prefix"), [(".gz", "-", ""), ("", ".", ""), (".gz", "-", "emnist-digits-")])
def test_images_and_labels(tmp_path, ending, dot, prefix):
    arrays = write_set(tmp_path, ending=ending, dot=dot, prefix=prefix)
    train, test, both = (IDXScenes(tmp_path, split) for split in ("train", "test", None))
    batch = train.batch([4, 1])
    assert batch["image"].shape == (2, 1, 6, 4)
    np.testing.assert_array_equal(batch["image"][:, 0], arrays["train"][[4, 1]].astype(np.float32) / np.float32(255))
    assert batch["factors"]["class"].tolist() == [[0, 9], [0, 3]]
    assert len(both) == 8 and train.splits == {"train": 5, "test": 3}
    np.testing.assert_array_equal(both[6]["image"], test[1]["image"])
    assert both[6]["factors"]["class"].tolist() == [0, 3]


def test_without_labels_there_are_no_factors(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 3, 3), np.uint8))
    assert IDXScenes(tmp_path)[0].keys() == {"image"}


def test_it_opens_by_its_names(tmp_path):
    write_set(tmp_path)
    assert type(open_dataset(tmp_path)) is IDXScenes
    assert len(open_dataset(tmp_path)) == 3 and len(open_dataset(tmp_path, None)) == 8


def test_bad_folders(tmp_path):
    with pytest.raises(InputError, match="folder .*gone does not exist; name the one with the idx files"):
        IDXScenes(tmp_path / "gone")
    with pytest.raises(InputError, match="has no idx files; expected such as train-images-idx3-ubyte.gz"):
        IDXScenes(tmp_path)
    write(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match="has no idx files of the split 'test', only of train"):
        IDXScenes(tmp_path, "test")
    write(tmp_path / "t10k-images-idx3-ubyte", np.zeros((2, 5, 3), np.uint8))
    with pytest.raises(InputError, match="images of the splits in .* are 3 x 3 and 5 x 3; open one split at a time"):
        IDXScenes(tmp_path)
    write(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((2, 3, 3), np.uint8))
    with pytest.raises(InputError, match="has train-images-idx3-ubyte and train-images-idx3-ubyte.gz; keep one"):
        IDXScenes(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing instead of 00000803: no idx file of images"),
        (struct.pack(">4BI", 0, 0, 8, 1, 4) + b"abcd", "begins with 00000801 instead of 00000803"),
        (struct.pack(">4B3I", 0, 0, 13, 3, 1, 1, 1) + b"abcd", "begins with 00000d03 instead of 00000803"),
        (struct.pack(">4B2I", 0, 0, 8, 3, 1, 1), "begins with 00000803"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 2, 2, 2) + b"abc", r"holds 3 bytes where its header says \(2, 2, 2\)"),
        (struct.pack(">4B3I", 0, 0, 8, 3, 1, 1, 2) + b"abc", r"holds 3 bytes where its header says \(1, 1, 2\)"),
    ],
)
def test_damaged_and_foreign_files(tmp_path, content, message):
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    with pytest.raises(InputError, match=message):
        IDXScenes(tmp_path)


@pytest.mark.parametrize("keep", [0, 5, 60])
def test_truncated_gzip_files(tmp_path, keep):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    write(path, RNG.integers(0, 256, (4, 8, 8), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz"):
        IDXScenes(tmp_path)


def test_a_plain_file_called_gz(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"plain text")
    with pytest.raises(InputError, match="cannot read .*gz: .*; it is damaged or no gzip file, get it again"):
        IDXScenes(tmp_path)


def test_another_number_of_labels(tmp_path):
    write(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 3, 3), np.uint8))
    write(tmp_path / "train-labels-idx1-ubyte", np.zeros(3, np.uint8))
    with pytest.raises(InputError, match="train-labels-idx1-ubyte has 3 labels for 2 images"):
        IDXScenes(tmp_path)
