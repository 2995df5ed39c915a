"""CLEVR with masks, rendered on demand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unscene.data.generator import Draws, GeneratedScenes, assemble, check_objects, pad_objects
from unscene.data.rendering.camera import camera_to_world, project
from unscene.data.rendering.clevr_layout import TANGENT, Layout, arrange, frame, things
from unscene.data.rendering.renderers import open_renderer
from unscene.data.rendering.stage import Camera, Stage
from unscene.errors import InputError
from unscene.scenes import Scenes

MOST = 10  # objects, as in the original; more would hardly find room
WINDOW, WINDOW_SHIFT = 192 / 320, 5 / 192  # of the frame's width; its middle is 5 of its 192 rows below the frame's


class CLEVR(GeneratedScenes):
    """Cubes, spheres and cylinders of rubber and metal on a gray ground; CLEVR6 is ``most`` 6.

    ``fewest`` to ``most`` objects, all numbers equally likely, as are sizes, materials, shapes and colours; x and y
    in (-3, 3), circles around objects 0.25 apart and centres 0.4 along and across the view; camera and lamps move a
    little; every object has 200 visible pixels in the frame of 320 x 240, or else all objects are drawn anew.

    A square ``image_size`` is the window of IODINE (rows 29:221, columns 64:256 of the frame, 128 x 128 pixels by
    default), in which objects may be out of sight; one of 3 : 4 is the whole frame, (240, 320) in the official files.
    What a scene holds depends on neither.

    ``image`` (B, 3, H, W), one channel with ``grayscale``; ``mask`` (B, H, W) uint8, the object at the pixel's
    centre; ``visibility`` (B, N): whether the object has a pixel; ``camera`` (B, 4, 4) float32: the camera's axes in
    the world (x right, y down, z the line of sight) and its location. ``factors`` of the N = 1 + ``most`` entities, 0
    for the background and for objects that a scene does not have, as in the official files: ``x``, ``y``, ``z`` of
    the centre, ``rotation`` around the vertical in degrees (B, N); ``pixel_coords`` (B, N, 3), the column and row of
    the centre, whole numbers of the frame of 320 x 240, and its depth; ``size`` 1 large, 2 small; ``material`` 1
    rubber, 2 metal; ``shape`` 1 cube, 2 sphere, 3 cylinder; ``color`` 1 gray, 2 red, 3 blue, 4 green, 5 brown, 6
    purple, 7 cyan, 8 yellow.

    ``samples`` per pixel, ``denoise`` and ``variant`` are the renderer's, see `MitsubaRenderer`; ``renderer`` "blender"
    draws with CLEVR's own scene files in the folder ``assets``, see `BlenderRenderer`.
    Raises InputError for no scenes, for numbers of objects outside of 1 to 10, for another ``image_size`` and for
    options that the renderer does not take.

    Source: CLEVR (Johnson et al., 2017) and its generator, CLEVR with masks (Kabra et al., 2019). Not faithful: with
    Mitsuba, meshes, materials and the ground's shape are our own, and the lamps' powers are such that the mean pixel
    is CLEVR's. What the bytes of size, material, shape and color mean is documented for no official file; here it is
    the order of the generator's own lists. ``rotation`` is the angle that the picture shows, while the generator hands
    its degrees to Blender as radians.
    """

    def __init__(
        self,
        num_scenes: int = 70_000,
        seed: int = 0,
        split: str = "train",
        image_size: Sequence[int] = (128, 128),
        fewest: int = 3,
        most: int = MOST,
        samples: int = 16,
        denoise: bool = True,
        renderer: str = "mitsuba",
        variant: str = "auto",
        assets: str | None = None,
        grayscale: bool = False,
    ) -> None:
        super().__init__(num_scenes, seed, split, grayscale)
        check_objects(fewest, most, MOST)
        self.image_size = _check_size(image_size)
        self.fewest, self.most = fewest, most
        self._renderer = open_renderer(renderer, samples, denoise, variant, assets)

    def provenance(self) -> dict[str, str]:
        return self._renderer.describe()

    def generate(self, draws: Draws) -> Scenes:
        layouts = [arrange(draws[[i]], self.fewest, self.most) for i in range(len(draws.keys))]
        cameras = [self._camera(layout) for layout in layouts]
        pictures = [
            self._renderer.render(Stage(things(layout.factors), (camera,), layout.lamps, "backdrop"))
            for layout, camera in zip(layouts, cameras, strict=True)
        ]
        image = np.concatenate([picture.image for picture in pictures]).transpose(0, 3, 1, 2)
        mask = np.concatenate([picture.mask for picture in pictures])
        rows = [pad_objects(_official(layout), self.most) for layout in layouts]
        factors = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        poses = np.stack([camera_to_world(camera) for camera in cameras]).astype(np.float32)
        scenes = assemble(np.ascontiguousarray(image, np.float32) / 255, mask, factors)
        return scenes | {"camera": torch.from_numpy(poses)}

    def _camera(self, layout: Layout) -> Camera:
        height, width = self.image_size
        whole = frame(layout.camera)._replace(width=width, height=height)
        return whole if height != width else whole._replace(tangent=TANGENT * WINDOW, shift=WINDOW_SHIFT)


def _official(layout: Layout) -> dict[str, np.ndarray]:
    """The factors of the objects under the names and with the types of the official files."""
    position = layout.factors["position"]
    pixels = project(frame(layout.camera), position)
    pixels[:, :2] = pixels[:, :2].round()
    lengths = {"x": position[:, 0], "y": position[:, 1], "z": position[:, 2], "pixel_coords": pixels}
    lengths |= {"rotation": layout.factors["rotation"]}
    factors = {name: value.astype(np.float32) for name, value in lengths.items()}
    return factors | {name: layout.factors[name].astype(np.uint8) for name in ("size", "material", "shape", "color")}


def _check_size(image_size: Sequence[int]) -> tuple[int, int]:
    size = tuple(image_size)
    if len(size) != 2 or min(size) < 1 or not (size[0] == size[1] or 4 * size[0] == 3 * size[1]):
        raise InputError(
            f"image_size is {size}; set a square window like (128, 128) or a frame of 3 : 4 like (240, 320)"
        )
    return size
