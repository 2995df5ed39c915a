"""Objects Room: label maps against an analytic ray caster, pictures against finer ones, scenes against their recipe."""

import hashlib
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist

pytest.importorskip("mujoco")

from unscene.data.preprocess import to_grayscale
from unscene.data.rendering.gl import import_mujoco, open_gl
from unscene.data.rendering.mujoco_room import close_room, room
from unscene.data.rendering.objects_room import ObjectsRoom
from unscene.data.rendering.room_model import HEIGHT, PERIOD, REACH, SHAPES
from unscene.errors import InputError

NAMES = [None, *SHAPES]


@pytest.fixture(scope="module")
def scenes():
    return ObjectsRoom(18).batch(range(18))


@pytest.fixture(scope="module")
def crowded():
    return ObjectsRoom(10, variant="six_objects").batch(range(10))


@pytest.fixture(scope="module")
def many():
    """Of each variant the labels of many scenes; their pictures are tiny."""
    names = (None, "empty_room", "six_objects", "identical_color")
    return {name: ObjectsRoom(40, variant=name, image_size=1).batch(range(40)) for name in names}


def leaves(scenes):
    return {name: value for name, value in scenes.items() if name != "factors"} | scenes["factors"]


# ---- an independent picture of the room: where the rays through the centres of the pixels meet bodies in closed form


def quadric(origin, ray):
    """Spans of the rays within the unit ball (or disc, in two coordinates)."""
    a, b, c = (ray**2).sum(-1), (origin * ray).sum(-1), (origin**2).sum(-1) - 1
    root = np.sqrt(np.maximum(b * b - a * c, 0))
    hit = b * b > a * c
    return np.where(hit, (-b - root) / a, np.inf), np.where(hit, (-b + root) / a, -np.inf)


def half_spaces(origin, ray, normals, offsets):
    """Spans of the rays within a convex body n x + c <= 0."""
    at, along = origin @ normals.T + offsets, ray @ normals.T
    with np.errstate(divide="ignore"):
        t = -at / along
    return np.where(along < 0, t, -np.inf).max(-1), np.where(along > 0, t, np.inf).min(-1)


def entry(*spans):
    near, far = np.maximum.reduce([s[0] for s in spans]), np.minimum.reduce([s[1] for s in spans])
    return np.where(near < far, near, np.inf)


def slab(origin, ray, half):
    return half_spaces(origin, ray, np.array([[0.0, 0, 1], [0, 0, -1]]), -half)


def tube(origin, ray, radius, half):
    return entry(quadric(origin[..., :2] / radius, ray[..., :2] / radius), slab(origin, ray, half))


def meet(name, origin, ray):
    """The depths at which rays enter a shape of size 1."""
    if name in ("box", "icosahedron", "prism"):
        corners = np.array(np.meshgrid(*[[-0.8, 0.8]] * 3)).reshape(3, -1).T if name == "box" else SHAPES[name].vertices
        hull = ConvexHull(corners).equations
        return entry(half_spaces(origin, ray, hull[:, :3], hull[:, 3]))
    if name in ("sphere", "ellipsoid"):
        axes = np.array([1.0, 1, 1] if name == "sphere" else [1.15, 0.75, 0.75])
        return entry(quadric(origin / axes, ray / axes))
    if name == "cylinder":
        return tube(origin, ray, 0.8, 0.9)
    if name == "capsule":
        caps = [entry(quadric((origin - (0, 0, z)) / 0.65, ray / 0.65)) for z in (-0.5, 0.5)]
        return np.minimum.reduce([tube(origin, ray, 0.65, 0.5), *caps])
    angle = np.linspace(0, 2 * np.pi, 200, endpoint=False)  # the cone, of radius 0.9 and height 2
    side = np.stack([np.cos(angle), np.sin(angle), np.full(200, 0.45)], axis=1)
    normals, offsets = np.concatenate([side, [[0, 0, -1.0]]]), np.append(np.full(200, -0.45), -1.0)
    return entry(half_spaces(origin, ray, normals, offsets))


def cast(camera, factors, size=64):
    """Label map and parts of the background (S, S) of one scene."""
    centre = (np.arange(size) + 0.5) / size * 2 - 1
    tangent = np.tan(np.radians(30))
    own = np.stack([*np.meshgrid(tangent * centre, tangent * centre), np.ones((size, size))], axis=-1)
    origin, ray = camera[:3, 3], own @ camera[:3, :3].T
    with np.errstate(divide="ignore", invalid="ignore"):
        walls = [(np.sign(ray[..., i]) * 3.5 - origin[i]) / ray[..., i] for i in (0, 1)]
        floor = np.where(ray[..., 2] < 0, -origin[2] / ray[..., 2], np.inf)
    walls = [np.where(origin[2] + t * ray[..., 2] <= 3, t, np.inf) for t in walls]
    depths = [np.full((size, size), 1e9), floor, *walls]
    background = 1 + np.argmin(depths, axis=0)
    for k in np.flatnonzero(factors["shape"] > 0):
        angle, unit = np.radians(factors["rotation"][k]), factors["size"][k]
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        depths.append(
            meet(NAMES[factors["shape"][k]], (origin - factors["position"][k]) @ turn / unit, ray @ turn / unit)
        )
    nearest = np.argmin(depths, axis=0)
    return np.maximum(nearest - 3, 0), np.where(nearest > 3, 0, background)


def test_label_maps_are_what_rays_through_the_pixels_meet(scenes, crowded):
    seen = set()
    for batch in (scenes, crowded):
        for i in range(len(batch["image"])):
            factors = {name: value[i].double().numpy() for name, value in batch["factors"].items()}
            factors["shape"] = factors["shape"].astype(int)
            mask, background = cast(batch["camera"][i].double().numpy(), factors)
            assert (mask == batch["mask"][i].numpy()).mean() > 0.997
            assert (background == batch["background"][i].numpy()).mean() > 0.997
            for k in np.unique(mask)[1:]:
                ours = batch["mask"][i].numpy() == k
                overlap = (ours & (mask == k)).sum() / (ours | (mask == k)).sum()
                assert overlap > 0.95 or (mask == k).sum() < 60
                seen.add(factors["shape"][k])
    assert seen == set(range(1, 9))


def test_pictures_and_labels_agree_with_finer_ones(scenes):
    fine = ObjectsRoom(6, image_size=512).batch(range(6))
    coarse = fine["image"].unflatten(3, (64, 8)).unflatten(2, (64, 8)).mean((3, 5))
    assert ((coarse - scenes["image"][:6]) ** 2).mean() < 10**-4.4  # 44 dB
    blocks = fine["mask"].unflatten(2, (64, 8)).unflatten(1, (64, 8)).transpose(2, 3).flatten(3)
    majority = torch.nn.functional.one_hot(blocks.long()).sum(3).argmax(-1)
    assert (majority == scenes["mask"][:6]).float().mean() > 0.999


def test_what_a_scene_holds_does_not_depend_on_the_size(scenes):
    for size in (16, 96):
        other = ObjectsRoom(3, image_size=size).batch(range(3))
        assert other["image"].shape == (3, 3, size, size) and other["mask"].shape == (3, size, size)
        assert torch.equal(other["camera"], scenes["camera"][:3])
        assert all(torch.equal(v, scenes["factors"][name][:3]) for name, v in other["factors"].items())


# ---- the recipe


def test_shapes_and_types(scenes):
    assert {name: (tuple(v.shape[1:]), v.dtype) for name, v in leaves(scenes).items()} == {
        "image": ((3, 64, 64), torch.float32),
        "mask": ((64, 64), torch.uint8),
        "background": ((64, 64), torch.uint8),
        "camera": ((4, 4), torch.float32),
        "visibility": ((4,), torch.bool),
        "shape": ((4,), torch.uint8),
        "size": ((4,), torch.float32),
        "color": ((4, 3), torch.float32),
        "position": ((4, 3), torch.float32),
        "rotation": ((4,), torch.float32),
        "wall_color": ((4, 3), torch.float32),
        "floor_color": ((4, 3), torch.float32),
    }
    pixels = 255 * scenes["image"].double()
    assert (pixels - pixels.round()).abs().max() < 1e-4


def test_the_background_is_told_where_no_object_is(scenes):
    assert torch.equal(scenes["background"] == 0, scenes["mask"] > 0)
    assert set(scenes["background"].unique().tolist()) == {0, 1, 2, 3, 4}
    for i in range(4):
        assert torch.equal(scenes["visibility"][:, i], (scenes["mask"] == i).flatten(1).any(1))


@pytest.mark.parametrize(
    ("variant", "counts", "fewest_seen"),
    [(None, {3}, 1), ("empty_room", {0}, 0), ("six_objects", {6}, 6), ("identical_color", {4, 5, 6}, 1)],
)
def test_numbers_of_objects(variant, counts, fewest_seen, many):
    assert {int(n) for n in (many[variant]["factors"]["shape"] > 0).sum(1)} == counts
    batch = ObjectsRoom(20, variant=variant).batch(range(20))
    assert batch["visibility"].shape[1] == 1 + max(counts)
    pixels = torch.stack(
        [(batch["mask"] == i).flatten(1).sum(1) for i in range(1, 1 + max(counts))] or [torch.zeros(20)]
    )
    assert int((pixels >= 16).sum(0).min()) >= fewest_seen


def test_what_is_not_there_is_zero(many):
    factors = many["identical_color"]["factors"]
    absent = factors["shape"] == 0
    objects = ("size", "color", "position", "rotation")
    assert absent[:, 5:].any() and all(not factors[name][absent].any() for name in objects)
    assert all(not factors[name][:, 1:].any() for name in ("wall_color", "floor_color"))


def test_objects_stand_apart_on_the_floor(many):
    for variant in (None, "six_objects", "identical_color"):
        factors = many[variant]["factors"]
        for shape, size, position in zip(
            *(factors[name].numpy() for name in ("shape", "size", "position")), strict=True
        ):
            there = shape > 0
            kind = shape[there].astype(int) - 1
            reach = REACH[kind] * size[there]
            np.testing.assert_allclose(position[there, 2], HEIGHT[kind] * size[there], rtol=1e-6)
            assert (np.linalg.norm(position[there, :2], axis=1) + reach < 2.7 + 1e-5).all()  # cameras are at 3.2
            first, second = np.triu_indices(there.sum(), 1)
            assert (pdist(position[there, :2]) > reach[first] + reach[second] + 0.1 - 1e-5).all()


def test_kinds_are_drawn_evenly(many):
    factors = many["six_objects"]["factors"]
    shape, size = factors["shape"][:, 1:], factors["size"][:, 1:]
    assert set(shape.unique().tolist()) == set(range(1, 9)) and len(size.unique()) == 8
    assert size.min() == 0.375 and size.max() == 0.625
    period = torch.from_numpy(PERIOD)[shape.long() - 1]
    assert (factors["rotation"][:, 1:] <= period).all()
    assert (factors["rotation"][:, 1:] / period)[period > 0].max() > 0.9


def test_cameras_are_on_a_ring_and_look_to_the_middle(many):
    camera = torch.cat([batch["camera"] for batch in many.values()]).double()
    location, forward, down = camera[:, :3, 3], camera[:, :3, 2], camera[:, :3, 1]
    torch.testing.assert_close(location[:, :2].norm(dim=1), torch.full((160,), 3.2).double())
    assert (location[:, 2] - 1.25).abs().max() < 1e-6
    torch.testing.assert_close(camera[:, :3, :3].mT @ camera[:, :3, :3], torch.eye(3).double().expand(160, 3, 3))
    flat = torch.nn.functional.normalize(forward[:, :2], dim=1)
    torch.testing.assert_close(flat, -location[:, :2] / 3.2, rtol=0, atol=1e-6)
    assert (camera[:, 2, 0].abs() < 1e-6).all() and (down[:, 2] < 0).all()  # upright
    pitch = torch.rad2deg(torch.asin(forward[:, 2]))
    assert -25 <= pitch.min() < -20 and 10 < pitch.max() <= 22
    azimuth = torch.atan2(location[:, 1], location[:, 0])
    assert all(((azimuth // (np.pi / 2)) == quarter).sum() >= 20 for quarter in (-2, -1, 0, 1))


def test_identical_colors(many):
    factors = many["identical_color"]["factors"]
    colors = [color[shape > 0] for color, shape in zip(factors["color"], factors["shape"], strict=True)]
    assert all((color == color[0]).all() for color in colors)
    assert len({tuple(color[0].tolist()) for color in colors}) == 40
    plain = many["six_objects"]["factors"]["color"][:, 1:]
    assert all(len({tuple(color.tolist()) for color in row}) == 6 for row in plain)


def test_everything_has_its_color(scenes, crowded):
    """Up to brightness; what reflects the lamp is left to the median."""
    for batch in (scenes, crowded):
        factors = batch["factors"]
        for i, image in enumerate(batch["image"].movedim(1, -1).double()):
            parts = [(batch["background"][i] == 2, factors["floor_color"][i, 0])]
            parts += [(batch["background"][i] == wall, factors["wall_color"][i, 0]) for wall in (3, 4)]
            parts += [(batch["mask"][i] == k, color) for k, color in enumerate(factors["color"][i]) if k > 0]
            for where, color in parts:
                if where.sum() > 150:
                    found = image[where].median(0).values
                    cosine = torch.cosine_similarity(found, color.double(), dim=0)
                    assert cosine > 0.995 and 0.4 < found.norm() / color.norm() < 1.2


def test_two_walls_in_a_picture_differ_in_brightness(scenes):
    compared = 0
    for background, image in zip(scenes["background"], scenes["image"].mean(1), strict=True):
        here = [image[background == wall] for wall in (3, 4)]
        if min(len(values) for values in here) > 100:
            low, high = sorted(float(values.median()) for values in here)
            assert high > 1.02 * low
            compared += 1
    assert compared > 8


def test_the_sky_is_blue_and_above(scenes):
    sky = scenes["background"] == 1
    assert sky.float().mean((0, 2))[:8].mean() > 0.5 and not sky[:, -1].any()
    red, green, blue = (scenes["image"][:, c][sky] for c in range(3))
    assert (blue > green - 0.1).float().mean() > 0.98 and (green > red).float().mean() > 0.98


def test_objects_cast_shadows():
    """Some of the floor is darker than it is without the objects, and all else as bright; away from their outlines."""
    full, empty = (ObjectsRoom(16, variant=name).batch(range(16)) for name in (None, "empty_room"))
    same = (full["camera"] == empty["camera"]).flatten(1).all(1)
    around = torch.nn.functional.max_pool2d(full["mask"][:, None].float(), 5, 1, 2)[:, 0] > 0
    darker = (empty["image"] - full["image"]).mean(1)[same].masked_fill(around[same], 0)
    shadow = darker > 0.05
    assert same.sum() > 5 and shadow.flatten(1).any(1).float().mean() > 0.5
    assert (full["background"][same][shadow] == 2).float().mean() > 0.97 and darker.min() > -1e-6


def test_the_icosahedron_is_regular_and_lies_on_a_face():
    vertices = SHAPES["icosahedron"].vertices
    distances = np.sort(pdist(vertices))
    np.testing.assert_allclose(distances[:30], 1 / np.sin(2 * np.pi / 5), rtol=1e-12)  # the edges, of radius 1
    assert distances[30] > 1.5 * distances[0]
    assert (np.abs(vertices[:, 2] + HEIGHT[NAMES.index("icosahedron") - 1]) < 1e-12).sum() == 3


# ---- the same scene, wherever it is drawn


def test_a_scene_does_not_depend_on_its_batch(scenes):
    dataset = pickle.loads(pickle.dumps(ObjectsRoom(1000)))
    order = [17, 3, 3, 10]
    some = leaves(dataset.batch(order))
    for name, value in leaves(scenes).items():
        assert torch.equal(some[name], value[order]), name
        assert torch.equal(leaves(dataset[17])[name], value[17]), name


def test_splits_and_seeds_share_no_scene():
    streams = [ObjectsRoom(5, split=split, image_size=16) for split in ("train", "val", "test")]
    streams.append(ObjectsRoom(5, seed=1, image_size=16))
    assert len({image.numpy().tobytes() for stream in streams for image in stream.batch(range(5))["image"]}) == 20


ELSEWHERE = """
import os, hashlib, torch
import mujoco  # before MUJOCO_GL is set
from unscene.data.rendering.objects_room import ObjectsRoom
def digest():
    batch = ObjectsRoom(4).batch(range(4))
    return hashlib.sha256(batch["image"].numpy().tobytes() + batch["mask"].numpy().tobytes()).hexdigest()
print(digest(), flush=True)
if os.fork() == 0:
    torch.set_num_threads(1)  # as a DataLoader's workers do: torch's own threads do not outlive a fork
    print(digest(), flush=True)
    os._exit(0)
os.wait()
print(digest())
"""


def test_pixels_are_the_same_in_another_process_and_after_a_fork(scenes):
    expected = hashlib.sha256(scenes["image"][:4].numpy().tobytes() + scenes["mask"][:4].numpy().tobytes()).hexdigest()
    hidden = ("MUJOCO_GL", "PYOPENGL_PLATFORM", "LP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    run = subprocess.run([sys.executable, "-c", ELSEWHERE], env=environment, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == [expected] * 3, run.stderr


def test_pixels_are_the_same_in_another_thread_and_after_closing(scenes):
    drawn = []
    thread = threading.Thread(target=lambda: drawn.append(ObjectsRoom(2).batch(range(2))["image"]))
    thread.start()
    thread.join()
    close_room()
    close_room()  # nothing is left to close
    drawn.append(ObjectsRoom(2).batch(range(2))["image"])
    assert [torch.equal(image, scenes["image"][:2]) for image in drawn] == [True, True]


def test_grayscale(scenes):
    assert torch.equal(ObjectsRoom(3, grayscale=True)[2]["image"], to_grayscale(scenes["image"][2]))


def test_provenance_names_version_and_driver():
    provenance = ObjectsRoom(1).provenance()
    assert provenance["renderer"] == f"mujoco {import_mujoco().__version__}"
    assert any(character.isdigit() for character in provenance["opengl"])


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_scenes": 0}, "num_scenes is 0; ask for at least 1 scene"),
        ({"split": "dev"}, "unknown split 'dev'; choose one of train, val, test"),
        (
            {"variant": "train"},
            "unknown variant 'train' of Objects Room; choose one of empty_room, six_objects, identical_color, or none",
        ),
        ({"image_size": 0}, "image_size is 0; Objects Room is drawn with 1 to 1024 pixels a side"),
        ({"image_size": 1025}, "image_size is 1025; Objects Room"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        ObjectsRoom(**options)


def test_without_mujoco(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(InputError, match=r'MuJoCo, .* is missing; pip install "unscene\[render\]"'):
        import_mujoco()


def test_without_opengl(monkeypatch):
    room()  # OpenGL's platform is chosen
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "egl")
    monkeypatch.delitem(sys.modules, "mujoco.osmesa", raising=False)
    with pytest.raises(
        InputError, match="MUJOCO_GL being 'osmesa' .*libegl1 libegl-mesa0 libgl1-mesa-dri and set MUJOCO"
    ):
        open_gl(None)
