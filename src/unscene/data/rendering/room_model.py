"""The model of Objects Room: its shapes, seven of GQN's rooms and an ellipsoid, and the room itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

HALF, WALL = 3.5, 3.0  # half the length of the walls, which is GQN's, and their height
SEAM = 0.1  # by which walls and floor go on behind each other, so that the sky does not shine through
GRID = 3  # by GRID points a pixel: as fast as OpenGL's antialiasing, nearer to the truth, and without dark seams
MOST = 6  # objects that there can be
SIZES = np.linspace(0.375, 0.625, 8)  # of objects, in the room's unit; as in 3D Shapes eight, the largest 5/3 times


class Shape(NamedTuple):
    """A shape of size 1 around the middle of its height."""

    kind: str  # as MuJoCo calls it
    half: tuple[float, float, float] = (0.0, 0.0, 0.0)  # radii, or half lengths of edges, as MuJoCo wants them
    vertices: Float[np.ndarray, "P 3"] | None = None  # of a mesh: the corners of a convex body
    period: int = 0  # the turn around the vertical that changes nothing, in degrees; 0 if no turn does
    reach: float = 1.0  # from the vertical axis
    height: float = 1.0  # of the middle above the floor


def _cone(radius: float, sides: int = 32) -> Float[np.ndarray, "P 3"]:
    angle = 2 * np.pi * np.arange(sides) / sides
    rim = np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(sides, -1.0)], axis=1)
    return np.concatenate([rim, [[0, 0, 1]]])


def _icosahedron() -> Float[np.ndarray, "12 3"]:
    """Of circumscribed radius 1, on one of its faces: two rings of three corners, and the same turned upside down."""
    rings = []
    for turn, height in ((0.0, np.sqrt((5 + 2 * np.sqrt(5)) / 15)), (np.pi / 3, np.sqrt((5 - 2 * np.sqrt(5)) / 15))):
        angle, radius = turn + 2 * np.pi * np.arange(3) / 3, np.sqrt(1 - height**2)
        rings.append(np.stack([radius * np.cos(angle), radius * np.sin(angle), np.full(3, height)], axis=1))
    return np.concatenate([*rings, *(-ring for ring in rings)])


def _prism(half_width: float, half_height: float, half_length: float) -> Float[np.ndarray, "6 3"]:
    """Of three sides, lying on one of them."""
    triangle = [(-half_width, -half_height), (half_width, -half_height), (0.0, half_height)]
    return np.array([(x, y, z) for y in (-half_length, half_length) for x, z in triangle])


def _convex(vertices: Float[np.ndarray, "P 3"], period: int = 0) -> Shape:
    reach, height = np.hypot(*vertices[:, :2].T).max(), -vertices[:, 2].min()
    return Shape("mesh", vertices=vertices, period=period, reach=reach, height=height)


SHAPES = {
    "box": Shape("box", half=(0.8, 0.8, 0.8), period=90, reach=0.8 * 2**0.5, height=0.8),
    "sphere": Shape("sphere", half=(1.0, 0.0, 0.0)),
    "cylinder": Shape("cylinder", half=(0.8, 0.9, 0.0), reach=0.8, height=0.9),
    "capsule": Shape("capsule", half=(0.65, 0.5, 0.0), reach=0.65, height=1.15),
    "ellipsoid": Shape("ellipsoid", half=(1.15, 0.75, 0.75), period=180, reach=1.15, height=0.75),
    "cone": _convex(_cone(0.9)),
    "icosahedron": _convex(_icosahedron(), period=120),
    "prism": _convex(_prism(0.9, 0.75, 0.8), period=180),
}
PERIOD, REACH, HEIGHT = (np.array([getattr(s, n) for s in SHAPES.values()]) for n in ("period", "reach", "height"))


def describe_room() -> str:
    """The model in MuJoCo's language: floor, walls across x and across y, then the objects. Planes have one side."""
    meshes = [
        f'<mesh name="{name}{level}" vertex="{_numbers(size * shape.vertices)}"/>'
        for name, shape in SHAPES.items()
        if shape.vertices is not None
        for level, size in enumerate(SIZES)
    ]
    middle, half = (WALL - SEAM) / 2, (WALL + SEAM) / 2
    walls = [
        f'<geom type="plane" size="{HALF + SEAM} {half} 1" pos="{x * HALF} {y * HALF} {middle}" '
        f'xyaxes="{y} {-x} 0 0 0 1" material="paint"/>'
        for x, y in ((1, 0), (-1, 0), (0, 1), (0, -1))
    ]
    return f"""
    <mujoco>
      <visual>
        <global offwidth="{64 * GRID}" offheight="{64 * GRID}"/>
        <quality shadowsize="1024" offsamples="0" numquads="24" numslices="40" numstacks="24"/>
        <headlight ambient="0.58 0.58 0.58" diffuse="0 0 0" specular="0 0 0"/>
        <map znear="0.02" zfar="30" shadowscale="0.9"/>
      </visual>
      <statistic center="0 0 0" extent="1"/>
      <asset>
        <texture type="skybox" builtin="gradient" rgb1="0.35 0.55 0.9" rgb2="0.85 0.92 1" width="64" height="384"/>
        <material name="paint" specular="0"/>
        <material name="object" specular="0.2" shininess="0.3"/>
        {"".join(meshes)}
      </asset>
      <worldbody>
        <light type="spot" pos="0.9 0.6 10" dir="-0.06 -0.04 -1" cutoff="44" exponent="1" castshadow="true"
          diffuse="0.38 0.38 0.38" specular="0.3 0.3 0.3" attenuation="1 0 0"/>
        <light type="directional" dir="-0.9 0.35 -0.3" castshadow="false" diffuse="0.2 0.2 0.2" specular="0 0 0"/>
        <camera/>
        <geom type="plane" size="{HALF + SEAM} {HALF + SEAM} 1" material="paint"/>
        {"".join(walls)}
        {'<geom type="sphere" size="1" material="object"/>' * MOST}
      </worldbody>
    </mujoco>"""


def _numbers(values: np.ndarray) -> str:
    return " ".join(str(value) for value in np.round(values, 9).ravel())
