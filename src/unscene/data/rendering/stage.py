"""What a renderer is told and what it gives back: the words that the scenes and the renderers share.

Lengths are in CLEVR's unit, z points upwards, the ground is z = 0; angles are in radians unless a name says degrees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

Material = Literal["rubber", "metal"]


@dataclass(frozen=True, eq=False)  # meshes are shared, and known by their identity
class Mesh:
    """A closed surface in its own axes, of which a `Thing` says how large it is and where it stands."""

    name: str
    vertices: Float[np.ndarray, "P 3"]
    faces: Int[np.ndarray, "F 3"]  # indices of vertices, counter-clockwise seen from outside
    normals: Float[np.ndarray, "P 3"] | None = None  # of the vertices; None leaves the faces flat


class Thing(NamedTuple):
    """An object of the scene."""

    mesh: Mesh
    pose: Float[np.ndarray, "4 4"]  # from the mesh's axes to the world's: scale, turn, then place
    color: tuple[float, float, float]  # RGB in [0, 1], as renderers take it: linear
    material: Material

    def to_world(self, points: Float[np.ndarray, "P 3"]) -> Float[np.ndarray, "P 3"]:
        """Points given in the mesh's axes."""
        return points @ self.pose[:3, :3].T + self.pose[:3, 3]


class Camera(NamedTuple):
    """A pinhole whose image is upright: the vertical of the world is vertical in the middle of it."""

    location: Float[np.ndarray, " 3"]
    target: Float[np.ndarray, " 3"]
    width: int
    height: int
    tangent: float  # half the image's width at depth 1
    shift: float = 0.0  # how far the image is moved down on the image plane, in its own heights


class Stage(NamedTuple):
    """One scene; all cameras see the same moment. Object k of the label map is things[k - 1]."""

    things: tuple[Thing, ...]
    cameras: tuple[Camera, ...]  # all of one size
    lamps: Float[np.ndarray, "M 3"]  # where CLEVR's three lamps are: key, fill, back
    floor: Literal["backdrop", "full"]  # CLEVR's curved sheet, which is open towards the camera, or a round floor


class Pictures(NamedTuple):
    """What the cameras see."""

    image: UInt8[np.ndarray, "V H W 3"]
    mask: UInt8[np.ndarray, "V H W"]  # label map: 0 is the floor and all that is no object
