"""Multi-dSprites: squares, ellipses and hearts that occlude each other, drawn from signed distances."""

from __future__ import annotations

import numpy as np
import torch

from unscene.data.generator import Draws, GeneratedScenes, assemble
from unscene.data.preprocess import block_centers, block_means
from unscene.errors import InputError
from unscene.scenes import Scenes

SIZE = 64  # image height and width
MARGIN = 16  # centres stay this far from the border, in pixels
REACH = 14  # a sprite is drawn on 2 * REACH x 2 * REACH pixels around its centre
SPRITES = {"binarized": (2, 3), "colored_on_grayscale": (2, 5), "colored_on_colored": (1, 4)}  # fewest, most

# At scale 1, in pixels; all three shapes have about 17 x 17 pixels, and none reaches beyond REACH - 1.
SQUARE_HALF_SIDE = 8.5
ELLIPSE_AXES = (12.0, 7.5)  # semi-axes along x and y at orientation 0
HEART_HALF_SIDE = 6.4


class MultiDSprites(GeneratedScenes):
    """Sprites of random shape, colour, scale, orientation and position; later ones occlude earlier ones.

    =========================  ========  =======  =====================================================
    ``variant``                channels  sprites  colours
    =========================  ========  =======  =====================================================
    ``binarized``              1         2-3      white on black, without anti-aliasing
    ``colored_on_grayscale``   3         2-5      fully saturated random hues on a uniform random gray
    ``colored_on_colored``     3         1-4      all uniform in RGB
    =========================  ========  =======  =====================================================

    ``image`` (B, C, 64, 64); with ``grayscale``, C = 1. ``mask`` (B, 64, 64) uint8: the topmost sprite that
    covers at least half of the pixel. ``factors`` (B, N, ...) with N = 1 + the largest number of sprites;
    entities that are absent from an image are 0 throughout: ``x`` (rightwards) and ``y`` (downwards)
    in [0, 1], the centre being at 16 + 32 x and 16 + 32 y pixels; ``shape`` 1 square, 2 ellipse, 3 heart
    (0 background); ``color`` (B, N, C), the background's too; ``orientation`` in [0, 2 pi), clockwise
    from upright; ``scale`` in [0.5, 1].

    ``image_size`` 32 or 16 gives the same scenes with images averaged over blocks of 2 x 2 or 4 x 4 pixels, and the
    labels of pixels at the middle of these blocks.
    Raises InputError for an unknown ``variant``, ``split`` or ``image_size``, or ``num_scenes`` below 1.

    Source: Multi-Object Datasets (Kabra et al., 2019) on dSprites (Matthey et al., 2017), used in IODINE
    (Greff et al., 2019). Not faithful: outlines, sizes in pixels and orientation 0 are our own.
    """

    def __init__(
        self,
        num_scenes: int = 60_000,
        seed: int = 0,
        split: str = "train",
        variant: str = "colored_on_grayscale",
        grayscale: bool = False,
        image_size: int = SIZE,
    ) -> None:
        if variant not in SPRITES:
            raise InputError(f"unknown variant {variant!r} of Multi-dSprites; choose one of {', '.join(SPRITES)}")
        if image_size not in (64, 32, 16):
            raise InputError(f"image_size is {image_size}; Multi-dSprites come with 64, 32 or 16 pixels a side")
        super().__init__(num_scenes, seed, split, grayscale)
        self.variant, self.image_size = variant, image_size

    def generate(self, draws: Draws) -> Scenes:
        fewest, most = SPRITES[self.variant]
        count = fewest + draws.integers(most - fewest + 1, 1)
        present = np.arange(most) < count  # (B, N - 1)
        factors = {
            "x": draws.uniform(most).astype(np.float32),
            "y": draws.uniform(most).astype(np.float32),
            "shape": (1 + draws.integers(3, most)).astype(np.uint8),
            "orientation": (2 * np.pi * draws.uniform(most)).astype(np.float32),
            "scale": (0.5 + 0.5 * draws.uniform(most)).astype(np.float32),
        }
        background, factors["color"] = self._colors(draws, most)
        factors = {name: (value.T * present.T).T for name, value in factors.items()}
        image, mask = _paint(factors, present, background, antialias=self.variant != "binarized")
        if self.image_size != SIZE:
            factor = SIZE // self.image_size
            image, mask = block_means(image, factor), block_centers(mask, factor)
        scenes = assemble(image, mask, factors)
        scenes["factors"]["color"][:, 0] = torch.from_numpy(background)
        return scenes

    def _colors(self, draws: Draws, most: int) -> tuple[np.ndarray, np.ndarray]:
        """Colours of the background (B, C) and of the sprites (B, N - 1, C)."""
        num_scenes = len(draws.keys)
        if self.variant == "binarized":
            return np.zeros((num_scenes, 1), np.float32), np.ones((num_scenes, most, 1), np.float32)
        if self.variant == "colored_on_colored":
            return draws.uniform(3).astype(np.float32), draws.uniform(most, 3).astype(np.float32)
        gray, hue = draws.uniform(1).astype(np.float32), draws.uniform(most, 1).astype(np.float32)
        return gray.repeat(3, axis=1), hue_to_rgb(hue)


def hue_to_rgb(hue: np.ndarray) -> np.ndarray:
    """RGB (..., 3) of hues (..., 1) in [0, 1) at full saturation and value."""
    sixths = (6 * hue + np.array([0, 4, 2], dtype=np.float32)) % 6
    return (np.abs(sixths - 3) - 1).clip(0, 1)


def _paint(
    factors: dict[str, np.ndarray], present: np.ndarray, background: np.ndarray, antialias: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, C, H, W) and label maps (B, H, W): the present sprites over the background, in order."""
    scene, layer = np.nonzero(present)  # (S,) each: scene by scene, the nearer sprites later
    color = factors["color"][present][:, :, None, None]
    top, left, coverage = _rasterise(*(factors[name][present] for name in ("x", "y", "shape", "orientation", "scale")))
    inside = coverage >= 0.5
    alpha = coverage if antialias else inside.astype(np.float32)

    image = np.tile(background[:, :, None, None], (SIZE, SIZE))
    mask = np.zeros((len(background), SIZE, SIZE), dtype=np.uint8)
    for i in range(len(scene)):  # slices of one sprite at a time: faster than index arrays for all
        window = np.s_[top[i] : top[i] + 2 * REACH, left[i] : left[i] + 2 * REACH]
        behind = image[scene[i]][:, *window]
        behind *= 1 - alpha[i]
        behind += alpha[i] * color[i]
        mask[scene[i]][window][inside[i]] = layer[i] + 1
    return image, mask


def _rasterise(
    x: np.ndarray, y: np.ndarray, shape: np.ndarray, orientation: np.ndarray, scale: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Top rows and left columns (S,) of the windows around S sprites, and the coverage of their pixels (S, h, w)."""
    center = MARGIN + (SIZE - 2 * MARGIN) * np.stack([y, x])
    corner = np.floor(center).astype(np.int64) - REACH
    # From the centre of the sprite to the centres of the window's rows and columns, in its own units
    offset = (corner - center + np.float32(0.5)) / scale
    dy, dx = offset.astype(np.float32)[..., None] + np.arange(2 * REACH, dtype=np.float32) / scale[:, None]
    cos, sin = np.cos(orientation)[:, None], np.sin(orientation)[:, None]
    u = (dx * cos)[:, None] + (dy * sin)[:, :, None]
    v = (dy * cos)[:, :, None] - (dx * sin)[:, None]

    distance = np.empty_like(u)
    for shape_id, signed_distance in enumerate((square, ellipse, heart), start=1):
        chosen = shape == shape_id
        distance[chosen] = signed_distance(u[chosen], v[chosen])
    # The outline crosses a pixel where it is within half a pixel of its centre.
    return *corner, (0.5 - distance * scale[:, None, None]).clip(0, 1)


def square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance to the square's outline, negative inside; ``u`` points right, ``v`` down."""
    return np.maximum(np.abs(u), np.abs(v)) - SQUARE_HALF_SIDE


def ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """As `square`, to first order around the outline: the implicit function over its slope."""
    a, b = ELLIPSE_AXES
    radius = np.hypot(u / a, v / b)
    slope = np.hypot(u / a**2, v / b**2) / np.maximum(radius, 1e-6)
    return (radius - 1) / np.maximum(slope, 1e-6)


def heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """As `square`: a square on its tip with a half disc on each of its upper two sides."""
    half = np.float32(HEART_HALF_SIDE)
    centroid = 0.3133 * half  # of square and half discs, along either axis of the square
    p, q = (np.abs(u) - v) * np.float32(0.5**0.5) + centroid, (-np.abs(u) - v) * np.float32(0.5**0.5) + centroid
    return np.minimum(np.maximum(np.abs(p), np.abs(q)) - half, np.hypot(p - half, q) - half)
