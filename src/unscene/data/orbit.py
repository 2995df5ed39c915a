"""OrbitScenes: small 3-D scenes seen by cameras on a circle, drawn on demand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from unscene.data.clevrer_annotations import CATEGORIES
from unscene.data.generator import Draws, GeneratedScenes, assemble, check_objects, check_views
from unscene.data.raycast import orbit, render
from unscene.data.solids import HALF_EDGE, Solid
from unscene.data.viewpoints import normalise_cameras
from unscene.errors import InputError
from unscene.scenes import Scenes

SHAPES = CATEGORIES["shape"]
SIZES = (0.9, 0.6)  # large and small: radius, and half the height
RGB = {
    **{"gray": (87, 87, 87), "red": (173, 35, 35), "blue": (42, 75, 215), "green": (29, 105, 20)},
    **{"brown": (129, 74, 25), "cyan": (41, 208, 208), "purple": (129, 38, 192), "yellow": (255, 238, 51)},
}  # of CLEVR
PALETTE = np.array([RGB[name] for name in CATEGORIES["color"]]) / 255
FLOOR = 2.6  # objects stand on a disc of this radius, which all cameras see
GAP = 0.1  # between any two objects, at least
MOST = 6  # objects that find room
CAMERA_RADIUS, CAMERA_HEIGHT = 7.2, 5.2
ATTEMPTS = 20  # places to try for an object before all of the scene are placed anew


class OrbitScenes(GeneratedScenes):
    """Cubes, spheres and cylinders on a gray ground, seen by ``views`` cameras that look at the centre.

    The cameras are equally spaced on a circle, or on its first ``arc`` degrees, the same in every scene. Each object is
    of one of three shapes, two sizes and CLEVR's eight colours, and stands anywhere on a disc, turned by any angle,
    without touching others; there are ``fewest`` to ``most`` of them, all numbers and kinds equally likely. Light comes
    from two fixed directions; nothing casts a shadow.

    ``image`` (B, V, 3, S, S) with S = ``image_size``, one channel with ``grayscale``; ``mask`` (B, V, S, S) uint8: a
    pixel has the id that most of its four rays meet. ``viewpoint`` (B, V, 3): see `normalise_cameras`.
    ``visibility`` (B, N): whether the object has a pixel in any view. ``factors`` of the N = 1 + ``most`` entities, 0
    for the background and for objects that a scene does not have: ``shape`` 1 cube, 2 sphere, 3 cylinder; ``size`` 1
    large, 2 small; ``color`` 1 gray, 2 red, 3 blue, 4 green, 5 brown, 6 cyan, 7 purple, 8 yellow; ``position``
    (B, N, 3) of the centre, z upwards; ``rotation`` of cubes around the vertical, in degrees from 0 to 90.

    What a scene holds does not depend on ``views``, ``arc`` and ``image_size``.
    Raises InputError for no scenes, views or pixels, for numbers of objects outside of 1 to 6 and an arc outside of
    0 to 360.

    After the multi-view CLEVR of MulMON (Li et al., 2020), whose cameras circle in the same way; not a copy of it:
    sizes, camera, light and material are our own.
    """

    def __init__(
        self,
        num_scenes: int = 60_000,
        seed: int = 0,
        split: str = "train",
        views: int = 10,
        image_size: int = 64,
        fewest: int = 2,
        most: int = 5,
        grayscale: bool = False,
        arc: float = 360.0,
    ) -> None:
        super().__init__(num_scenes, seed, split, grayscale)
        check_views(views, image_size)
        if not 0 < arc <= 360:
            raise InputError(f"arc is {arc}; cameras stand on more than 0 and at most 360 degrees of their circle")
        check_objects(fewest, most, MOST)
        self.fewest, self.most = fewest, most
        self._cameras = orbit(views, CAMERA_RADIUS, CAMERA_HEIGHT, image_size, arc)
        self._viewpoint = torch.from_numpy(normalise_cameras(self._cameras.location))

    @property
    def view_counts(self) -> Sequence[int]:
        return [len(self._viewpoint)] * len(self)

    def generate(self, draws: Draws) -> Scenes:
        return self._show(draws, np.tile(np.arange(len(self._viewpoint)), (len(draws.keys), 1)))

    def batch_views(self, indices: Sequence[int], views: Sequence[int]) -> Scenes:
        """Of each of the scenes ``indices`` its view of ``views``, as a batch of images: only these are drawn."""
        scenes = self._show(self.draws(indices), np.asarray(views)[:, None])
        scenes |= {name: scenes[name][:, 0] for name in ("image", "mask", "viewpoint")}
        return self._colored(scenes)

    def _show(self, draws: Draws, views: np.ndarray) -> Scenes:
        """The scenes, each seen from its own of ``views`` (B, V)."""
        factors = _furnish(draws, self.fewest, self.most)
        pictures = [
            render(self._cameras[views[i]], _solids({name: v[i] for name, v in factors.items()}))
            for i in range(len(views))
        ]
        image, mask = (np.stack(parts) for parts in zip(*pictures, strict=True))
        return assemble(image, mask, factors) | {"viewpoint": self._viewpoint[views]}


def _furnish(draws: Draws, fewest: int, most: int) -> dict[str, np.ndarray]:
    """Factors (B, n, ...) of the objects, 0 for those that are not there."""
    present = np.arange(most) < fewest + draws.integers(most - fewest + 1, 1)  # (B, n)
    kinds = {"shape": len(SHAPES), "size": len(SIZES), "color": len(PALETTE)}
    factors = {name: (1 + draws.integers(count, most)) * present for name, count in kinds.items()}
    radius = np.array([0, *SIZES])[factors["size"]]
    cube = factors["shape"] == 1 + SHAPES.index("cube")
    height = radius * np.where(cube, HALF_EDGE, 1)
    rotation = 90 * draws.uniform(most) * cube
    position = np.concatenate([_place(draws, radius), height[..., None]], axis=2)
    factors = {name: value.astype(np.uint8) for name, value in factors.items()}
    return factors | {"position": position.astype(np.float32), "rotation": rotation.astype(np.float32)}


def _place(draws: Draws, radius: np.ndarray) -> np.ndarray:
    """Centres (B, n, 2) of discs (B, n), one after the other, each uniform over the room that is left; 0 for none."""
    position = np.zeros((*radius.shape, 2))
    pending = np.arange(len(radius))
    while pending.size:
        tries, found = _try_to_place(draws, radius[pending])
        position[pending[found]] = tries[found]
        pending, draws = pending[~found], draws[~found]
    return position * (radius > 0)[..., None]


def _try_to_place(draws: Draws, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Centres (B, n, 2), and (B,) whether each disc has found room among those before it."""
    position, found = np.zeros((*radius.shape, 2)), np.ones(len(radius), dtype=bool)
    for k in range(radius.shape[1]):
        tries = FLOOR * (2 * draws.uniform(ATTEMPTS, 2) - 1)  # (B, A, 2)
        apart = tries[:, :, None] - position[:, None, :k]
        near = _squared(apart) < (radius[:, None, [k]] + radius[:, None, :k] + GAP) ** 2  # (B, A, k)
        free = (_squared(tries) <= FLOOR**2) & ~(near & (radius[:, None, :k] > 0)).any(2)
        position[:, k] = tries[np.arange(len(tries)), free.argmax(1)]
        found &= free.any(1) | (radius[:, k] == 0)
    return position, found


def _squared(vectors: np.ndarray) -> np.ndarray:
    return vectors[..., 0] ** 2 + vectors[..., 1] ** 2


def _solids(factors: dict[str, np.ndarray]) -> list[Solid]:
    """The objects of one scene, from its factors (n, ...); those that are there come first."""
    rows = zip(*(factors[name] for name in ("shape", "size", "position", "rotation", "color")), strict=True)
    return [
        Solid(SHAPES[shape - 1], SIZES[size - 1], position, math.radians(rotation), PALETTE[color - 1])
        for shape, size, position, rotation, color in rows
        if size > 0
    ]
