"""CLEVRViews: the pictures agree with the factors in all views, and depend on nothing else."""

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("mitsuba")
pytest.importorskip("pyoidn")

from unscene.data import Views
from unscene.data.preprocess import to_grayscale
from unscene.data.rendering.cle_mv import CLEVRViews
from unscene.data.rendering.clevr_layout import COLORS
from unscene.errors import InputError

QUICK = {"samples": 1, "denoise": False, "variant": "scalar"}


@pytest.fixture(scope="module")
def dataset():
    return CLEVRViews(4, views=5, image_size=48, **QUICK | {"samples": 4})


@pytest.fixture(scope="module")
def scenes(dataset):
    return dataset.batch(range(4))


def leaves(scenes):
    return {name: value for name, value in scenes.items() if name != "factors"} | scenes["factors"]


def test_shapes_and_types(scenes):
    kinds = dict.fromkeys(("shape", "size", "material", "color"), ((4, 7), torch.uint8))
    kinds |= {"position": ((4, 7, 3), torch.float32), "rotation": ((4, 7), torch.float32)}
    kinds |= {"pixel_coords": ((4, 7, 5, 3), torch.float32), "image": ((4, 5, 3, 48, 48), torch.float32)}
    kinds |= {"mask": ((4, 5, 48, 48), torch.uint8), "viewpoint": ((4, 5, 3), torch.float32)}
    kinds |= {"camera": ((4, 5, 4, 4), torch.float32), "visibility": ((4, 7), torch.bool)}
    kinds |= {"view_visibility": ((4, 5, 7), torch.bool)}
    assert {name: (tuple(value.shape), value.dtype) for name, value in leaves(scenes).items()} == kinds
    levels = scenes["image"] * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-4)
    assert 0.2 < scenes["image"].mean() < 0.7


def test_a_scene_does_not_depend_on_its_batch():
    options = {"views": 2, "image_size": 12, **QUICK}
    whole = leaves(CLEVRViews(5, **options).batch(range(5)))
    some = leaves(pickle.loads(pickle.dumps(CLEVRViews(900, **options))).batch([4, 1]))
    single = leaves(CLEVRViews(900, **options)[4])
    for name, value in whole.items():
        assert torch.equal(some[name], value[[4, 1]]), name
        assert torch.equal(single[name], value[4]), name


def test_splits_and_seeds_share_no_scene():
    options = ({}, {"split": "val"}, {"split": "test"}, {"seed": 1})
    streams = [CLEVRViews(4, views=1, image_size=1, **o, **QUICK).batch(range(4)) for o in options]
    assert len({p.numpy().tobytes() for stream in streams for p in stream["factors"]["position"]}) == 16


def test_what_a_scene_holds_does_not_depend_on_the_pictures(scenes):
    other = CLEVRViews(9, views=2, image_size=7, **QUICK).batch(range(4))["factors"]
    for name in other.keys() - {"pixel_coords"}:
        assert torch.equal(other[name], scenes["factors"][name]), name


def test_viewpoints_and_cameras_are_the_same_in_all_scenes(scenes):
    angle = np.arctan2(-6.51, 7.48) + 2 * np.pi * np.arange(5) / 5
    expected = torch.tensor(np.stack([np.cos(angle) - 1, np.sin(angle), 0 * angle], axis=1)).float()
    torch.testing.assert_close(scenes["viewpoint"], expected.expand(4, -1, -1), rtol=0, atol=1e-5)
    location = scenes["camera"][..., :3, 3]
    torch.testing.assert_close(location[:, 0], torch.tensor([[7.48, -6.51, 5.34]]).expand(4, -1))
    torch.testing.assert_close(scenes["camera"][..., :3, 2], -location / location.norm(dim=-1, keepdim=True))
    torch.testing.assert_close(scenes["camera"][..., :3, :3].det(), torch.ones(4, 5))


def test_an_object_has_its_id_and_place_in_all_views(scenes):
    """At the centre of an object there is the object itself, or one before it; what is before all others is seen."""
    mask, factors, own = scenes["mask"].numpy(), scenes["factors"], 0
    for b, v in np.ndindex(4, 5):
        there = np.flatnonzero(factors["size"][b])
        pose, position = scenes["camera"][b, v].double().numpy(), factors["position"][b, there].double().numpy()
        x, y, depth = ((position - pose[:3, 3]) @ pose[:3, :3]).T
        places = np.stack([24 + 24 * x / depth * 35 / 16, 24 + 24 * y / depth * 35 / 16, depth], axis=1)
        np.testing.assert_allclose(factors["pixel_coords"][b, there, v], places, atol=1e-3)
        column, row = np.floor(places[:, :2]).astype(int).T
        found = mask[b, v, row, column]
        assert (found > 0).all()
        np.testing.assert_array_less(depth[found - 1], depth + 1e-6)
        own += (found == there).sum()
        assert mask[b, v, row[depth.argmin()], column[depth.argmin()]] == there[depth.argmin()]
    assert own > 0.75 * 5 * (factors["size"] > 0).sum()


def test_areas_of_spheres():
    """Where nothing is before it, a sphere of radius r at c is an ellipse; z is its depth (Quilez)."""
    scenes = CLEVRViews(12, views=3, image_size=64, fewest=1, most=1, **QUICK).batch(range(12))
    factors, compared = {name: value[:, 1].double().numpy() for name, value in scenes["factors"].items()}, 0
    for b in np.flatnonzero(factors["shape"] == 2):
        r = {1: 0.9, 2: 0.7}[factors["size"][b]]
        assert factors["position"][b, 2] == pytest.approx(r)
        for v in range(3):
            z, c = factors["pixel_coords"][b, v, 2], factors["position"][b] - scenes["camera"][b, v, :3, 3].numpy()
            area = np.pi * (70 * r) ** 2 * ((c @ c - r**2) / (z**2 - r**2)) ** 0.5 / (z**2 - r**2)
            assert int((scenes["mask"][b, v] == 1).sum()) == pytest.approx(area, rel=0.07)
            compared += 1
    assert compared >= 6


def test_visibility(scenes):
    for i in range(7):
        seen = (scenes["mask"] == i).flatten(2).any(2)
        assert torch.equal(scenes["view_visibility"][..., i], seen)
        assert torch.equal(scenes["visibility"][:, i], seen.any(1))
    there = scenes["factors"]["size"] > 0
    assert torch.equal(scenes["visibility"][:, 1:], there[:, 1:]) and not there[:, 0].any()
    assert torch.equal(scenes["view_visibility"][:, 0, 1:], there[:, 1:])


def test_colours_are_those_of_the_factors(scenes):
    """Rubber that is strongly coloured has its colour's order of red, green and blue, in all views."""
    palette, compared = np.array(list(COLORS.values())), 0
    for b, i in np.ndindex(4, 7):
        rgb = palette[int(scenes["factors"]["color"][b, i]) - 1]
        if scenes["factors"]["material"][b, i] != 1 or np.ptp(rgb) < 50:
            continue
        for v in range(5):
            where = scenes["mask"][b, v] == i
            if where.sum() > 20:
                mean = scenes["image"][b, v][:, where].mean(1).numpy()
                assert mean.argmax() == rgb.argmax() or np.ptp(np.sort(rgb)[1:]) < 10
                assert mean[rgb.argmax()] - mean[rgb.argmin()] > 0.1
                compared += 1
    assert compared > 15


def test_grayscale(scenes, dataset):
    gray = CLEVRViews(4, views=5, image_size=48, grayscale=True, **QUICK | {"samples": 4})[1]
    assert torch.equal(gray["image"], to_grayscale(scenes["image"][1]))


def test_views_as_images(scenes, dataset):
    views = Views(dataset)
    assert len(views) == 20
    batch = views.batch([3, 11])
    for name in ("image", "mask", "viewpoint"):
        assert torch.equal(batch[name], torch.stack([scenes[name][0, 3], scenes[name][2, 1]])), name
    assert torch.equal(batch["visibility"], torch.stack([scenes["view_visibility"][s] for s in ((0, 3), (2, 1))]))


def test_names_and_provenance(dataset):
    assert dataset.shape_names == ("cube", "sphere", "cylinder")
    assert dataset.provenance()["renderer"].startswith("mitsuba") and "meshes" not in dataset.provenance()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "views is 0 and image_size 64; a scene needs at least 1 view and 1 pixel"),
        ({"image_size": 0}, "views is 10 and image_size 0"),
        ({"fewest": 0}, "cannot draw 0 to 6 objects; set 1 <= fewest <= most <= 8"),
        ({"fewest": 5, "most": 4}, "cannot draw 5 to 4 objects"),
        ({"most": 9}, "cannot draw 3 to 9 objects"),
        ({"samples": 0}, "samples is 0; a pixel needs at least 1"),
        ({"variant": "cuda"}, "unknown variant 'cuda'; choose one of auto, scalar, llvm"),
        ({"num_scenes": 0}, "num_scenes is 0; ask for at least 1 scene"),
        ({"split": "all"}, "unknown split 'all'; choose one of train, val, test"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        CLEVRViews(**options)
