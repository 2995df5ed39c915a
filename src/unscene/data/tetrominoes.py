"""Tetrominoes: three pieces of four blocks on a black 35x35 image, drawn as in the official data set."""

from __future__ import annotations

import numpy as np

from unscene.data.generator import Draws, GeneratedScenes, assemble
from unscene.scenes import Scenes

SIZE = 35  # image height and width
NUM_PIECES = 3
ATTEMPTS = 8  # placements tried at once; about one in seven is free of overlap

# The brightness of one block, 0-255: bevelled and lit from above, as in the official images.
BLOCK = np.array(
    [
        [191, 255, 255, 255, 223],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [127, 159, 159, 159, 191],
        [95, 63, 63, 63, 127],
    ]
)
COLORS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=np.float32)
# Rows of blocks from the top; the position in this tuple plus 1 is the official shape id.
PIECES = (
    *("1111", "1/1/1/1", "111/100", "100/111", "001/111", "111/001", "11/01/01", "01/01/11", "11/10/10", "10/10/11"),
    *("110/011", "011/110", "01/11/10", "10/11/01", "010/111", "111/010", "01/11/01", "10/11/10", "11/11"),
)

# (19, 4, 2): row and column, in pixels, of the corner of each block within its piece
CORNERS = len(BLOCK) * np.array(
    [[(i, j) for i, row in enumerate(p.split("/")) for j, on in enumerate(row) if on == "1"] for p in PIECES]
)
EXTENTS = CORNERS.max(axis=1) + len(BLOCK)  # (19, 2): height and width of each piece
# (19, 100): where the pixels of a piece lie in the flattened image, relative to its top left corner
PIXELS = np.add.outer(CORNERS @ (SIZE, 1), np.indices(BLOCK.shape).reshape(2, -1).T @ (SIZE, 1)).reshape(19, -1)
BRIGHTNESS = np.tile(BLOCK.ravel() / np.float32(255), 4).astype(np.float32)  # (100,)


class Tetrominoes(GeneratedScenes):
    """Three pieces in six colours and 19 orientations at random pixel offsets, without overlap.

    ``image`` (B, 3, 35, 35), or (B, 1, 35, 35) if ``grayscale``; ``mask`` (B, 35, 35) uint8 with ids 1-3.
    ``factors`` (B, 4, ...), as in the official files: ``x`` the top row and ``y`` the left column of the
    bounding box in pixels, ``shape`` 1-19 (0 background), ``color`` (B, 4, 3) in {0, 1}.

    Source: Multi-Object Datasets (Kabra et al., 2019), used in IODINE (Greff et al., 2019). Not
    faithful: how the official files sample placements is unknown; here they are uniform.
    """

    def __init__(self, num_scenes: int = 60_000, seed: int = 0, split: str = "train", grayscale: bool = False) -> None:
        super().__init__(num_scenes, seed, split, grayscale)

    def generate(self, draws: Draws) -> Scenes:
        piece = draws.integers(len(PIECES), NUM_PIECES)
        color = COLORS[draws.integers(len(COLORS), NUM_PIECES)]
        corner = _place(draws, piece)
        image, mask = _paint(piece, color, corner)
        x, y = np.moveaxis(corner.astype(np.float32), -1, 0)
        return assemble(image, mask, {"x": x, "y": y, "shape": (piece + 1).astype(np.uint8), "color": color})


def _place(draws: Draws, piece: np.ndarray) -> np.ndarray:
    """Top left corners (B, 3, 2), uniform over all placements of the pieces (B, 3) without overlap."""
    corner = np.empty((*piece.shape, 2), dtype=np.int64)
    pending = np.arange(len(piece))
    while pending.size:
        tries = draws.integers((SIZE + 1 - EXTENTS[piece[pending]])[:, None], ATTEMPTS, NUM_PIECES, 2)
        free = ~_overlap(tries[..., None, :] + CORNERS[piece[pending]][:, None])
        found = free.any(axis=1)
        corner[pending[found]] = tries[found, free[found].argmax(axis=1)]
        pending, draws = pending[~found], draws[~found]
    return corner


def _overlap(blocks: np.ndarray) -> np.ndarray:
    """Whether any two of three pieces share a pixel; ``blocks`` (..., 3, 4, 2) are their blocks' corners."""
    row, column = np.moveaxis(blocks.astype(np.int8), -1, 0)  # bytes: this test is most of the time
    near = [np.abs(x[..., [0, 0, 1], :, None] - x[..., [1, 2, 2], None, :]) < len(BLOCK) for x in (row, column)]
    return np.logical_and(*near).reshape(*blocks.shape[:-3], -1).any(-1)


def _paint(piece: np.ndarray, color: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, 3, H, W) and label maps (B, H, W) of pieces (B, 3), their colours and their corners."""
    num_scenes = len(piece)
    pixels = PIXELS[piece] + (corner @ (SIZE, 1))[..., None]  # (B, 3, 100)
    scene = np.arange(num_scenes)[:, None, None]
    mask = np.zeros((num_scenes, SIZE * SIZE), dtype=np.uint8)
    mask[scene, pixels] = np.arange(1, NUM_PIECES + 1)[:, None]
    image = np.zeros((num_scenes, 3, SIZE * SIZE), dtype=np.float32)
    channel = np.arange(3)[:, None]
    image[scene[..., None], channel, pixels[:, :, None]] = color[..., None] * BRIGHTNESS
    return image.reshape(-1, 3, SIZE, SIZE), mask.reshape(-1, SIZE, SIZE)
