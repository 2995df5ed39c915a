"""Pictures of solids on a ground plane from several cameras: every ray against every solid near it.

Lengths are in CLEVR's unit; z points upwards and the ground is z = 0. A ray is location + t (forward + a right +
b down) of its camera, so that t is the depth of what it meets, and the smallest t tells who is seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from unscene.data.solids import INFINITY, SHAPES, Solid, Vector

FOCAL = 1.1  # distance of the image plane, in image widths: a field of view of 49 degrees
RAYS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]]) / 4  # of a pixel: rows and columns from its centre
AMBIENT = 0.45
LIGHTS = (((0.5, -0.35, 0.8), 0.55), ((-0.7, 0.5, 0.3), 0.25))  # where the key and the fill light are, how strong
GROUND, FADE = 0.65, 12.0  # gray at the centre; at this distance from it half of that
OCTAGON = np.arange(8) * np.pi / 4
# (16, 3): corners of the prism around any solid of size 1
HULL = np.array([[np.cos(x), np.sin(x), z * np.cos(np.pi / 8)] for x in OCTAGON for z in (-1, 1)]) / np.cos(np.pi / 8)


@dataclass(frozen=True)
class Cameras:
    """V cameras with square images of ``size`` pixels; the first four (V, 3): where they are, and their axes."""

    location: np.ndarray
    right: np.ndarray
    down: np.ndarray
    forward: np.ndarray
    ground: np.ndarray  # (V, size, size) float32: what they see without objects
    size: int

    def __getitem__(self, views: np.ndarray) -> Cameras:
        """Some of them."""
        arrays = (self.location, self.right, self.down, self.forward, self.ground)
        return Cameras(*(array[views] for array in arrays), self.size)

    def project(self, points: np.ndarray) -> np.ndarray:
        """(V, P, 2): the rows and columns at which points (P, 3) appear; centres of pixels are whole numbers."""
        offset = points - self.location[:, None]
        below, across, depth = ((offset * axis[:, None]).sum(-1) for axis in (self.down, self.right, self.forward))
        return (np.stack([below, across], axis=-1) / depth[..., None] * FOCAL + 0.5) * self.size - 0.5

    def plane(self, pixels: np.ndarray) -> np.ndarray:
        """Where rows or columns lie on the image plane at depth 1, from its centre."""
        return (((pixels + 0.5) / self.size - 0.5) / FOCAL).astype(np.float32)


def orbit(num_views: int, radius: float, height: float, size: int, arc: float = 360.0) -> Cameras:
    """Cameras equally spaced on ``arc`` degrees around the z axis from above the x axis on, aimed at the origin."""
    azimuth = np.radians(arc) * np.arange(num_views) / num_views
    cos, sin, zero = np.cos(azimuth), np.sin(azimuth), np.zeros(num_views)
    location = np.stack([radius * cos, radius * sin, zero + height], axis=1)
    forward, right = -location / np.hypot(radius, height), np.stack([-sin, cos, zero], axis=1)
    cameras = Cameras(location, right, np.cross(forward, right), forward, zero, size)
    return replace(cameras, ground=_ground(cameras))


def _ground(cameras: Cameras) -> np.ndarray:
    """A spot of light around the centre, black at the horizon and above."""
    pixels = cameras.plane(np.arange(cameras.size))
    right, down, forward = (axis[:, None, None] for axis in (cameras.right, cameras.down, cameras.forward))
    ray = forward + pixels[:, None] * right + pixels[:, None, None] * down  # (V, H, W, 3)
    t = cameras.location[:, 2, None, None] / np.maximum(-ray[..., 2], 1e-9)
    x, y, _ = np.moveaxis(cameras.location[:, None, None] + t[..., None] * ray, -1, 0)
    return (GROUND / (1 + (x**2 + y**2) / FADE**2)).astype(np.float32)


def render(cameras: Cameras, solids: list[Solid]) -> tuple[np.ndarray, np.ndarray]:
    """Images (V, 3, H, W) float32 and label maps (V, H, W) uint8, in which ``solids[i]`` has the id i + 1.

    A pixel is the mean over four rays, and has the id that most of them meet, on ties the largest.
    """
    shape = (len(RAYS), *cameras.ground.shape)  # (R, V, H, W)
    depth, label = np.full(shape, INFINITY), np.zeros(shape, np.uint8)
    light = np.broadcast_to(cameras.ground, shape).copy()
    for i, solid in enumerate(solids, start=1):
        _paint(solid, cameras, i, depth.ravel(), label.ravel(), light.ravel())
    label, light = label.reshape(len(RAYS), -1), light.reshape(len(RAYS), -1)

    seen = np.flatnonzero(np.bitwise_or.reduce(label))  # pixels with a ray that meets a solid
    label, palette = label[:, seen], np.array([np.ones(3), *(solid.color for solid in solids)], dtype=np.float32)
    image = np.tile(cameras.ground.ravel(), (3, 1))
    image[:, seen] = (palette[label] * light[:, seen, None]).mean(0).T
    mask = np.zeros(cameras.ground.size, np.uint8)
    mask[seen] = _most_frequent(label)
    return image.reshape(3, *shape[1:]).swapaxes(0, 1), mask.reshape(shape[1:])


def _paint(
    solid: Solid, cameras: Cameras, number: int, depth: np.ndarray, label: np.ndarray, light: np.ndarray
) -> None:
    """Write depth, ``number`` and light of rays that meet the solid first so far; of all rays (R, V, H, W), flat."""
    intersect, normal = SHAPES[solid.shape]
    rows, columns = _window(solid, cameras)  # (V, h), (V, w)
    a = cameras.plane(columns + RAYS[:, 1, None, None])[:, :, None]  # (R, V, 1, w)
    b = cameras.plane(rows + RAYS[:, 0, None, None])[..., None]  # (R, V, h, 1)
    offset, right, down, forward = (
        solid.own_axes(vectors / solid.size)[:, :, None, None]
        for vectors in (cameras.location - solid.location, cameras.right, cameras.down, cameras.forward)
    )
    ray = [(forward[i] + a * right[i]) + b * down[i] for i in range(3)]  # (R, V, h, w)
    t = intersect(offset, ray)

    image = np.arange(len(RAYS) * len(rows)).reshape(len(RAYS), -1, 1, 1)
    where = ((image * cameras.size + rows[:, :, None]) * cameras.size + columns[:, None]).ravel()
    first = np.flatnonzero(t.ravel() < depth[where])
    where, t = where[first], t.ravel()[first]
    view = first // (rows.shape[1] * columns.shape[1]) % len(rows)
    point = [offset[i].ravel()[view] + t * ray[i].ravel()[first] for i in range(3)]
    depth[where], label[where], light[where] = t, number, _lit(solid, normal(point))


def _window(solid: Solid, cameras: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Rows (V, h) and columns (V, w) within which the solid appears, equally many in all images."""
    corners = cameras.project(solid.location + solid.size * HULL)
    first, last = np.floor(corners.min(1)).astype(int), np.ceil(corners.max(1)).astype(int)
    extent = np.minimum((last - first).max(0) + 1, cameras.size)
    first = first.clip(0, cameras.size - extent)
    return first[:, :1] + np.arange(extent[0]), first[:, 1:] + np.arange(extent[1])


def _lit(solid: Solid, normal: Vector) -> np.ndarray:
    """Lambert's law for both lights, and a little light from everywhere."""
    brightness = np.float32(AMBIENT)
    for direction, strength in LIGHTS:
        x, y, z = solid.own_axes(np.array([direction]) / np.linalg.norm(direction))[:, 0]
        facing = normal[0] * x + normal[1] * y + normal[2] * z
        brightness = brightness + np.float32(strength) * np.maximum(facing, 0)
    return brightness


def _most_frequent(label: np.ndarray) -> np.ndarray:
    """Of four labels (4, P) each the one that occurs most often, on ties the largest."""
    d, c, b, a = np.sort(label, axis=0)
    return np.where(a == b, a, np.where(b == c, b, np.where(c == d, c, a)))
