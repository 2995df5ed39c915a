"""What `BlenderRenderer` says to its process and what it makes of the answers, with scripts in Blender's place."""

import json
import os
import pickle
import signal
import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from unscene.data.rendering import blender, meshes
from unscene.data.rendering.blender import PYTHON, BlenderRenderer
from unscene.data.rendering.renderers import open_renderer
from unscene.data.rendering.stage import Camera, Mesh, Stage, Thing
from unscene.errors import InputError

FILES = ["base_scene", "shapes/SmoothCube_v2", "shapes/Sphere", "shapes/SmoothCylinder"]
FILES += ["materials/Rubber", "materials/MyMetal"]
CAMERA = Camera(np.array([3.0, -4.0, 0.0]), np.zeros(3), width=6, height=4, tangent=0.5, shift=0.25)
BALL = Thing(meshes.sphere(), np.diag([2.0, 2, 2, 1]), (1.0, 0.5, 0.25), "metal")
STAGE = Stage((BALL,), (CAMERA, CAMERA._replace(width=6, tangent=0.25)), np.arange(9.0).reshape(3, 3), "backdrop")

# Light is 1, 0.2140 (sRGB 0.5) and 0 in red, green and blue; labels count up; what it is asked goes to a file
SPEAKS = """
import json, os, struct, sys
def answer(**words): print(json.dumps(words | {"pid": os.getpid()}), flush=True)
asked = open(__file__ + ".asked", "a")
for i, line in enumerate(sys.stdin):
    print(line, end="", file=asked, flush=True)
    if i == 0:
        answer(version="9.9")
        continue
    columns, rows = json.loads(line)["size"]
    answer(bytes=13 * columns * rows)
    light = struct.pack("<3f", 1.0, 0.21404114, 0.0) * (columns * rows)
    sys.stdout.buffer.write(light + bytes(range(columns * rows)))
    sys.stdout.flush()
print(os.getpid(), file=open(__file__ + ".ended", "a"))
"""
DIES = SPEAKS.replace(
    "    answer(bytes", "    sys.stderr.write('one\\n\\ntwo\\nthree\\nfour\\n'); os._exit(7)\n    answer(bytes"
)
DIES_LATE = SPEAKS.replace("bytes(range(columns * rows))", "b''")
HANGS_ONCE = SPEAKS.replace(
    "    answer(bytes",
    "    if not os.path.exists(__file__ + '.ended'):\n        sys.stdin.read(); break\n    answer(bytes",
)


@pytest.fixture
def assets(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "assets" / f"{name}.blend"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "assets"


@pytest.fixture
def interpreter(tmp_path: Path, monkeypatch):
    """Makes a script the interpreter that has bpy."""

    def install(script: str) -> Path:
        path = tmp_path / "python"
        path.write_text(f"#!{sys.executable}\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv(PYTHON, str(path))
        return path

    yield install
    for process in blender._processes.values():
        process._end()
    blender._processes.clear()


def _asked(path: Path) -> list[dict]:
    return [json.loads(line) for line in Path(f"{path}.asked").read_text().splitlines()]


def _ended(path: Path) -> list[str]:
    return Path(f"{path}.ended").read_text().split()


def test_pictures_are_made_of_light_and_labels(assets, interpreter):
    interpreter(SPEAKS)
    image, mask = BlenderRenderer(assets).render(STAGE)
    assert image.shape == (2, 4, 6, 3) and image.dtype == np.uint8
    assert (image == [255, 128, 0]).all()  # sRGB of the light: 0.214 is half as bright
    assert mask.dtype == np.uint8 and (mask == np.arange(24).reshape(4, 6)).all()


def test_what_the_process_is_asked(assets, interpreter, monkeypatch):
    path = interpreter(SPEAKS)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    renderer = BlenderRenderer(assets, samples=5, denoise=False)
    renderer.render(STAGE)
    renderer.render(STAGE)
    setting, first, second, *again = _asked(path)
    assert setting["threads"] == 3 and setting["base"] == f"{assets}/base_scene.blend"
    assert setting["shapes"]["cube"] == [f"{assets}/shapes/SmoothCube_v2.blend", "SmoothCube_v2"]
    assert setting["materials"]["metal"] == [f"{assets}/materials/MyMetal.blend", "MyMetal"]
    # Blender's camera at (3, -4, 0) that looks at the centre: its x is right of the image, y up, z backwards
    right, up, back = (0.8, 0.6, 0), (0, 0, 1), (0.6, -0.8, 0)
    np.testing.assert_allclose(first["pose"], np.vstack([np.c_[right, up, back, (3, -4, 0)], (0, 0, 0, 1)]), atol=1e-12)
    assert first["size"] == [6, 4] and (first["tangent"], second["tangent"]) == (0.5, 0.25)
    assert first["shift"] == pytest.approx(-0.25 * 4 / 6)  # of the view, upwards, in widths
    assert first["things"] == [["sphere", BALL.pose.tolist(), [1.0, 0.5, 0.25], "metal"]]
    assert first["lamps"] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert (first["samples"], first["denoise"]) == (5, False)
    assert again == [first, second]  # the same stage has the same noise


def test_noise_differs_between_stages(assets, interpreter):
    path = interpreter(SPEAKS)
    for lamps in (STAGE.lamps, STAGE.lamps + 1):
        BlenderRenderer(assets).render(STAGE._replace(lamps=lamps))
    seeds = {request["seed"] for request in _asked(path)[1:]}
    assert len(seeds) == 2 and max(seeds) < 2**31


def test_provenance_follows_the_files(assets, interpreter):
    interpreter(SPEAKS)
    before = BlenderRenderer(assets, denoise=False).describe()
    assert before["renderer"] == "blender 9.9"
    assert (before["samples"], before["denoiser"]) == ("16", "none")
    (assets / "materials/Rubber.blend").write_text("another")
    after = BlenderRenderer(assets, denoise=False).describe()
    assert after.pop("assets") != before.pop("assets") and after == before


def test_one_process_serves_all_renderers_and_copies(assets, interpreter):
    path = interpreter(SPEAKS)
    renderer = BlenderRenderer(assets)
    for each in (renderer, BlenderRenderer(assets, samples=4), pickle.loads(pickle.dumps(renderer))):
        each.render(STAGE)
    assert len(_asked(path)) == 1 + 3 * 2  # views; opened once


def test_the_process_ends_with_ours(assets, interpreter, tmp_path):
    path = interpreter(SPEAKS)
    script = f"from unscene.data.rendering.blender import BlenderRenderer\nBlenderRenderer({str(assets)!r})"
    assert os.spawnv(os.P_WAIT, sys.executable, [sys.executable, "-c", script]) == 0
    assert len(_ended(path)) == 1


def test_interrupted_rendering_leaves_no_answer_behind(assets, interpreter):
    path = interpreter(HANGS_ONCE)
    renderer = BlenderRenderer(assets)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)  # as Ctrl-C would
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(KeyboardInterrupt):
            renderer.render(STAGE)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(_ended(path)) == 1
    assert renderer.render(STAGE).image.shape == (2, 4, 6, 3)  # by another process


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (DIES, r"Blender's process died \(exit code 7\): two / three / four$"),
        (DIES_LATE, r"Blender's process died \(exit code 0\): it said nothing$"),
        ('print(\'{"error": "no object Camera"}\')', "^no object Camera$"),
        ("print('Blender 2.78')", "which does not answer as Python would"),
        ("import sys; sys.exit('no such option')", r"died \(exit code 1\): no such option$"),
    ],
)
def test_failures_of_the_process_are_one_sentence(assets, interpreter, script, message):
    stage = STAGE._replace(cameras=STAGE.cameras[:1])
    if script == DIES_LATE:
        script = script.replace("    sys.stdout.flush()", "    sys.stdout.flush(); break")
    interpreter(script)
    with pytest.raises(InputError, match=message) as caught:
        BlenderRenderer(assets).render(stage)
    assert "\n" not in str(caught.value)


def test_renderer_is_known_by_its_name(assets, interpreter):
    interpreter(SPEAKS)
    renderer = open_renderer("blender", 7, False, "auto", assets)
    assert isinstance(renderer, BlenderRenderer) and (renderer.samples, renderer.denoise) == (7, False)
    with pytest.raises(InputError, match="only the renderer blender takes them; set renderer to blender"):
        open_renderer("mitsuba", 7, False, "auto", assets)


def test_python_without_bpy(assets, interpreter):
    """The worker itself, under an interpreter that sees no packages at all."""
    interpreter("import os, sys; os.execv(sys.executable, [sys.executable, '-S', *sys.argv[1:]])")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    with pytest.raises(InputError, match=rf"\(Python {version}\) lacks: pip install it .* Python 3.13 .* {PYTHON}"):
        BlenderRenderer(assets)


def test_interpreter_that_does_not_exist(assets, monkeypatch):
    monkeypatch.setenv(PYTHON, "/nowhere/python")
    with pytest.raises(InputError, match=f"{PYTHON} is /nowhere/python, which is no program that can be run"):
        BlenderRenderer(assets)


def test_missing_assets(assets, tmp_path):
    with pytest.raises(InputError, match="blender needs CLEVR's scene files; name their folder in assets: image_gen"):
        BlenderRenderer(None)
    with pytest.raises(InputError, match="there is no folder .*/nowhere; assets should be image_generation/data"):
        BlenderRenderer(tmp_path / "nowhere")
    for name in ("shapes/Sphere", "materials/MyMetal"):
        (assets / f"{name}.blend").unlink()
    with pytest.raises(InputError, match=r"assets lacks shapes/Sphere.blend, materials/MyMetal.blend; assets should"):
        BlenderRenderer(assets)


def test_unusable_options_and_stages(assets, interpreter):
    with pytest.raises(InputError, match="samples is 0; a pixel needs at least 1"):
        BlenderRenderer(assets, samples=0)
    with pytest.raises(InputError, match="variant is 'llvm', but variants are of Mitsuba; leave it at auto"):
        BlenderRenderer(assets, variant="llvm")
    interpreter(SPEAKS)
    renderer = BlenderRenderer(assets)
    with pytest.raises(InputError, match="no floor for views from all sides; render these with mitsuba"):
        renderer.render(STAGE._replace(floor="full"))
    duck = Mesh("duck", BALL.mesh.vertices, BALL.mesh.faces)
    with pytest.raises(InputError, match="files of cube, sphere, cylinder, not of duck; render these with mitsuba"):
        renderer.render(STAGE._replace(things=(BALL, BALL._replace(mesh=duck))))
    with pytest.raises(InputError, match="the stage has 256 things, and a label map room for 255"):
        renderer.render(STAGE._replace(things=(BALL,) * 256))
