"""The real Blender, where there is one, with a stand-in for CLEVR's files: `blender_stand_in.py`."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from unscene.data.rendering import blender, meshes
from unscene.data.rendering.blender import PYTHON, BlenderRenderer
from unscene.data.rendering.clevr_layout import LAMPS, TANGENT
from unscene.data.rendering.stage import Camera, Stage, Thing
from unscene.data.rendering.visibility import solid_labels
from unscene.data.solids import HALF_EDGE, Solid
from unscene.errors import InputError

pytestmark = pytest.mark.skipif(not os.environ.get(PYTHON), reason=f"{PYTHON} names no Python with bpy")

FRAME = Camera(np.array([7.2, -6.3, 5.7]), np.zeros(3), 80, 60, TANGENT)
WINDOW = FRAME._replace(width=64, height=64, tangent=TANGENT * 0.6, shift=5 / 192)
SOLIDS = [
    Solid("cube", 0.7, np.array([1.5, -1.0, 0.7 * HALF_EDGE]), 0.4, np.array([0.7, 0.1, 0.1])),
    Solid("sphere", 0.7, np.array([-1.5, 0.5, 0.7]), 0.0, np.array([0.1, 0.1, 0.8])),
    Solid("cylinder", 0.35, np.array([0.2, 1.4, 0.35]), 0.0, np.array([0.1, 0.6, 0.1])),
    Solid("sphere", 0.35, np.array([0.9, 2.4, 0.35]), 0.0, np.array([0.8, 0.1, 0.1])),
]
MESHES = {"cube": meshes.cube, "sphere": meshes.sphere, "cylinder": meshes.cylinder}


@pytest.fixture(scope="module")
def assets(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clevr") / "data"
    script = Path(__file__).with_name("blender_stand_in.py")
    subprocess.run([os.environ[PYTHON], "-P", script, folder], check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def end_processes():
    yield
    for process in blender._processes.values():
        process._end()
    blender._processes.clear()


def _stage(solids: list[Solid], *cameras: Camera) -> Stage:
    return Stage(tuple(map(_thing, solids)), cameras, LAMPS, "backdrop")


def _thing(solid: Solid) -> Thing:
    scale = solid.size * (HALF_EDGE if solid.shape == "cube" else 1)
    cos, sin = np.cos(solid.turn), np.sin(solid.turn)
    pose = np.eye(4)
    pose[:3, :3] = scale * np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    pose[:3, 3] = solid.location
    return Thing(MESHES[solid.shape](), pose, tuple(solid.color.tolist()), "rubber")


@pytest.mark.parametrize("camera", [FRAME, WINDOW], ids=["frame", "window"])
def test_masks_are_those_of_geometry(assets, camera):
    image, mask = BlenderRenderer(assets).render(_stage(SOLIDS, camera))
    expected = solid_labels(camera, SOLIDS)
    assert {1, 2, 3, 4} <= set(expected.flat)
    assert (mask[0] != expected).sum() <= 2  # facets of round shapes
    for k, channel in enumerate([0, 2, 1, 0], start=1):  # each thing has its colour
        assert image[0][expected == k].mean(0).argmax() == channel
    assert np.ptp(image[0][expected == 0].mean(0)) < 20 and image[0][expected == 0].mean() > 80  # gray ground, lit


def test_pixels_do_not_depend_on_process_threads_and_what_was_before(assets, monkeypatch):
    stages = [_stage(SOLIDS, WINDOW), _stage(SOLIDS[2:], FRAME)]
    pictures = []
    for threads, order in (("1", (0, 1)), ("2", (1, 0))):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        renderer = BlenderRenderer(assets, samples=4)
        both = {i: renderer.render(stages[i]) for i in order}
        pictures.append([array.tobytes() for i in (0, 1) for array in both[i]])
        for process in blender._processes.values():
            process._end()
        blender._processes.clear()
    assert pictures[0] == pictures[1]


def test_samples_and_denoiser_are_heard(assets):
    stage = _stage(SOLIDS, WINDOW)
    images = [
        BlenderRenderer(assets, *options).render(stage).image for options in ((1, False), (64, False), (16, True))
    ]
    rough, fine, clean = (np.abs(np.diff(image[0, 48:, :16].astype(float), axis=0)).mean() for image in images)
    assert rough > 2 * fine > 2 * clean  # neighbours on the empty ground


def test_files_that_are_not_clevrs(assets, tmp_path):
    folder = tmp_path / "data"
    for path in assets.rglob("*.blend"):
        (copy := folder / path.relative_to(assets)).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (folder / "shapes/Sphere.blend").write_bytes((assets / "shapes/SmoothCube_v2.blend").read_bytes())
    with pytest.raises(InputError, match="Sphere.blend has no Sphere among its objects"):
        BlenderRenderer(folder)
    (folder / "shapes/Sphere.blend").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="Blender cannot open .*Sphere.blend"):
        BlenderRenderer(folder)
    (folder / "base_scene.blend").write_bytes((assets / "shapes/SmoothCube_v2.blend").read_bytes())
    with pytest.raises(InputError, match="base_scene.blend has no object Camera, so it is not CLEVR's base scene"):
        BlenderRenderer(folder)
    (folder / "base_scene.blend").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="Blender cannot open .*base_scene.blend"):
        BlenderRenderer(folder)
