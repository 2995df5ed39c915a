"""Where cameras look, which rays their pixels follow, and where points of the world appear."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from unscene.data.rendering.stage import Camera


def camera_to_world(camera: Camera) -> Float[np.ndarray, "4 4"]:
    """The camera's axes in the world: x to the right of the image, y down, z the line of sight; then its location."""
    forward = _unit(np.asarray(camera.target) - camera.location)
    right = _unit(np.cross(forward, (0.0, 0.0, 1.0)))
    pose = np.eye(4)
    pose[:3] = np.stack([right, np.cross(forward, right), forward, camera.location], axis=1)
    return pose


def project(camera: Camera, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Column and row, from the image's top left corner in pixels, and depth at which points of the world appear."""
    pose = camera_to_world(camera)
    x, y, depth = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    pixels = camera.width / 2 / camera.tangent / depth
    return np.stack([camera.width / 2 + x * pixels, _middle(camera) + y * pixels, depth], axis=1)


def window(pixels: Float[np.ndarray, "N 3"]) -> tuple[slice, slice]:
    """The rows and columns of the rectangle around points as `project` gives them; they may end beyond the image."""
    return tuple(slice(max(int(x.min()), 0), max(int(x.max()) + 1, 0)) for x in (pixels[:, 1], pixels[:, 0]))


def pixel_rays(camera: Camera) -> Float[np.ndarray, "H W 3"]:
    """Directions of the world, of depth 1, in which the centres of the pixels lie."""
    pitch = 2 * camera.tangent / camera.width
    x = (np.arange(camera.width) + 0.5 - camera.width / 2) * pitch
    y = (np.arange(camera.height) + 0.5 - _middle(camera)) * pitch
    rays = np.stack(np.broadcast_arrays(x, y[:, None], 1.0), axis=-1)
    return rays @ camera_to_world(camera)[:3, :3].T


def _middle(camera: Camera) -> float:
    """The row of the line of sight."""
    return camera.height * (0.5 - camera.shift)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
