"""What CLEVRER's camera sees: which point appears where, and what is in the picture.

The camera is at distance 5 above the x axis and looks at the origin, 30 degrees downwards; its lens is of 35 mm on a
film of 32 mm. These are the numbers in the projection that VRDP (Ding et al., 2021) uses for CLEVRER's videos.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float

from unscene.data.rendering.camera import camera_to_world, project
from unscene.data.rendering.stage import Camera

FULL_FRAME = (320, 480)  # height and width of CLEVRER's videos
DISTANCE, ELEVATION = 5.0, math.radians(30)
HALF_HEIGHT = 16 / 35 * FULL_FRAME[0] / FULL_FRAME[1]  # of the image at depth 1


def clevrer_camera(image_size: tuple[int, int]) -> Camera:
    """CLEVRER's camera with an image (H, W) that shows as much in height, and what then fits in width."""
    height, width = image_size
    location = DISTANCE * np.array([math.cos(ELEVATION), 0, math.sin(ELEVATION)])
    return Camera(location, np.zeros(3), width, height, HALF_HEIGHT * width / height)


def in_picture(camera: Camera, points: Float[np.ndarray, "*batch 3"]) -> Bool[np.ndarray, "*batch"]:
    """Whether the image would show the points if nothing hid them."""
    column, row, depth = project(camera, points.reshape(-1, 3)).T
    inside = (depth > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    return inside.reshape(points.shape[:-1])


def view_planes(camera: Camera) -> Float[np.ndarray, "4 4"]:
    """The planes through the edges of the image: a point's distance from each is (x, y, z, 1) times it, > 0 inside."""
    right, down, forward, location = camera_to_world(camera)[:3].T
    across, along = camera.tangent, camera.tangent * camera.height / camera.width
    normals = np.array([s * side + t * forward for side, t in ((right, across), (down, along)) for s in (1, -1)])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.insert(normals, 3, -normals @ location, axis=1)
