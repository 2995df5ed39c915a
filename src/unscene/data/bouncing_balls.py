"""Bouncing balls: videos of discs that collide elastically, re-created after the data of Relational N-EM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unscene.data.ball_physics import Balls
from unscene.data.generator import Draws, GeneratedVideos, assemble
from unscene.data.preprocess import LUMA, block_centers, block_means
from unscene.errors import InputError
from unscene.scenes import Scenes

SIZE = 64  # image height and width in which balls are drawn
BOX = 10.0  # side of the box, in its own units
PIXELS = SIZE / BOX  # per unit
CURTAIN = 28  # side of the square that hides balls, in pixels
LABELS = {"mask", "collision"}  # of pixels
ATTEMPTS = 64  # placements of all balls tried at once; of eight balls, 0.3 to 4 % are free of overlap

# Of PROVIDE's code, in its order; entry i is that of the ball with id i, 0 the background.
PALETTE = np.array(
    [
        *([0, 0, 0], [166, 206, 227], [31, 120, 180], [178, 223, 138], [51, 160, 44]),
        *([251, 154, 153], [227, 26, 28], [253, 191, 111], [255, 127, 0]),
    ]
)
PALETTES = {None: 255 * (np.arange(9)[:, None] > 0).repeat(3, 1), 4: PALETTE[[0, *[1, 2, 3, 4] * 2]], 8: PALETTE}


@dataclass(frozen=True)
class Variant:
    """One of the data sets: so many balls of these kinds, equally likely; ``speed`` is the norm over all balls."""

    fewest: int
    most: int
    radii: tuple[float, ...] = (0.8, 1.0)
    masses: tuple[float, ...] = (1.0, 6.0)
    speed: float = 1 / 3  # units per frame
    curtain: bool = False


VARIANTS = {
    "4": Variant(4, 4),
    "6-8": Variant(6, 8),
    "curtain": Variant(3, 3, radii=(1.2,), masses=(1.0,), speed=0.5, curtain=True),
}


class BouncingBalls(GeneratedVideos):
    """Videos of balls on black that bounce off each other and the border, without gravity and friction.

    ============  =====  =======================================  ========================
    ``variant``   balls  radius in pixels (mass)                  speed, pixels per frame
    ============  =====  =======================================  ========================
    ``4``         4      5.12 (1) or 6.40 (6), equally likely     2.13
    ``6-8``       6-8    likewise                                 2.13
    ``curtain``   3      7.68 (1)                                 3.2
    ============  =====  =======================================  ========================

    The speed is the root of the summed squares over all balls. The curtain is a black square of 28 x 28 pixels
    that stands still at a random place and hides the balls behind it; they move as if it were not there.

    ``colors`` None: white balls; 8: the ball with id i has the i-th of eight colours; 4: the i-th of the first
    four, which then repeat (in PROVIDE's test of more balls than in training). With ``shuffled`` every video deals the
    eight anew: with fixed ones a slot need not see a ball to know its colour.

    ``image`` (B, T, 3, 64, 64), (B, T, 1, 64, 64) with ``grayscale``; ``mask`` (B, T, 64, 64) uint8, where two
    balls overlap in a collision the larger id. ``factors`` of the N = 1 + (largest number of) balls, 0 for the
    background and for balls that a video does not have: ``position`` (B, N, T, 2), x rightwards and y downwards,
    in pixels; ``velocity`` (B, N, T, 2) in pixels per frame; ``collision`` (B, N, T) bool, whether the ball hit another
    since the frame before; ``radius`` in pixels, ``mass`` (B, N) and ``color`` (B, N, C). With ``collisions`` there is
    also ``collision`` (B, T, 64, 64), see `collision_masks`.

    ``image_size`` 32 or 16 gives these frames averaged over blocks of 2 x 2 or 4 x 4 pixels, labels of pixels at the
    middle of these blocks, and lengths in such pixels.

    ``frames``: a video's first frames do not depend on how many there are; the published ones have 51.
    Raises InputError for an unknown ``variant``, ``colors``, ``split``, and for no videos or frames.

    Source: Relational N-EM (van Steenkiste et al., 2018), its balls4mass64, balls678mass64 and balls3curtain64;
    the colours of PROVIDE (Zablotskaia et al., 2021); physics as in Sutskever's bouncing balls (2008). Not
    faithful: their generator is unpublished. Radii, speeds, mass ratio and curtain are measured in their
    animations; that both kinds of balls are equally likely, four sub-steps per frame and placing balls uniformly
    without overlap are our choices. Colours go with the id, in PROVIDE's code with the rank among visible balls.
    """

    timed_factors = ("position", "velocity", "collision")

    def __init__(
        self,
        num_scenes: int = 50_000,
        seed: int = 0,
        split: str = "train",
        variant: str = "4",
        frames: int = 51,
        colors: int | None = None,
        grayscale: bool = False,
        collisions: bool = False,
        image_size: int = SIZE,
        shuffled: bool = False,
    ) -> None:
        if variant not in VARIANTS:
            raise InputError(f"unknown variant {variant!r} of bouncing balls; choose one of {', '.join(VARIANTS)}")
        if colors not in PALETTES:
            raise InputError(f"colors is {colors}; balls come in 8 or 4 colours, or white with None")
        if frames < 1:
            raise InputError(f"frames is {frames}; a video has at least 1 frame")
        if image_size not in (64, 32, 16):
            raise InputError(f"image_size is {image_size}; bouncing balls come with 64, 32 or 16 pixels a side")
        super().__init__(num_scenes, seed, split)
        self.image_size = image_size
        self.variant, self.num_frames, self._variant = variant, frames, VARIANTS[variant]
        self.collisions = collisions
        self._palette, self.shuffled = palette(colors, grayscale), shuffled

    def _film(self, draws: Draws, starts: Sequence[int], frames: int) -> Scenes:
        color_ids = self._deal(draws)
        balls, corner = _throw(draws, self._variant)
        tracks = balls.run(max(starts) + frames)
        # each (T, ..., n, B) -> (B, n, T, ...), of the frames wanted
        when = np.asarray(starts)[:, None] + np.arange(frames)
        scene = np.arange(len(when))[:, None]
        position, velocity, collision = (np.moveaxis(np.moveaxis(x, -1, 0)[scene, when], -1, 1) for x in tracks)
        factors = {
            "position": (PIXELS * position).astype(np.float32),
            "velocity": (PIXELS * velocity).astype(np.float32),
            "collision": collision,
            "radius": (PIXELS * balls.radius.T).astype(np.float32),
            "mass": balls.mass.T.astype(np.float32),
        }
        mask = draw_discs(factors["position"], factors["radius"])
        if corner is not None:
            mask[_hidden(corner)[:, None].repeat(frames, 1)] = 0
        factors["color"] = self._palette[color_ids[:, 1:]] * (factors["radius"] > 0)[..., None]
        image = np.empty((*mask.shape[:2], self._palette.shape[1], SIZE, SIZE), dtype=np.float32)
        shown = color_ids[scene[..., None, None], mask] if self.shuffled else mask
        for channel, level in enumerate(self._palette.T):
            image[:, :, channel] = level[shown]
        scenes = assemble(image, mask, factors)
        scenes |= {"collision": collision_masks(scenes)} if self.collisions else {}
        return scenes if self.image_size == SIZE else shrink(scenes, SIZE // self.image_size)

    def _deal(self, draws: Draws) -> np.ndarray:
        """Positions in the palette (B, N) of the background's and the balls' colours."""
        order = np.arange(1, len(self._palette))[None].repeat(len(draws.keys), 0)
        if self.shuffled:
            order = 1 + draws.uniform(order.shape[1]).argsort(1)
        return np.insert(order, 0, 0, axis=1)[:, : self._variant.most + 1]


def shrink(scenes: Scenes, factor: int) -> Scenes:
    """A batch of `BouncingBalls` at 1/``factor`` of its size: means of blocks of pixels, labels of their centres."""
    labels = {name: block_centers(scenes[name], factor) for name in scenes.keys() & LABELS}
    lengths = {name: scenes["factors"][name] / factor for name in ("position", "velocity", "radius")}
    return scenes | labels | {"image": block_means(scenes["image"], factor), "factors": scenes["factors"] | lengths}


def palette(colors: int | None, grayscale: bool) -> np.ndarray:
    """(9, 3) or, with ``grayscale``, (9, 1) float32 in [0, 1]: the colours of `BouncingBalls` by id."""
    if grayscale and colors is not None:
        return (PALETTES[colors] @ LUMA)[:, None].astype(np.float32) / 255
    return PALETTES[colors][:, : 1 if grayscale else 3].astype(np.float32) / 255


def draw_discs(position: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Label maps (B, T, 64, 64) uint8 of discs with ids 1 to n: their pixels' centres are nearer than the radius.

    ``position`` (B, n, T, 2), x and y, and ``radius`` (B, n) in pixels; later discs cover earlier ones.
    """
    num_scenes, num_balls, frames, _ = position.shape
    side = min(2 * int(np.ceil(radius.max(initial=0))) + 1, SIZE)  # every disc fits into a window of this side
    corner = np.floor(position - (side - 1) / 2).astype(np.int64).clip(0, SIZE - side)
    offset = corner - position + np.float32(0.5)  # (B, n, T, 2): from the disc's to the window's first pixel centre
    square = (offset[..., None] + np.arange(side, dtype=np.float32)) ** 2
    x_square, y_square = square[..., 0, :], square[..., 1, :]
    inside = y_square[..., :, None] + x_square[..., None, :] < (radius**2)[:, :, None, None, None]
    image = SIZE * SIZE * np.arange(num_scenes * frames).reshape(num_scenes, frames)
    first = image[:, None] + corner @ (1, SIZE)  # (B, n, T): index of the window's first pixel
    window = np.add.outer(SIZE * np.arange(side), np.arange(side))
    mask = np.zeros(num_scenes * frames * SIZE * SIZE, dtype=np.uint8)
    for ball in range(num_balls):
        mask[(first[:, ball, :, None, None] + window)[inside[:, ball]]] = ball + 1
    return mask.reshape(num_scenes, frames, SIZE, SIZE)


def collision_masks(scenes: Scenes, margin: float = 2) -> Tensor:
    """Where balls collide, (B, T, 64, 64) bool: their discs, ``margin`` pixels wider, in frames after a contact.

    For the relational loss of R-NEM; ``scenes`` is a batch of `BouncingBalls`.
    """
    position, radius, collision = (scenes["factors"][name].numpy() for name in ("position", "radius", "collision"))
    masks = np.zeros((len(position), position.shape[2], SIZE, SIZE), dtype=bool)
    for ball in range(1, position.shape[1]):
        disc = draw_discs(position[:, [ball]], radius[:, [ball]] + np.float32(margin)) > 0
        masks |= disc & collision[:, ball, :, None, None]
    return torch.from_numpy(masks)


def _throw(draws: Draws, variant: Variant) -> tuple[Balls, np.ndarray | None]:
    """The balls at the start, and the curtain's top left corner (B, 2) as row and column if there is one."""
    count = variant.fewest + draws.integers(variant.most - variant.fewest + 1, 1)
    present = np.arange(variant.most) < count  # (B, n)
    kind = draws.integers(len(variant.radii), variant.most)
    radius, mass = (np.where(present, np.array(values)[kind], 0) for values in (variant.radii, variant.masses))
    velocity = _normal(draws, variant.most, 2) * present[..., None]
    length = np.sqrt(sum(velocity[:, i, j] ** 2 for i in range(variant.most) for j in range(2)))  # in one fixed order
    velocity *= variant.speed / length[:, None, None]
    corner = draws.integers(SIZE - CURTAIN + 1, 2) if variant.curtain else None
    position = _place(draws, radius)
    arrays = (np.ascontiguousarray(array.T) for array in (position, velocity, radius, mass))
    return Balls(*arrays, box=BOX), corner


def _normal(draws: Draws, *shape: int) -> np.ndarray:
    """(B, *shape) standard normal numbers, by the method of Box and Muller."""
    return np.sqrt(-2 * np.log1p(-draws.uniform(*shape))) * np.cos(2 * np.pi * draws.uniform(*shape))


def _place(draws: Draws, radius: np.ndarray) -> np.ndarray:
    """Centres (B, n, 2) of balls (B, n), uniform over all placements within the box without overlap; 0 for none."""
    position = np.zeros((*radius.shape, 2))
    first, second = np.triu_indices(radius.shape[1], 1)
    pending = np.arange(len(radius))
    while pending.size:
        size = radius[pending][:, None]  # (pending, 1, n)
        tries = size[..., None] + (BOX - 2 * size[..., None]) * draws.uniform(ATTEMPTS, radius.shape[1], 2)
        apart = tries[:, :, first] - tries[:, :, second]
        distance_squared = apart[..., 0] ** 2 + apart[..., 1] ** 2
        some_missing = (size[..., first] == 0) | (size[..., second] == 0)
        free = ((distance_squared >= (size[..., first] + size[..., second]) ** 2) | some_missing).all(axis=2)
        found = free.any(axis=1)
        position[pending[found]] = tries[found, free[found].argmax(axis=1)]
        pending, draws = pending[~found], draws[~found]
    return position * (radius > 0)[..., None]


def _hidden(corner: np.ndarray) -> np.ndarray:
    """(B, 64, 64): the pixels behind curtains with these top left corners (B, 2)."""
    rows, columns = ((np.arange(SIZE) - corner[:, [i]]) for i in range(2))
    inside_rows, inside_columns = ((x >= 0) & (x < CURTAIN) for x in (rows, columns))
    return inside_rows[:, :, None] & inside_columns[:, None]
