"""OpenGL without a screen: the context in which MuJoCo draws."""

from __future__ import annotations

import os
import sys
from ctypes.util import find_library
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from unscene.errors import InputError

PLATFORMS = {"egl": "EGL", "osmesa": "OSMesa"}  # that draw without a screen on Linux, and their libraries, best first


def import_mujoco() -> Any:
    """The package. Raises InputError where it is missing, or refuses MUJOCO_GL."""
    if find_spec("mujoco") is None:
        raise InputError('MuJoCo, which draws these scenes, is missing; pip install "unscene[render]"')
    _choose_platform()
    try:
        return import_module("mujoco")
    except Exception as error:  # of ctypes, PyOpenGL or MuJoCo: it imports the platform right away
        raise _unusable(error) from error


def open_gl(model: Any) -> tuple[Any, Any]:
    """An OpenGL context that is current in this thread, and MuJoCo's own with what it needs to draw ``model``.

    MUJOCO_GL says how, as it does for MuJoCo; where it is not set, this sets it to the first of PLATFORMS that is
    installed. Raises InputError where that does not work.
    """
    mujoco, platform = import_mujoco(), _choose_platform()
    # The threads of Mesa's software renderer do not outlive a fork, gain nothing on small pictures, and would take
    # the cores of other workers
    os.environ.setdefault("LP_NUM_THREADS", "0")
    try:
        # MuJoCo's own choice is that of MUJOCO_GL at its first import, which may have been before
        source = import_module(f"mujoco.{platform}") if platform in PLATFORMS else mujoco
        gl = source.GLContext(64, 64)
        gl.make_current()
        return gl, mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
    except Exception as error:  # of ctypes, PyOpenGL, glfw or MuJoCo: each has its own kinds
        raise _unusable(error) from error


def _choose_platform() -> str:
    if sys.platform == "linux" and not os.environ.get("MUJOCO_GL"):
        installed = [platform for platform, library in PLATFORMS.items() if find_library(library)]
        os.environ["MUJOCO_GL"] = [*installed, *PLATFORMS][0]
    return os.environ.get("MUJOCO_GL", "").lower().strip()


def _unusable(error: Exception) -> InputError:
    reason = " ".join(str(error).split()).rstrip(".")
    return InputError(
        f"cannot draw with OpenGL, MUJOCO_GL being {os.environ.get('MUJOCO_GL')!r} ({reason}); install the Debian "
        "packages libegl1 libegl-mesa0 libgl1-mesa-dri and set MUJOCO_GL to egl, or to osmesa or glfw if you have these"
    )


def describe_gl() -> str:
    """Who draws in the current context: the device and the driver, with its version."""
    gl = import_module("OpenGL.GL")
    return ", ".join(gl.glGetString(name).decode() for name in (gl.GL_RENDERER, gl.GL_VERSION))
