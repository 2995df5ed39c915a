"""How much of things a camera sees, by projecting their faces, so that no scene depends on a renderer."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int, UInt8

from unscene.data.rendering.camera import project
from unscene.data.rendering.stage import Camera, Thing


def thing_labels(camera: Camera, things: tuple[Thing, ...]) -> UInt8[np.ndarray, "H W"]:
    """The label map in which ``things[i]``, all in front of the camera, has the id i + 1.

    A pixel is the thing at the pixel's centre, as in the label maps of the renderers.
    """
    triangles = np.concatenate([_project(camera, thing) for thing in things])
    owner = np.repeat(np.arange(1, len(things) + 1), [len(thing.mesh.faces) for thing in things])
    face, column, row = _candidates(triangles, camera)
    nearness, inside = _nearness(triangles[face], column + 0.5, row + 0.5)
    order = np.flatnonzero(inside)[np.argsort(nearness[inside], kind="stable")]
    labels = np.zeros((camera.height, camera.width), np.uint8)
    labels[row[order], column[order]] = owner[face[order]]  # of several on one pixel the last stays, the nearest
    return labels


def visible_pixels(camera: Camera, things: tuple[Thing, ...]) -> Int[np.ndarray, " N"]:
    """Of each thing, how many pixels have it at their centre."""
    return np.bincount(thing_labels(camera, things).ravel(), minlength=len(things) + 1)[1:]


def _project(camera: Camera, thing: Thing) -> Float[np.ndarray, "F 3 3"]:
    """Column, row and depth of the corners of the faces."""
    return project(camera, thing.to_world(thing.mesh.vertices))[thing.mesh.faces]


def _candidates(triangles: np.ndarray, camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces with the columns and rows of all pixels whose centres lie in the rectangles around them."""
    places, size = triangles[..., :2], np.array([camera.width, camera.height])
    first = np.maximum(np.ceil(places.min(1) - 0.5), 0).astype(int)  # (F, 2)
    last = np.minimum(np.floor(places.max(1) - 0.5), size - 1).astype(int)
    extent = np.maximum(last - first + 1, 0)
    count = extent.prod(1)
    face = np.repeat(np.arange(len(triangles)), count)
    within = np.arange(len(face)) - np.repeat(count.cumsum() - count, count)
    row, column = np.divmod(within, extent[face, 0])
    return face, column + first[face, 0], row + first[face, 1]


def _nearness(triangles: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 / depth of every triangle (n, 3, 3) at one point (x, y) of the image, and whether the point lies in it."""
    offset = triangles[..., :2] - np.stack([x, y], axis=1)[:, None]
    a, b = np.roll(offset, -1, axis=1), np.roll(offset, -2, axis=1)
    weight = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]  # (n, 3): twice the areas opposite to the corners
    area = weight.sum(1)
    inside = ((weight >= 0).all(1) | (weight <= 0).all(1)) & (area != 0)
    # 1 / depth, not depth, is linear on the image
    return (weight / triangles[..., 2]).sum(1) / np.where(inside, area, 1), inside
