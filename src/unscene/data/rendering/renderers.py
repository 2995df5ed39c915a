"""The renderers by name; their packages are imported when they are first used."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from unscene.data.rendering.stage import Pictures, Stage
from unscene.errors import InputError


@runtime_checkable
class Renderer(Protocol):
    """What the datasets need of a renderer."""

    def render(self, stage: Stage) -> Pictures:
        """Images and label maps of all cameras."""

    def describe(self) -> dict[str, str]:
        """What the pixels depend on, apart from the stage."""


def open_renderer(name: str, samples: int, denoise: bool, variant: str, assets: str | Path | None = None) -> Renderer:
    """InputError for an unknown name, for unusable options and where the package is missing.

    ``assets`` is the folder of CLEVR's scene files, which blender needs, and mitsuba does not.
    """
    if name == "blender":
        from unscene.data.rendering.blender import BlenderRenderer

        return BlenderRenderer(assets, samples, denoise, variant)
    if name != "mitsuba":
        raise InputError(f"unknown renderer {name!r}; there is only mitsuba, and for CLEVR blender")
    if assets is not None:
        raise InputError(f"assets is {assets}, but only the renderer blender takes them; set renderer to blender")
    from unscene.data.rendering.mitsuba import MitsubaRenderer

    return MitsubaRenderer(samples, denoise, variant)
