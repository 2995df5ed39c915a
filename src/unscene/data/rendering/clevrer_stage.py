"""A frame of a CLEVRER-like video as a renderer takes it: in CLEVR's unit, under CLEVR's lamps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from unscene.data.rendering.clevr_layout import CAMERA, COLORS, LAMPS, MESHES
from unscene.data.rendering.clevrer_physics import RADIUS, Tracks
from unscene.data.rendering.clevrer_start import Start
from unscene.data.rendering.clevrer_view import DISTANCE
from unscene.data.rendering.stage import Camera, Stage, Thing

# From CLEVRER's world to CLEVR's: turned and enlarged until the cameras are, but for half a unit, at the same place
SCALE, (COS, SIN) = np.linalg.norm(CAMERA) / DISTANCE, CAMERA[:2] / np.linalg.norm(CAMERA[:2])
MOVE = np.array([[SCALE * COS, -SCALE * SIN, 0, 0], [SCALE * SIN, SCALE * COS, 0, 0], [0, 0, SCALE, 0], [0, 0, 0, 1]])


def clevrer_stage(start: Start, tracks: Tracks, t: int, camera: Camera) -> Stage:
    """Frame ``t``; the floor is flat, as CLEVR's sheet rises where objects may go. ``camera`` is in CLEVRER's world."""
    poses = MOVE @ _pose(tracks.location[:, t], tracks.angle[:, t])
    things = tuple(
        Thing(MESHES[shape](), pose, _rgb(color), material)
        for (color, material, shape), pose in zip(start.kinds, poses, strict=True)
    )
    location, target = (MOVE[:3, :3] @ place for place in (camera.location, camera.target))
    return Stage(things, (camera._replace(location=location, target=target),), LAMPS, "full")


def outlines(
    start: Start, location: Float[np.ndarray, "n T 3"], angle: Float[np.ndarray, "n T"]
) -> Iterator[Float[np.ndarray, "T P 3"]]:
    """The vertices of one object after the other in T frames, in CLEVRER's world."""
    for (_, _, shape), pose in zip(start.kinds, _pose(location, angle), strict=True):
        yield MESHES[shape]().vertices @ pose[:, :3, :3].mT + pose[:, None, :3, 3]


def _pose(
    location: Float[np.ndarray, "*batch 3"], angle: Float[np.ndarray, "*batch"]
) -> Float[np.ndarray, "*batch 4 4"]:
    """From the axes of the meshes, which are 2 high."""
    pose = np.zeros((*angle.shape, 4, 4))
    cos, sin = np.cos(angle), np.sin(angle)
    pose[..., 0, 0], pose[..., 0, 1], pose[..., 1, 0], pose[..., 1, 1] = cos, -sin, sin, cos
    pose[..., 2, 2] = 1
    pose *= RADIUS
    pose[..., :3, 3], pose[..., 3, 3] = location, 1
    return pose


def _rgb(color: str) -> tuple[float, float, float]:
    red, green, blue = COLORS[color]
    return red / 255, green / 255, blue / 255
