"""How much of solids a camera sees, without a renderer, so that no scene depends on one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, UInt8

from unscene.data.rendering.camera import pixel_rays, project, window
from unscene.data.rendering.stage import Camera
from unscene.data.solids import INFINITY, SHAPES, Solid

CORNERS = np.array(list(np.ndindex(2, 2, 2))) * 2.0 - 1  # of a box that holds any solid of size 1


def solid_labels(camera: Camera, solids: list[Solid]) -> UInt8[np.ndarray, "H W"]:
    """The label map in which ``solids[i]`` has the id i + 1: what the rays through the pixels' centres meet first."""
    rays = pixel_rays(camera)
    depth = np.full(rays.shape[:2], INFINITY)
    labels = np.zeros(rays.shape[:2], np.uint8)
    for i, solid in enumerate(solids, start=1):
        near = window(project(camera, solid.location + solid.size * CORNERS))
        directions = rays[near]
        offset = solid.own_axes((camera.location - solid.location)[None] / solid.size)
        own = solid.own_axes(directions.reshape(-1, 3) / solid.size)
        t = SHAPES[solid.shape][0](offset, own).reshape(directions.shape[:2])
        nearer = t < depth[near]
        depth[near][nearer], labels[near][nearer] = t[nearer], i
    return labels


def visible_pixels(camera: Camera, solids: list[Solid]) -> Int[np.ndarray, " N"]:
    """Of each solid, how many pixels have its centre on it."""
    return np.bincount(solid_labels(camera, solids).ravel(), minlength=len(solids) + 1)[1:]
