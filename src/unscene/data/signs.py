"""Signs: one road sign per image before a gradient with clutter, to cluster and to cut out."""

from __future__ import annotations

import numpy as np
from numpy import float32

from unscene.data.generator import Draws, GeneratedScenes, assemble
from unscene.data.images import height_and_width
from unscene.data.sign_designs import DESIGNS
from unscene.errors import InputError
from unscene.scenes import Scenes

FACES = list(DESIGNS.values())

# Sizes and places in units of half the image, as in the coordinates from -1 to 1
SCALE = (0.65, 0.9)  # half side of a sign
SHIFT, TURN, STRETCH, PERSPECTIVE = 0.1, np.radians(8), 0.06, 0.08  # the largest, either way
BRIGHTNESS, TINT, HAZE = (0.55, 1.0), 0.12, 0.1  # colour c becomes brightness (1 +- tint) c + haze, per channel
PATCH_HALF_SIDES = (0.1, 0.5)


class Signs(GeneratedScenes):
    """One of ``num_classes`` signs (2 to 10), photographed a little askew, in front of something else.

    ``image`` (B, 3, H, W), or (B, 1, H, W) with ``grayscale``; ``image_size`` is one number or (H, W). ``mask``
    (B, H, W) uint8: 1 where the centre of the pixel is inside the outline of the sign, else 0. ``factors`` (B, 2),
    entry 0 the background: ``class`` 1 to ``num_classes`` in the order of `DESIGNS`; ``x`` (rightwards) and ``y``
    (downwards) of the centre and ``scale``, half the side, in pixels of an image of this height and width, ``scale``
    of the geometric mean of both; ``orientation`` in radians, clockwise.

    Signs are turned up to 8 degrees, shifted, stretched and seen in perspective; each of their colour channels has its
    own gain and offset. The background is a gradient between two dull colours with ``clutter`` slanted rectangles.

    Stands in for the eight classes of GTSRB that DTI-Sprites (Monnier et al., 2021) clusters, at image_size 28. Not
    faithful: flat drawings, every class equally likely, no blur.
    Raises InputError for another number of classes, a negative ``clutter`` or an impossible size.
    """

    def __init__(
        self,
        num_scenes: int = 60_000,
        seed: int = 0,
        split: str = "train",
        num_classes: int = 8,
        image_size: int | tuple[int, int] = 28,
        clutter: int = 3,
        grayscale: bool = False,
    ) -> None:
        super().__init__(num_scenes, seed, split, grayscale)
        if not 2 <= num_classes <= len(FACES):
            raise InputError(f"num_classes is {num_classes}; there are signs of 2 to {len(FACES)} classes")
        if clutter < 0:
            raise InputError(f"clutter is {clutter}; set the number of rectangles behind the sign, 0 for none")
        self.num_classes, self.image_size, self.clutter = num_classes, height_and_width(image_size), clutter

    def generate(self, draws: Draws) -> Scenes:
        sign = draws.integers(self.num_classes, 1)[:, 0]
        pose = _draw_pose(draws)
        gain, offset = _draw_light(draws)
        y, x = _pixel_grid(self.image_size)
        image = _paint_background(draws, y, x, self.clutter)
        mask = np.zeros((len(sign), *self.image_size), dtype=np.uint8)
        u, v = _to_sign(x, y, *pose)
        half = float32(np.sqrt(np.prod(self.image_size)) / 2)  # pixels per unit of x and y
        for number, layers in enumerate(FACES[: self.num_classes]):
            chosen = sign == number
            # The step from one pixel to the next is taken as if there were neither stretch nor perspective.
            per_unit = half * pose[2][chosen]
            coverage = [(0.5 - per_unit * distance(u[chosen], v[chosen])).clip(0, 1) for _, distance in layers]
            face = _paint_face([color for color, _ in layers], coverage, gain[chosen], offset[chosen])
            image[chosen] += coverage[0][:, None] * (face - image[chosen])
            mask[chosen] = coverage[0] >= 0.5
        return assemble(image, mask, _factors(sign, pose, self.image_size, half))


def _draw_pose(draws: Draws) -> tuple[np.ndarray, ...]:
    """Of every scene shift to the right and down, scale, angle, stretch and perspective in x and y, each (B, 1, 1)."""
    low, high = SCALE
    scale = low + (high - low) * draws.uniform(1)
    largest = np.array([SHIFT, SHIFT, TURN, STRETCH, PERSPECTIVE, PERSPECTIVE])
    right, down, *rest = (largest * (2 * draws.uniform(6) - 1)).T
    return tuple(value.reshape(-1, 1, 1).astype(float32) for value in (right, down, scale, *rest))


def _draw_light(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Gain and offset of the channels of the signs, each (B, 3, 1, 1)."""
    low, high = BRIGHTNESS
    brightness = low + (high - low) * draws.uniform(1)
    gain = brightness * (1 + TINT * (2 * draws.uniform(3) - 1))
    offset = HAZE * (2 * draws.uniform(3) - 1)
    return gain[..., None, None].astype(float32), offset[..., None, None].astype(float32)


def _pixel_grid(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """y (H, 1) and x (1, W) of the centres of the pixels, from -1 to 1 over the image."""
    y, x = (((2 * np.arange(n) + 1) / n - 1).astype(float32) for n in size)
    return y[:, None], x[None]


def _to_sign(
    x: np.ndarray,
    y: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    scale: np.ndarray,
    angle: np.ndarray,
    stretch: np.ndarray,
    perspective_x: np.ndarray,
    perspective_y: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Where the pixels are on the signs, u and v (B, H, W): a homography of each image."""
    x, y = x - right, y - down
    depth = scale * (1 + perspective_x * x + perspective_y * y)
    cos, sin = np.cos(angle), np.sin(angle)
    return (cos * x + sin * y) * (1 + stretch) / depth, (cos * y - sin * x) / (1 + stretch) / depth


def _paint_background(draws: Draws, y: np.ndarray, x: np.ndarray, clutter: int) -> np.ndarray:
    """(B, 3, H, W): a gradient in a random direction, and rectangles on it."""
    ends = _dull_colors(draws, 2)
    angle = 2 * np.pi * draws.uniform(1, 1, 1).astype(float32)
    towards = 0.5 + float32(0.5**1.5) * (np.cos(angle) * x + np.sin(angle) * y)  # 0 to 1, from corner to corner
    image = ends[:, 0] + towards * (ends[:, 1] - ends[:, 0])
    low, high = PATCH_HALF_SIDES
    for _ in range(clutter):
        color = _dull_colors(draws, 1)[:, 0]
        center_x, center_y, width, height, turn = draws.uniform(5).astype(float32).T[..., None, None]
        dx, dy = x - (2 * center_x - 1), y - (2 * center_y - 1)
        cos, sin = np.cos(np.float32(np.pi) * turn), np.sin(np.float32(np.pi) * turn)
        beyond_sides = np.abs(cos * dx + sin * dy) - (low + (high - low) * width)
        beyond_ends = np.abs(cos * dy - sin * dx) - (low + (high - low) * height)
        distance = np.maximum(beyond_sides, beyond_ends) * float32(max(x.size, y.size) / 2)
        image += (0.5 - distance).clip(0, 1)[:, None] * (color - image)
    return image


def _dull_colors(draws: Draws, count: int) -> np.ndarray:
    """(B, count, 3, 1, 1): grays with a little colour, so that signs stand out as in the street."""
    gray, color = draws.uniform(count, 1), draws.uniform(count, 3)
    return (0.15 + 0.7 * gray + 0.15 * (2 * color - 1))[..., None, None].astype(float32)


def _paint_face(
    colors: list[tuple[float, float, float]], coverage: list[np.ndarray], gain: np.ndarray, offset: np.ndarray
) -> np.ndarray:
    """The lit signs (n, 3, H, W), as if their first layer filled the image."""
    lit = [(gain * np.array(color, float32)[:, None, None] + offset).clip(0, 1) for color in colors]
    face = np.broadcast_to(lit[0], (*lit[0].shape[:2], *coverage[0].shape[1:]))
    for color, cover in zip(lit[1:], coverage[1:], strict=True):
        face = face + cover[:, None] * (color - face)
    return face


def _factors(sign: np.ndarray, pose: tuple[np.ndarray, ...], size: tuple[int, int], half: float32) -> dict:
    right, down, scale, angle = (value[:, :, 0] for value in pose[:4])
    height, width = (float32(n) / 2 for n in size)
    return {
        "class": sign[:, None] + 1,
        "x": width * (1 + right),
        "y": height * (1 + down),
        "scale": half * scale,
        "orientation": angle,
    }
