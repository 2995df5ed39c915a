"""Orbit scenes: what is drawn agrees with the factors, in all views, and depends on nothing else."""

import pickle

import numpy as np
import pytest
import torch

from unscene.data import OrbitScenes, Views
from unscene.data.orbit import FLOOR, GAP, PALETTE, SIZES
from unscene.data.preprocess import to_grayscale
from unscene.errors import InputError


@pytest.fixture(scope="module")
def scenes():
    return OrbitScenes(24).batch(range(24))


@pytest.fixture(scope="module")
def many():
    """The factors of many scenes; the pictures are tiny."""
    return OrbitScenes(200, views=1, image_size=1, fewest=1, most=6).batch(range(200))["factors"]


def test_shapes_and_types(scenes):
    assert scenes["image"].shape == (24, 10, 3, 64, 64) and scenes["image"].dtype == torch.float32
    assert scenes["image"].min() >= 0 and scenes["image"].max() <= 1
    assert scenes["mask"].shape == (24, 10, 64, 64) and scenes["mask"].dtype == torch.uint8
    assert scenes["viewpoint"].shape == (24, 10, 3) and scenes["viewpoint"].dtype == torch.float32
    assert scenes["visibility"].shape == (24, 6) and scenes["visibility"].dtype == torch.bool
    assert {name: (tuple(value.shape), value.dtype) for name, value in scenes["factors"].items()} == {
        "shape": ((24, 6), torch.uint8),
        "size": ((24, 6), torch.uint8),
        "color": ((24, 6), torch.uint8),
        "position": ((24, 6, 3), torch.float32),
        "rotation": ((24, 6), torch.float32),
    }


def leaves(scenes):
    return {name: value for name, value in scenes.items() if name != "factors"} | scenes["factors"]


def test_a_scene_does_not_depend_on_its_batch():
    dataset, order = OrbitScenes(9, views=3, image_size=20), [8, 3, 5]
    whole, some, single = (leaves(s) for s in (dataset.batch(range(9)), dataset.batch(order), dataset[3]))
    elsewhere = leaves(pickle.loads(pickle.dumps(OrbitScenes(1000, views=3, image_size=20))).batch(order))
    for name, value in whole.items():
        assert torch.equal(some[name], value[order]), name
        assert torch.equal(elsewhere[name], value[order]), name
        assert torch.equal(single[name], value[3]), name


def test_splits_and_seeds_share_no_scene():
    options = ({}, {"split": "val"}, {"split": "test"}, {"seed": 1})
    streams = [OrbitScenes(10, views=1, image_size=24, **o).batch(range(10)) for o in options]
    assert len({image.numpy().tobytes() for stream in streams for image in stream["image"]}) == 40


def test_what_a_scene_holds_does_not_depend_on_the_pictures(scenes):
    other = OrbitScenes(24, views=2, image_size=8).batch(range(24))
    assert other["image"].shape == (24, 2, 3, 8, 8)
    for name, value in other["factors"].items():
        assert torch.equal(value, scenes["factors"][name]), name


def test_viewpoints_circle_and_are_the_same_in_all_scenes(scenes):
    angle = 2 * np.pi * np.arange(10) / 10
    expected = torch.tensor(np.stack([np.cos(angle) - 1, np.sin(angle), 0 * angle], axis=1)).float()
    torch.testing.assert_close(scenes["viewpoint"], expected.expand(24, -1, -1), rtol=0, atol=1e-5)


def test_cameras_on_an_arc_see_what_those_of_the_circle_see(scenes):
    arc = OrbitScenes(24, views=3, image_size=scenes["image"].shape[-1], arc=108.0).batch(range(24))
    for name in ("image", "mask", "viewpoint"):
        torch.testing.assert_close(arc[name], scenes[name][:, :3], rtol=0, atol=1e-6)


def test_numbers_of_objects_and_kinds_are_equally_likely(many):
    count = (many["size"] > 0).sum(1)
    assert np.bincount(count, minlength=7)[1:].min() > 20 and count.min() == 1
    for name, kinds in (("shape", 3), ("size", 2), ("color", 8)):
        share = np.bincount(many[name][many["size"] > 0], minlength=kinds + 1)[1:] / int(count.sum())
        np.testing.assert_allclose(share, 1 / kinds, atol=0.06)


def test_objects_stand_on_the_floor_and_do_not_touch(many):
    for shape, size, position in zip(many["shape"], many["size"], many["position"].double(), strict=True):
        there = size > 0
        radius = torch.tensor(SIZES)[size[there].long() - 1].double()
        height = torch.where(shape[there] == 1, radius * 0.5**0.5, radius)
        torch.testing.assert_close(position[there, 2], height, rtol=0, atol=1e-6)
        assert position[there, :2].norm(dim=1).max() <= FLOOR + 1e-6
        distance = torch.cdist(position[there, :2], position[there, :2]) + 9 * torch.eye(int(there.sum()))
        assert (distance >= radius + radius[:, None] + GAP - 1e-6).all()


def test_what_is_not_there_is_zero(many):
    absent = many["size"] == 0
    assert all(not value[absent].any() for value in many.values())
    assert not many["rotation"][many["shape"] != 1].any()
    assert (many["rotation"] < 90).all() and many["rotation"].max() > 80


def test_visibility_and_ids_agree_with_the_masks(scenes):
    for i in range(6):
        assert torch.equal(scenes["visibility"][:, i], (scenes["mask"] == i).flatten(1).any(1))
    assert (scenes["visibility"][:, 1:] <= (scenes["factors"]["size"][:, 1:] > 0)).all()


def test_an_id_is_the_same_object_in_all_views(scenes):
    """Where the centre of an object projects to, there is the object itself or one that is nearer."""
    cameras = OrbitScenes(1)._cameras
    seen = 0
    for mask, size, position in zip(
        scenes["mask"].numpy(), scenes["factors"]["size"], scenes["factors"]["position"].double().numpy(), strict=True
    ):
        depth = ((position - cameras.location[:, None]) * cameras.forward[:, None]).sum(-1)
        places = cameras.project(position).round().astype(int)
        for i in np.flatnonzero(size > 0):
            for view in range(10):
                found = mask[view, *places[view, i]]
                assert found > 0 and depth[view, found] <= depth[view, i] + 1e-6
                seen += found == i
    assert seen > 500


def test_objects_have_their_colors(scenes):
    for image, mask, color in zip(scenes["image"], scenes["mask"], scenes["factors"]["color"], strict=True):
        for i in np.flatnonzero(color > 0):
            inside = image.movedim(1, -1)[mask == i].numpy().astype(float)
            if len(inside) > 200:
                mean, true = np.median(inside, axis=0), PALETTE[color[i] - 1]
                np.testing.assert_allclose(mean / np.linalg.norm(mean), true / np.linalg.norm(true), atol=0.05)


def test_nearly_all_objects_are_within_the_picture(scenes):
    mask = scenes["mask"]
    border = torch.cat([mask[:, :, [0, -1]].flatten(2), mask[..., [0, -1]].flatten(2)], dim=2)
    assert (border > 0).any(2).float().mean() < 0.06


@pytest.mark.parametrize("grayscale", [False, True])
def test_single_views_are_those_of_the_scenes(scenes, grayscale):
    dataset = OrbitScenes(24, grayscale=grayscale)
    assert dataset.view_counts == [10] * 24
    views = Views(dataset).batch([203, 7, 200])
    where = [20, 0, 20], [3, 7, 0]
    image = scenes["image"][where]
    assert torch.equal(views["image"], to_grayscale(image) if grayscale else image)
    assert torch.equal(views["mask"], scenes["mask"][where])
    assert torch.equal(views["viewpoint"], scenes["viewpoint"][where])
    assert torch.equal(views["factors"]["position"], scenes["factors"]["position"][where[0]])
    for i in range(6):
        assert torch.equal(views["visibility"][:, i], (views["mask"] == i).flatten(1).any(1))


def test_grayscale(scenes):
    assert torch.equal(OrbitScenes(24, grayscale=True)[2]["image"], to_grayscale(scenes["image"][2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scenes": 0}, "num_scenes is 0; ask for at least 1 scene"),
        ({"split": "dev"}, "unknown split 'dev'; choose one of train, val, test"),
        ({"views": 0}, "views is 0 and image_size 64; a scene needs at least 1 view and 1 pixel"),
        ({"image_size": 0}, "views is 10 and image_size 0; a scene needs"),
        ({"arc": 0.0}, "arc is 0.0; cameras stand on more than 0 and at most 360 degrees"),
        ({"arc": 361.0}, "arc is 361.0"),
        ({"fewest": 0}, "cannot draw 0 to 5 objects; set 1 <= fewest <= most <= 6"),
        ({"fewest": 4, "most": 3}, "cannot draw 4 to 3 objects"),
        ({"most": 7}, "cannot draw 2 to 7 objects"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        OrbitScenes(**options)
