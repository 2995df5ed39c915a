"""Meshes from PLY and OBJ files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from unscene.data.rendering.stage import Mesh
from unscene.data.rendering.unit_mesh import unit_mesh, volume
from unscene.errors import InputError

SUFFIXES = {".ply", ".obj"}
MOST_FACES = 20_000
THINNEST = 1e-6  # volume, of a cube with the mesh's extent as its edge

Surface = tuple[Float[np.ndarray, "P 3"], Int[np.ndarray, "F 3"]]


def mesh_paths(folder: str | Path) -> list[Path]:
    """The .ply and .obj files of a folder by their names, hidden ones left out; InputError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; set meshes to one with .ply or .obj files")
    visible = (path for path in folder.iterdir() if not path.name.startswith("."))
    paths = sorted(path for path in visible if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise InputError(f"{folder} has no .ply or .obj files; put some there, or set meshes to another folder")
    return paths


def read_mesh(path: Path) -> Mesh:
    """The mesh of a file, with its name, of unit size (`unit_mesh`); the z axis of the file points upwards.

    Vertices at the same place count as one, polygons are cut into triangles, and what is inside out is turned; colours,
    textures and normals of the file are left out.
    Raises InputError without trimesh, for a damaged file, and for a surface that is empty, open, inconsistently
    oriented, without volume, or of more than 20,000 faces.
    """
    vertices, faces = _merge(*_read(path))
    if len(faces) == 0:
        raise InputError(f"{path} has no faces; leave it out, or export it again as a mesh of triangles")
    if len(faces) > MOST_FACES:
        raise InputError(f"{path} has {len(faces):,} faces; simplify it to at most {MOST_FACES:,}")
    _check_closed(path, faces)
    if abs(volume(vertices, faces)) <= THINNEST * np.ptp(vertices, axis=0).max() ** 3:
        raise InputError(f"{path} encloses no volume; give it a thickness, or leave it out")
    return unit_mesh(path.stem, vertices, faces)


def _read(path: Path) -> Surface:
    try:
        import trimesh
    except ImportError:
        raise InputError('reading meshes needs trimesh: pip install "unscene[render]"') from None
    try:
        mesh = trimesh.load(str(path), force="mesh", process=False, skip_materials=True)
    except Exception as error:  # its parsers raise whatever they stumble over
        raise InputError(f"cannot read {path}: {error}; export it again") from error
    vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    if not np.isfinite(vertices).all() or (faces.size and not 0 <= faces.min() <= faces.max() < len(vertices)):
        raise InputError(f"cannot read {path}: it has vertices without coordinates; export it again")
    return vertices, faces


def _merge(vertices: np.ndarray, faces: np.ndarray) -> Surface:
    """One vertex per place, and no faces without three."""
    vertices, index = np.unique(vertices, axis=0, return_inverse=True)
    faces = index.reshape(-1)[faces].reshape(-1, 3)
    return vertices, faces[(faces != np.roll(faces, 1, axis=1)).all(1)]


def _check_closed(path: Path, faces: np.ndarray) -> None:
    """Every edge has as many faces on its one side as on its other."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    edges, which = np.unique(np.sort(np.stack([start, end], axis=1), axis=1), axis=0, return_inverse=True)
    which = which.reshape(-1)
    if odd := int((np.bincount(which) % 2).sum()):
        raise InputError(f"{path} is open: {odd} of its {len(edges)} edges end a surface; close its holes")
    if np.bincount(which, weights=np.where(start < end, 1, -1)).any():
        raise InputError(f"{path} has faces that look inwards next to others that look outwards; make them consistent")
