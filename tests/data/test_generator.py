"""What holds for every generator: purity of the samples, independent streams, consistent labels."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats

from unscene.data.generator import Draws
from unscene.data.multi_dsprites import MultiDSprites
from unscene.data.shapes import Shapes
from unscene.data.tetrominoes import Tetrominoes
from unscene.errors import InputError

VARIANTS = ("binarized", "colored_on_grayscale", "colored_on_colored")
GENERATORS = [Tetrominoes, Shapes, *(partial(MultiDSprites, variant=variant) for variant in VARIANTS)]
every_generator = pytest.mark.parametrize("generator", GENERATORS, ids=["Tetrominoes", "Shapes", *VARIANTS])


def leaves(scenes):
    return {name: value for name, value in scenes.items() if name != "factors"} | scenes["factors"]


@every_generator
def test_a_scene_does_not_depend_on_its_batch(generator):
    order = [31, 2, 17, 2, 0, 9, 26]
    dataset = generator(32)
    whole, permuted = leaves(dataset.batch(range(32))), leaves(dataset.batch(order))
    elsewhere = leaves(pickle.loads(pickle.dumps(generator(1000))).batch(order))
    for name, value in whole.items():
        assert torch.equal(permuted[name], value[order]), name
        assert torch.equal(elsewhere[name], value[order]), name
        for i in order:
            assert torch.equal(leaves(dataset[i])[name], value[i]), name


@every_generator
def test_splits_and_seeds_share_no_scene(generator):
    streams = [generator(100, split=split) for split in ("train", "val", "test")] + [generator(100, seed=1)]
    images = {image.numpy().tobytes() for stream in streams for image in stream.batch(range(100))["image"]}
    assert len(images) == 400


@every_generator
def test_labels_describe_the_label_map(generator):
    scenes = generator(64).batch(range(64))
    visibility = scenes["visibility"]
    num_entities = visibility.shape[1]
    assert visibility.dtype == torch.bool and scenes["mask"].dtype == torch.uint8
    assert scenes["mask"].shape == (64, *scenes["image"].shape[2:])
    assert "visibility" not in scenes["factors"]  # as in the files that are read
    for mask, visible in zip(scenes["mask"], visibility, strict=True):
        assert set(np.unique(mask.numpy())) == {i for i in range(num_entities) if visible[i]}
    for name in ("x", "y", "shape"):
        assert scenes["factors"][name].shape == (64, num_entities)
        assert not scenes["factors"][name][:, 0].any()


@every_generator
def test_bad_arguments_are_refused(generator):
    with pytest.raises(InputError, match="num_scenes is 0; ask for at least 1 scene"):
        generator(0)
    with pytest.raises(InputError, match="unknown split 'dev'; choose one of train, val, test"):
        generator(1, split="dev")


def test_length_and_index():
    dataset = Tetrominoes(5)
    assert len(dataset) == 5
    assert torch.equal(dataset[-1]["image"], dataset[4]["image"])
    with pytest.raises(IndexError):
        dataset[5]


@pytest.mark.parametrize("generator", [Tetrominoes, MultiDSprites])
def test_grayscale_is_the_luma_of_the_same_scene(generator):
    color, gray = (leaves(generator(8, grayscale=switch).batch(range(8))) for switch in (False, True))
    red, green, blue = color.pop("image").unbind(1)
    expected = 0.299 * red + 0.587 * green + 0.114 * blue
    torch.testing.assert_close(gray.pop("image"), expected[:, None])
    assert all(torch.equal(gray[name], color[name]) for name in color)


def test_grayscale_leaves_one_channel_alone():
    plain, gray = (MultiDSprites(8, variant="binarized", grayscale=switch) for switch in (False, True))
    assert torch.equal(plain[3]["image"], gray[3]["image"])


def test_draws_are_splitmix64():
    # The published reference output of splitmix64 for the seed 1234567
    reference = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    draws = Draws(np.array([7, 1234567], dtype=np.uint64))
    numbers = np.concatenate([draws.uniform(3), draws.uniform(1)], axis=1)
    np.testing.assert_array_equal(numbers[1], [(bits >> 11) / 2**53 for bits in reference])


def test_draws_go_on_for_some_of_the_scenes():
    keys = np.arange(5, dtype=np.uint64)
    draws, all_at_once = Draws(keys), Draws(keys).uniform(2, 3)
    first = draws.uniform(3)
    rest = draws[np.array([True, False, False, True, True])].uniform(3)
    np.testing.assert_array_equal(first, all_at_once[:, 0])
    np.testing.assert_array_equal(rest, all_at_once[[0, 3, 4], 1])


def test_draws_are_uniform_and_uncorrelated_between_neighbouring_scenes():
    numbers = Draws(np.arange(4000, dtype=np.uint64)).uniform(8)
    assert stats.kstest(numbers.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(numbers[:-1].ravel(), numbers[1:].ravel())[0, 1]) < 0.02
    assert np.abs(np.corrcoef(numbers.T) - np.eye(8)).max() < 0.07


def test_integers_stop_below_each_bound():
    numbers = Draws(np.arange(500, dtype=np.uint64)).integers(np.array([1, 2, 7]), 3)
    assert [set(column) for column in numbers.T] == [{0}, {0, 1}, set(range(7))]
