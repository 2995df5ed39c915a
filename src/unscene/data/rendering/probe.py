"""Whether Mitsuba's llvm variant works here: with an LLVM that it cannot use, it ends the whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from unscene.errors import InputError

LLVM, SCALAR = "llvm_ad_rgb", "scalar_rgb"
KNOWN = "UNSCENE_LLVM_WORKS"  # 1 or 0: what the parent process has found out
LIBRARY = "DRJIT_LIBLLVM_PATH"  # Mitsuba's own
PROBE = f"""
import mitsuba as mi
mi.set_variant({LLVM!r})
film = {{"type": "hdrfilm", "width": 4, "height": 4}}
scene = {{"type": "scene", "ball": {{"type": "sphere"}}, "sky": {{"type": "constant"}}}}
scene |= {{"integrator": {{"type": "path"}}, "sensor": {{"type": "perspective", "film": film}}}}
assert mi.render(mi.load_dict(scene), spp=1).array[0] >= 0
"""


def choose_variant(variant: str) -> str:
    """Mitsuba's name of "scalar", "llvm", or with "auto" the faster one that works.

    Raises InputError without Mitsuba, for another name, and for an llvm that does not work.
    """
    if variant not in ("auto", "scalar", "llvm"):
        raise InputError(f"unknown variant {variant!r}; choose one of auto, scalar, llvm")
    if find_spec("mitsuba") is None:
        raise InputError('rendering needs Mitsuba: pip install "unscene[render]"')
    if variant == "scalar":
        return SCALAR
    works = llvm_works()
    if variant == "llvm" and not works:
        raise InputError(f"Mitsuba's llvm variant does not work here; point {LIBRARY} at an LLVM 19, or take scalar")
    return LLVM if works else SCALAR


def fallback_notice() -> str | None:
    """One sentence for who could render faster; None where llvm works."""
    if llvm_works():
        return None
    return (
        "rendering with Mitsuba's scalar variant; llvm takes half the time and needs LLVM 19: "
        f'pip install "unscene[render-llvm]", or set {LIBRARY} to its library'
    )


@lru_cache
def llvm_works() -> bool:
    """Renders a tiny scene in another process, once; child processes inherit the answer.

    Mitsuba looks for LLVM's library where DRJIT_LIBLLVM_PATH points, or else in the system; we look in the Python
    environment before, where wheels and conda put one.
    """
    if LIBRARY not in os.environ and (libraries := sorted(_prefix_libraries())):
        os.environ[LIBRARY] = str(libraries[-1])
    if KNOWN not in os.environ:
        run = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=120, check=False)
        os.environ[KNOWN] = str(int(run.returncode == 0))
    return os.environ[KNOWN] == "1"


def _prefix_libraries() -> list[Path]:
    return list((Path(sysconfig.get_path("data")) / "lib").glob("libLLVM*.so*"))
