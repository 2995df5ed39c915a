"""Shapes: outlines of triangles and squares, OR-ed on a binary 28x28 image."""

from __future__ import annotations

import numpy as np

from unscene.data.generator import Draws, GeneratedScenes, assemble
from unscene.scenes import Scenes

SIZE = 28  # image height and width
NUM_SHAPES = 3

UP_TRIANGLE = (
    ".....##.....",
    "....####....",
    "...######...",
    "..###..###..",
    ".###....###.",
    "############",
    "############",
)
SQUARE = (*["#######"] * 2, *["##...##"] * 3, *["#######"] * 2)
OUTLINES = (SQUARE, UP_TRIANGLE, UP_TRIANGLE[::-1])  # the position plus 1 is the shape id

EXTENTS = np.array([(len(rows), len(rows[0])) for rows in OUTLINES])  # (3, 2): height and width
# Where the pixels of an outline lie in the flattened image, relative to its top left corner.
_pixels = [[i * SIZE + j for i, row in enumerate(rows) for j, on in enumerate(row) if on == "#"] for rows in OUTLINES]
_longest = max(map(len, _pixels))
# (3, 48): shorter lists repeat their last pixel, which is then painted again
PIXELS = np.array([pixels + pixels[-1:] * (_longest - len(pixels)) for pixels in _pixels])


class Shapes(GeneratedScenes):
    """Three outlines, each a square, an upward or a downward triangle, at random offsets; they may overlap.

    ``image`` (B, 1, 28, 28), 0 or 1: the union of the outlines. ``mask`` (B, 28, 28) uint8 with ids 1-3;
    a pixel of several outlines belongs to the last one. ``factors`` (B, 4): ``x`` the left column and
    ``y`` the top row of the bounding box in pixels, ``shape`` 1 square, 2 upward, 3 downward triangle
    (0 background).

    Source: Reichert and Serre (2013), with the outlines of Greff et al. (2015), used in IODINE
    (Greff et al., 2019). Not faithful: Greff et al. leave pixels of several outlines unlabelled.
    """

    def __init__(self, num_scenes: int = 60_000, seed: int = 0, split: str = "train") -> None:
        super().__init__(num_scenes, seed, split)

    def generate(self, draws: Draws) -> Scenes:
        shape = draws.integers(len(OUTLINES), NUM_SHAPES)
        y, x = np.moveaxis(draws.integers(SIZE + 1 - EXTENTS[shape], NUM_SHAPES, 2), -1, 0)
        pixels = PIXELS[shape] + (y * SIZE + x)[..., None]  # (B, 3, 48)
        mask = np.zeros((len(shape), SIZE * SIZE), dtype=np.uint8)
        for i in range(NUM_SHAPES):
            np.put_along_axis(mask, pixels[:, i], i + 1, axis=1)
        mask = mask.reshape(-1, SIZE, SIZE)
        image = (mask > 0).astype(np.float32)[:, None]
        factors = {"x": x.astype(np.float32), "y": y.astype(np.float32), "shape": (shape + 1).astype(np.uint8)}
        return assemble(image, mask, factors)
