import pickle

import numpy as np
import pytest
import torch
from scipy.io import savemat

from unscene.data import SVHN, open_dataset
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError

RNG = np.random.default_rng(0)


def write(path, count=4, labels=None, pixels=None):
    """A file as they are published: images on the last axis, labels (S, 1) from 1 to 10."""
    pixels = RNG.integers(0, 256, (32, 32, 3, count), dtype=np.uint8) if pixels is None else pixels
    labels = np.arange(count) % 10 + 1 if labels is None else np.array(labels)
    savemat(path, {"X": pixels, "y": labels[:, None].astype(np.uint8)}, do_compression=True)
    return pixels


def test_images_and_digits(tmp_path):
    pixels = write(tmp_path / "train_32x32.mat", 10)
    dataset = SVHN(tmp_path, "train")
    batch = dataset.batch([9, 0, 1])
    expected = np.stack([pixels[..., i] for i in (9, 0, 1)]).astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(batch["image"].movedim(1, -1), expected)
    # 10 means the digit 0, whose class is 1
    assert batch["factors"]["class"].tolist() == [[0, 1], [0, 2], [0, 3]]
    gray = SVHN(tmp_path, "train", grayscale=True).batch([9, 0, 1])["image"]
    torch.testing.assert_close(gray, to_grayscale(batch["image"]))


def test_splits_are_joined(tmp_path):
    parts = [write(tmp_path / f"{name}_32x32.mat", count) for name, count in (("train", 3), ("test", 2), ("extra", 4))]
    together = np.concatenate(parts, axis=3).transpose(3, 2, 0, 1).astype(np.float32) / np.float32(255)
    everything = pickle.loads(pickle.dumps(SVHN(tmp_path, "train+test+extra")))
    np.testing.assert_array_equal(everything.batch(range(9))["image"], together)
    np.testing.assert_array_equal(everything.batch([5, 2, 3])["image"], together[[5, 2, 3]])
    assert len(SVHN(tmp_path)) == 5 and len(SVHN(tmp_path, "extra")) == 4
    assert everything[4]["factors"]["class"].tolist() == [0, 3]


def test_it_opens_by_its_names(tmp_path):
    write(tmp_path / "test_32x32.mat", 2)
    write(tmp_path / "mine.mat", 3)
    assert type(open_dataset(tmp_path)) is SVHN and len(open_dataset(tmp_path)) == 2
    assert len(open_dataset(tmp_path / "mine.mat", grayscale=True)) == 3


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("val", r"SVHN has no split 'val'; choose of train, test, extra, or several as train\+extra"),
        ("train+train", r"split 'train\+train' names a part twice"),
        ("train+extra", "SVHN file .*extra_32x32.mat does not exist; get it, or choose another split"),
    ],
)
def test_bad_splits(tmp_path, split, message):
    write(tmp_path / "train_32x32.mat")
    with pytest.raises(InputError, match=message):
        SVHN(tmp_path, split)


@pytest.mark.parametrize("keep", [0, 100, 200, 3000])
def test_truncated_files(tmp_path, keep):
    path = tmp_path / "train_32x32.mat"
    write(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="train_32x32.mat"):
        SVHN(tmp_path, "train")


def test_foreign_files(tmp_path):
    path = tmp_path / "a.mat"
    path.write_text("not a MATLAB file, though it is long enough to hold the header of one" * 4)
    with pytest.raises(InputError, match="cannot read .*a.mat: .*; it is no MATLAB file or damaged"):
        SVHN(path)
    savemat(path, {"X": np.zeros((32, 32, 3, 2), np.uint8)})
    with pytest.raises(InputError, match="a.mat has no y; a file of SVHN has images X and labels y"):
        SVHN(path)
    write(path, labels=[1, 2, 11])
    with pytest.raises(InputError, match="has X of uint8 .32, 32, 3, 4. and 3 labels"):
        SVHN(path)
    write(path, pixels=np.zeros((32, 32, 1, 4), np.uint8))
    with pytest.raises(InputError, match="has X of uint8 .32, 32, 1, 4."):
        SVHN(path)


@pytest.mark.parametrize("labels", [[1, 2, 3, 11], [0, 1, 2, 3]])
def test_labels_out_of_range(tmp_path, labels):
    write(tmp_path / "a.mat", labels=labels)
    message = f"has labels from {min(labels)} to {max(labels)}; SVHN's are 1 to 9, and 10 for the digit 0"
    with pytest.raises(InputError, match=message):
        SVHN(tmp_path / "a.mat")
