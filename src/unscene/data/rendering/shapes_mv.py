"""ShapesViews: general shapes seen from several sides, after the Dolphin set, rendered on demand."""

from __future__ import annotations

import hashlib
from pathlib import Path

from unscene.data.rendering.general_meshes import general_meshes
from unscene.data.rendering.mesh_files import mesh_paths, read_mesh
from unscene.data.rendering.mesh_views import MeshViews
from unscene.data.rendering.views_layout import Recipe
from unscene.errors import InputError

SIZES = (0.95, 0.75)  # large and small: radius of a sphere that looks as large, see `unit_mesh`
NOTCHES = 12  # steps of 30 degrees
MOST_SHAPES = 255  # that a factor of bytes tells apart


class ShapesViews(MeshViews):
    """As `CLEVRViews`, with other objects: twelve general shapes, or the meshes of a folder.

    The shapes are cushion, spindle, caltrop, torus, knot, cone, bottle, goblet, mushroom, star, cross and twist; with
    ``meshes``, a folder, they are its .ply and .obj files, in the order of their names (`read_mesh`: closed surfaces of
    at most 20,000 faces, the z axis upwards). Each stands on its lowest point. ``shape`` counts them from 1 on;
    `shape_names` has their names. ``size`` 1 (large) and 2 (small) are the radii 0.95 and 0.75 of spheres that look as
    large (`unit_mesh`). Objects are turned by multiples of 30 degrees, give or take 2; ``position`` is the middle of
    the object's extent before it is turned.

    Raises InputError as `CLEVRViews` does, for a folder without meshes or with more than 255, and for files that are
    damaged, open, or else unusable; later, for meshes so thin that no scene shows enough of all objects.

    Source: the Dolphin set of the LDS prior's multi-view experiments, and MulMON's generator. Not faithful: that set
    has the meshes of a duck, a horse and a dolphin besides cubes and spheres, which we do not have.
    """

    def __init__(
        self,
        num_scenes: int = 3_000,
        seed: int = 0,
        split: str = "train",
        views: int = 10,
        image_size: int = 64,
        fewest: int = 3,
        most: int = 6,
        meshes: str | None = None,
        samples: int = 16,
        denoise: bool = True,
        variant: str = "auto",
        grayscale: bool = False,
    ) -> None:
        paths = [] if meshes is None else mesh_paths(meshes)
        if len(paths) > MOST_SHAPES:
            raise InputError(f"{meshes} has {len(paths)} meshes; leave at most {MOST_SHAPES} there")
        self._origin = {"meshes": _digest(paths)} if paths else {}
        shapes = tuple(map(read_mesh, paths)) or general_meshes()
        options = (views, image_size, fewest, most, samples, denoise, variant, grayscale)
        super().__init__(Recipe(shapes, SIZES, NOTCHES), num_scenes, seed, split, *options)

    def provenance(self) -> dict[str, str]:
        return super().provenance() | self._origin


def _digest(paths: list[Path]) -> str:
    """Of what the files hold, in this order."""
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()
