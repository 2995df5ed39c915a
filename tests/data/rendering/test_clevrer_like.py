"""Rendered videos: what the pictures show is what the factors say. Tiny pictures of few samples."""

import pickle

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull

from unscene.data import CLEVRER
from unscene.data.clevrer_annotations import CATEGORIES, read_annotation
from unscene.data.clips import Clips, Frames, WholeVideos
from unscene.data.preprocess import to_grayscale
from unscene.data.rendering.clevrer_like import CLEVRERLike
from unscene.data.rendering.clevrer_physics import simulate
from unscene.data.rendering.clevrer_start import begin
from unscene.errors import InputError

pytest.importorskip("mujoco")
pytest.importorskip("mitsuba")

FAST = {"samples": 1, "denoise": False, "variant": "scalar"}
TINY = {"image_size": (16, 16), "frames": 6, **FAST}


@pytest.fixture(scope="module")
def scenes():
    return CLEVRERLike(4, **TINY).batch(range(4))


@pytest.fixture(scope="module")
def later():
    """Two frames from the middle of two videos, large enough to compare outlines."""
    return CLEVRERLike(4, image_size=(64, 96), **FAST).batch_clips([1, 2], [70, 60], 2)


def leaves(scenes):
    return {name: value for name, value in scenes.items() if name != "factors"} | scenes["factors"]


def test_shapes_and_types(scenes):
    assert {name: (tuple(value.shape), value.dtype) for name, value in leaves(scenes).items()} == {
        "image": ((4, 6, 3, 16, 16), torch.float32),
        "mask": ((4, 6, 16, 16), torch.uint8),
        "visibility": ((4, 7), torch.bool),
        "camera": ((4, 6, 4, 4), torch.float32),
        "contacts": ((4, 32, 3), torch.int16),
        "contact_location": ((4, 32, 3), torch.float32),
        "color": ((4, 7), torch.uint8),
        "material": ((4, 7), torch.uint8),
        "shape": ((4, 7), torch.uint8),
        "location": ((4, 7, 6, 3), torch.float32),
        "velocity": ((4, 7, 6, 3), torch.float32),
        "orientation": ((4, 7, 6, 3), torch.float32),
        "angular_velocity": ((4, 7, 6, 3), torch.float32),
        "inside": ((4, 7, 6), torch.bool),
    }
    assert scenes["image"].min() >= 0 and scenes["image"].max() <= 1


def test_a_scene_does_not_depend_on_its_batch(scenes):
    elsewhere = leaves(pickle.loads(pickle.dumps(CLEVRERLike(900, **TINY))).batch([2, 0]))
    for name, value in leaves(scenes).items():
        assert torch.equal(elsewhere[name], value[[2, 0]]), name


def test_splits_and_seeds_share_no_scene(scenes):
    others = [CLEVRERLike(2, **TINY | option).batch([0, 1]) for option in ({"split": "val"}, {"seed": 1})]
    locations = torch.cat([stream["factors"]["location"][:2] for stream in (scenes, *others)])
    assert len({location.numpy().tobytes() for location in locations}) == 6


def test_clips_are_cut_from_the_same_videos(scenes):
    dataset = CLEVRERLike(4, **TINY)
    clips = dataset.batch_clips([3, 1], [1, 4], 2)
    for name, value in leaves(WholeVideos(dataset).batch_clips([3, 1], [1, 4], 2)).items():
        assert torch.equal(leaves(clips)[name], value), name
    assert torch.equal(Clips(dataset, 3).batch([5])["image"][0], scenes["image"][2, 3:])
    assert torch.equal(Frames(dataset).batch([9])["mask"][0], scenes["mask"][1, 3])


def test_the_first_frames_do_not_depend_on_the_length(scenes):
    longer = CLEVRERLike(4, **TINY | {"frames": 8}).batch([3])
    for name in ("location", "orientation", "inside"):
        assert torch.equal(longer["factors"][name][0, :, :6], scenes["factors"][name][3])
    assert torch.equal(longer["image"][0, :6], scenes["image"][3])


def test_what_happens_does_not_depend_on_the_pictures(scenes):
    other = CLEVRERLike(4, **TINY | {"image_size": (6, 8), "samples": 2}).batch([1])
    assert other["image"].shape == (1, 6, 3, 6, 8)
    assert torch.equal(other["factors"]["location"][0], scenes["factors"]["location"][1])


def test_grayscale(scenes):
    dataset, expected = CLEVRERLike(4, **TINY, grayscale=True), to_grayscale(scenes["image"][[2]])
    assert torch.equal(dataset.batch([2])["image"], expected)
    assert torch.equal(dataset.batch_clips([2], [3], 1)["image"], expected[:, 3:4])


def test_what_is_not_there_is_zero_and_kinds_are_unique(scenes):
    absent = scenes["factors"]["color"] == 0
    assert absent[:, 0].all() and not absent[:, 1:5].any()
    assert all(not value[absent].any() for value in scenes["factors"].values())
    kinds = torch.stack([scenes["factors"][name] for name in CATEGORIES], dim=-1)
    for rows, gone in zip(kinds, absent, strict=True):
        assert len(rows[~gone].unique(dim=0)) == (~gone).sum()
        assert (rows[~gone].amax(0) <= torch.tensor([8, 2, 3])).all()


def outline(shape, location, angle):
    """Points on the surface of a cube with sharp edges, a sphere or a cylinder."""
    turn = np.linspace(0, 2 * np.pi, 90)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    if shape == "sphere":
        height = np.linspace(-1, 1, 61)[:, None]
        points = np.concatenate([np.insert(circle * np.sqrt(1 - h**2), 2, h, axis=1) for h in height])
    elif shape == "cylinder":
        points = np.concatenate([np.insert(circle, 2, h, axis=1) for h in (-1, 1)])
    else:
        x, y, z = (np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1).T
        points = np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z], axis=1)
    return 0.2 * points + location


def pixels_within(points, camera, height, width):
    """Which pixels' centres are in the convex outline of points, by CLEVRER's focal length, and the least depth."""
    across, down, depth = ((points - camera[:3, 3]) @ camera[:3, :3]).T
    focal = 525 / 320 * height
    projected = np.stack([width / 2 + focal * across / depth, height / 2 + focal * down / depth], axis=1)
    hull = ConvexHull(projected)
    y, x = np.mgrid[:height, :width] + 0.5
    distance = (hull.equations[:, :2] @ np.stack([x.ravel(), y.ravel()]) + hull.equations[:, 2:]).max(0)
    return distance.reshape(height, width), depth.min()


def test_the_camera_is_that_of_clevrer(scenes):
    cos, sin = 0.75**0.5, 0.5
    pose = [[0, sin, -cos, 5 * cos], [1, 0, 0, 0], [0, -cos, -sin, 5 * sin], [0, 0, 0, 1]]
    torch.testing.assert_close(scenes["camera"], torch.tensor(pose).expand(4, 6, 4, 4), atol=1e-6, rtol=0)


def test_masks_are_the_outlines_of_the_objects(later):
    compared = 0
    for b, t in np.ndindex(2, 2):
        mask, camera = later["mask"][b, t].numpy(), later["camera"][b, t].double().numpy()
        factors = {name: value[b].numpy() for name, value in later["factors"].items()}
        nearest = np.full(mask.shape, np.inf)
        border, expected = np.zeros(mask.shape, dtype=bool), np.zeros(mask.shape, dtype=int)
        for i in np.flatnonzero(factors["color"]):
            shape = CATEGORIES["shape"][factors["shape"][i] - 1]
            points = outline(shape, factors["location"][i, t].astype(float), factors["orientation"][i, t, 2])
            if not factors["inside"][i, t]:
                continue
            distance, depth = pixels_within(points, camera, *mask.shape)
            border |= abs(distance) < 1  # edges are rounded
            front = (distance < 0) & (depth < nearest)
            nearest[front], expected[front] = depth, i
        assert (mask == expected)[~border].all()
        compared += len(np.unique(expected[~border])) - 1
    assert compared >= 12


def test_an_object_is_inside_where_its_outline_is():
    clips = CLEVRERLike(4, image_size=(20, 30), **FAST).batch_clips([1, 1, 1, 2, 2, 2], [20, 50, 75, 30, 50, 100], 1)
    factors, found = clips["factors"], []
    seen = torch.stack([(clips["mask"] == i).flatten(2).any(2) for i in range(1, 7)], dim=1)
    assert (seen <= factors["inside"][:, 1:]).all() and seen.sum() > 12
    for b, i in np.argwhere(factors["color"].numpy() > 0):
        shape = CATEGORIES["shape"][factors["shape"][b, i] - 1]
        location, angle = factors["location"][b, i, 0].double().numpy(), factors["orientation"][b, i, 0, 2].item()
        camera = clips["camera"][b, 0].double().numpy()
        across, down, depth = ((outline(shape, location, angle) - camera[:3, 3]) @ camera[:3, :3]).T
        x, y = 525 / 16 * np.stack([across, down]) / depth
        outside = np.maximum(abs(x) - 15, abs(y) - 10).min()  # how far it is from the image, in pixels
        if abs(outside) > 0.5 and depth.min() > 0:  # edges are rounded
            assert factors["inside"][b, i, 0] == (outside < 0)
            found.append(outside < 0)
    assert found.count(True) > 12 and found.count(False) > 3


def test_objects_have_their_colors(later):
    """Rubber is lit by white light, mostly: the strongest channel is that of its colour."""
    strongest = {"red": 0, "blue": 2, "green": 1, "brown": 0, "purple": 2}
    checked = 0
    for b, color in enumerate(later["factors"]["color"]):
        for i in np.flatnonzero(color > 0):
            pixels, name = later["image"][b, 0][:, later["mask"][b, 0] == i], CATEGORIES["color"][color[i] - 1]
            if pixels.shape[1] > 20 and name in strongest:
                assert pixels.mean(1).argmax() == strongest[name], name
                checked += 1
    assert checked >= 3


def test_contacts_are_those_of_the_simulation(later):
    for b, index in enumerate((1, 2)):
        start = begin(CLEVRERLike(4, **TINY).draws([index]), 4, 6)
        shapes = [shape for _, _, shape in start.kinds]
        found = simulate(shapes, start.position, start.velocity, start.angle, 128).contacts
        assert len(found) >= 1
        table = later["contacts"][b].tolist()
        assert table[: len(found)] == [[c.frame, c.first + 1, c.second + 1] for c in found]
        assert all(row == [-1, -1, -1] for row in table[len(found) :])
        places = later["contact_location"][b, : len(found)].double().numpy()
        np.testing.assert_allclose(places, [c.location for c in found], atol=1e-6)


def test_visible_ids_have_pixels(scenes, later):
    for batch in (scenes, later):
        for i in range(7):
            assert torch.equal(batch["visibility"][:, i], (batch["mask"] == i).flatten(1).any(1))
        assert (batch["visibility"][:, 1:] <= (batch["factors"]["color"][:, 1:] > 0)).all()


def test_files_are_numbered_by_split_and_read_by_the_reader(tmp_path):
    dataset = CLEVRERLike(4, split="val", **TINY)
    scene = dataset[3]
    files = dataset.files(3, scene)
    assert list(files) == ["annotation_10000-11000/annotation_10003.json"]
    path = tmp_path / "annotation_10003.json"
    path.write_bytes(files["annotation_10000-11000/annotation_10003.json"])
    factors = read_annotation(path).factors(range(6))
    for name in ("color", "material", "shape", "inside"):
        np.testing.assert_array_equal(factors[name][:7], scene["factors"][name])
    np.testing.assert_allclose(factors["location"][:7], scene["factors"]["location"], atol=1e-6)


def test_a_folder_of_full_frames_is_read_as_clevrer(tmp_path):
    dataset = CLEVRERLike(1, split="test", frames=1, image_size=(320, 480), **FAST)
    scene = dataset[0]
    for path, content in dataset.files(0, scene).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    read = CLEVRER(tmp_path, "test", frames=1, mask_root=tmp_path / "proposals")[0]
    assert torch.equal(read["mask"], scene["mask"][:, 2::5, 82:400:5])
    small = torch.nn.functional.avg_pool2d(scene["image"][..., 80:400], 5)
    assert (read["image"] - small).abs().mean() < 0.02
    assert torch.equal(read["factors"]["inside"][:7], scene["factors"]["inside"])


def test_provenance():
    mujoco, mitsuba = (pytest.importorskip(name).__version__ for name in ("mujoco", "mitsuba"))
    provenance = CLEVRERLike(1, **TINY).provenance()
    assert provenance["physics"] == f"mujoco {mujoco}"
    assert provenance["renderer"] == f"mitsuba {mitsuba}"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scenes": 0}, "num_scenes is 0; ask for at least 1 scene"),
        ({"split": "dev"}, "unknown split 'dev'; choose one of train, val, test"),
        ({"num_scenes": 5001, "split": "val"}, "num_scenes is 5001; CLEVRER numbers 5000 videos of split 'val'"),
        ({"frames": 0}, r"frames is 0 and image_size \(64, 64\); film at least 1 frame"),
        ({"image_size": (64, 0)}, r"image_size \(64, 0\); .* give a height and a width"),
        ({"image_size": (64,)}, r"image_size \(64,\); .* give a height and a width"),
        ({"fewest": 1}, "cannot film 1 to 6 objects; set 2 <= fewest <= most <= 10"),
        ({"fewest": 7}, "cannot film 7 to 6 objects"),
        ({"most": 11}, "cannot film 4 to 11 objects"),
        ({"samples": 0}, "samples is 0"),
        ({"renderer": "crayon"}, "unknown renderer 'crayon'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        CLEVRERLike(**options)
