"""BlenderRenderer: CLEVR's original scene files through Cycles, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from unscene.data.rendering import blender_worker
from unscene.data.rendering.blender_assets import SHAPES, Assets, find_assets
from unscene.data.rendering.camera import camera_to_world
from unscene.data.rendering.mitsuba import MOST, noise_seed, to_bytes
from unscene.data.rendering.stage import Camera, Pictures, Stage
from unscene.errors import InputError

PYTHON = "UNSCENE_BLENDER_PYTHON"  # the interpreter that has bpy; by default this one
THREADS = "OMP_NUM_THREADS"  # as everything else that computes here takes it; without it, one thread per core
PATIENCE = 5.0  # seconds that Blender has to finish an image and tidy up
LINES = 3  # of its last words


class BlenderRenderer:
    """Renders a `Stage` with Blender's Cycles on CPUs; the same stage gives the same pixels in any process.

    ``assets`` is the folder image_generation/data of facebookresearch/clevr-dataset-gen (not part of this library):
    ground, lights, shapes and materials are its files'; camera, lamps and objects are where the stage says. ``samples``
    per pixel, 512 in CLEVR; ``denoise`` runs Open Image Denoise, with which 16 do. A pixel of the mask is the object at
    the pixel's centre.

    Blender runs under the Python that UNSCENE_BLENDER_PYTHON names, as bpy exists for few versions of Python and NumPy;
    one process serves all renderers of these assets, with one thread per core unless OMP_NUM_THREADS is set. One such
    process with two threads renders faster than two with one.

    Raises InputError for fewer than 1 sample, if files or bpy are missing, if Blender cannot use them or dies, for
    another ``variant`` than "auto", and for stages with other shapes or an all-round floor.
    """

    def __init__(
        self, assets: str | Path | None, samples: int = 16, denoise: bool = True, variant: str = "auto"
    ) -> None:
        if samples < 1:
            raise InputError(f"samples is {samples}; a pixel needs at least 1")
        if variant != "auto":
            raise InputError(f"variant is {variant!r}, but variants are of Mitsuba; leave it at auto with blender")
        self.assets, self.samples, self.denoise = find_assets(assets), samples, denoise
        self.version, self.digest = _process(self.assets).version, self.assets.digest()

    def describe(self) -> dict[str, str]:
        """What the pixels depend on, apart from the stage."""
        return {
            "renderer": f"blender {self.version}",
            "assets": self.digest,
            "samples": str(self.samples),
            "denoiser": "oidn, as in Blender" if self.denoise else "none",
        }

    def render(self, stage: Stage) -> Pictures:
        """Images and label maps of all cameras of the stage."""
        _check(stage)
        process, scene = _process(self.assets), _scene(stage)
        options = {"samples": self.samples, "denoise": self.denoise, "seed": noise_seed(stage) % 2**31}
        views = [process.view(camera, scene | options) for camera in stage.cameras]
        light, labels = (np.stack(part) for part in zip(*views, strict=True))
        return Pictures(to_bytes(light), labels)


class BlenderProcess:
    """The process, and what is said to it; `blender_worker` is its side. It ends when it is let go, or with us."""

    def __init__(self, python: str, assets: Assets) -> None:
        if shutil.which(python) is None:
            raise InputError(f"{PYTHON} is {python}, which is no program that can be run")
        folder, log = tempfile.mkdtemp(prefix="unscene-blender-"), tempfile.TemporaryFile()  # noqa: SIM115 (_end closes)
        command = [python, "-P", blender_worker.__file__, folder]  # -P: what lies beside the worker is not for it
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self._process, self._log, self._key = process, log, (os.getpid(), python, assets)
        self._end = weakref.finalize(self, _end, process, log, folder, os.getpid())
        threads = os.environ.get(THREADS, "")
        settings = {"threads": int(threads) if threads.isdecimal() else 0}
        files = {"base": str(assets.base), "shapes": assets.shapes, "materials": assets.materials}
        self.version: str = self._ask(settings | files)["version"]

    def view(self, camera: Camera, scene: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Light (H, W, 3) float32 and labels (H, W) uint8 of what one camera sees."""
        pose = camera_to_world(camera) * (1, -1, -1, 1)  # Blender's y is up, and it looks along -z
        view = {"size": [camera.width, camera.height], "pose": pose.tolist(), "tangent": camera.tangent}
        view["shift"] = -camera.shift * camera.height / camera.width  # up, in widths
        pixels = self._ask(dict(scene) | view)["pixels"]
        size = (camera.height, camera.width)
        light = np.frombuffer(pixels, "<f4", 3 * size[0] * size[1]).reshape(*size, 3)
        return light, np.frombuffer(pixels, np.uint8, offset=light.nbytes).reshape(size)

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            answer = self._exchange(request)
        except BaseException:  # Ctrl-C too: the answer would be taken for that to the next question
            self._end()
            _processes.pop(self._key, None)
            raise
        return answer

    def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        process = self._process
        with suppress(BrokenPipeError):  # then it has said why, or died
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
        line = process.stdout.readline()
        try:
            answer = json.loads(line) if line else self._fail()
        except json.JSONDecodeError:
            raise InputError(f"{PYTHON} is {process.args[0]}, which does not answer as Python would") from None
        if "error" in answer:
            raise InputError(answer["error"])
        if "lacks_bpy" in answer:
            raise InputError(_advice(process.args[0], answer["lacks_bpy"]))
        if "bytes" in answer:
            answer["pixels"] = process.stdout.read(answer["bytes"])
            if len(answer["pixels"]) < answer["bytes"]:
                self._fail()
        return answer

    def _fail(self) -> Any:
        code = self._process.wait()
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        raise InputError(
            f"Blender's process died (exit code {code}): {' / '.join(lines[-LINES:]) or 'it said nothing'}"
        )


_processes: dict[tuple[int, str, Assets], BlenderProcess] = {}  # the first number is ours: a fork starts its own


def _process(assets: Assets) -> BlenderProcess:
    key = (os.getpid(), os.environ.get(PYTHON) or sys.executable, assets)
    if key not in _processes:
        _processes[key] = BlenderProcess(*key[1:])
    return _processes[key]


def _end(process: subprocess.Popen[bytes], log: IO[bytes], folder: str, owner: int) -> None:
    if os.getpid() != owner:  # a fork has copies of our pipes, but the process is not its own
        return
    process.stdout.close()  # or it would wait for us to take an answer
    with suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    log.close()
    shutil.rmtree(folder, ignore_errors=True)  # it has done so itself, unless it was killed


def _advice(python: str, version: str) -> str:
    """What to install, and where: each bpy is for one version of Python, and that for 3.11 needs NumPy 1."""
    return (
        f"rendering with Blender needs bpy, which {python} (Python {version}) lacks: pip install it into a virtual "
        f"environment of Python 3.13 (or of 3.11, then bpy==5.0.*), and let {PYTHON} name the interpreter there"
    )


def _check(stage: Stage) -> None:
    if stage.floor != "backdrop":
        raise InputError("CLEVR's base scene has no floor for views from all sides; render these with mitsuba")
    if len(stage.things) > MOST:
        raise InputError(f"the stage has {len(stage.things)} things, and a label map room for {MOST}; take some away")
    if others := {thing.mesh.name for thing in stage.things} - SHAPES.keys():
        raise InputError(
            f"Blender has files of {', '.join(SHAPES)}, not of {', '.join(sorted(others))}; render these with mitsuba"
        )


def _scene(stage: Stage) -> dict[str, Any]:
    things = [(each.mesh.name, each.pose.tolist(), [*map(float, each.color)], each.material) for each in stage.things]
    return {"lamps": stage.lamps.tolist(), "things": things}
