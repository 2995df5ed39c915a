"""How a CLEVRER-like video begins: some objects lie in view, the others are on their way to it."""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from unscene.data.clevrer_annotations import CATEGORIES
from unscene.data.clevrer_masks import Kind
from unscene.data.generator import Draws
from unscene.data.rendering.clevrer_physics import FRICTION, RADIUS, earlier
from unscene.data.rendering.clevrer_view import FULL_FRAME, clevrer_camera, view_planes

KINDS: tuple[Kind, ...] = tuple(product(*CATEGORIES.values()))
FLOOR = ((-2.0, 1.2), (-1.4, 1.4))  # x and y at which objects lie
REACH = RADIUS * math.sqrt(3)  # of a cube's corner from its centre
GAP = 2 * math.sqrt(2) * RADIUS + 0.1  # between centres, at least: 0.1 between the corners of two cubes
SIDES = math.radians(110)  # objects come from the left, the right and the front: not from behind, where they look tiny
SPEED, SECONDS = (1.0, 2.5), (0.0, 2.5)  # at which, and when, an object comes into view
AIMED, MISS = 0.8, 0.25  # share of those that head for an object, and how far past its centre at most
ATTEMPTS = 20  # places to try for an object before all are placed anew


class Start(NamedTuple):
    """n objects at time 0: their colour, material and shape, and how they lie and move."""

    kinds: tuple[Kind, ...]
    position: Float[np.ndarray, "n 2"]
    velocity: Float[np.ndarray, "n 2"]
    angle: Float[np.ndarray, " n"]


def begin(draws: Draws, fewest: int, most: int) -> Start:
    """A video's start from its own random numbers, of ``fewest`` to ``most`` objects; at least one enters, one lies.

    No two are of the same kind. Those that lie come first.
    """
    count = fewest + int(draws.integers(most - fewest + 1, 1)[0, 0])
    lying = 1 + int(draws.integers(count - 1, 1)[0, 0])
    numbers = draws.uniform(len(KINDS))[0].argsort()[:count]
    kinds = tuple(KINDS[k] for k in numbers)
    friction = np.array([FRICTION[shape] for _, _, shape in kinds])
    position, velocity = _throw(draws, lying, friction)
    while not _apart(position):
        position, velocity = _throw(draws, lying, friction)
    return Start(kinds, position, velocity, 2 * np.pi * draws.uniform(count)[0])


def _throw(
    draws: Draws, lying: int, friction: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Positions and velocities, of which the first ``lying`` are 0."""
    places = _lie(draws, lying)
    while len(places) < lying:
        places = _lie(draws, lying)
    positions, velocities = _enter(draws, places, friction[lying:])
    return np.concatenate([places, positions]), np.concatenate([np.zeros_like(places), velocities])


def _lie(draws: Draws, count: int) -> Float[np.ndarray, "_ 2"]:
    """Places on the floor, one after the other, each uniform over the room that is left; fewer if there is none."""
    places = np.zeros((0, 2))
    low, high = np.array(FLOOR).T
    for _ in range(count):
        tries = low + (high - low) * draws.uniform(ATTEMPTS, 2)[0]
        free = (np.linalg.norm(tries[:, None] - places, axis=2) >= GAP).all(1)
        places = np.concatenate([places, tries[free][:1]])
    return places


def _enter(
    draws: Draws, lying: Float[np.ndarray, "m 2"], friction: Float[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 2"]]:
    """Where objects are at time 0, and how fast, that come into view later, most of them heading for one that lies."""
    count = len(friction)
    source = SIDES * (2 * draws.uniform(count)[0] - 1)  # azimuth from which it comes; the camera's is 0
    heading = -np.stack([np.cos(source), np.sin(source)], axis=1)
    aside = MISS * (2 * draws.uniform(count, 1)[0] - 1) * heading[:, ::-1] * (-1, 1)
    target = lying[draws.integers(len(lying), count)[0]] + aside
    low, high = np.array(FLOOR).T
    anywhere = low + (high - low) * draws.uniform(count, 2)[0]
    aim = np.where(draws.uniform(count, 1)[0] < AIMED, target, anywhere)
    speed, seconds = (a + (b - a) * draws.uniform(count)[0] for a, b in (SPEED, SECONDS))
    way, first_speed = earlier(speed, seconds, friction)
    border = way_out(aim, -heading)
    return aim - (border + way)[:, None] * heading, first_speed[:, None] * heading


def way_out(place: Float[np.ndarray, "n 2"], direction: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
    """How far objects must go from ``place`` in unit ``direction`` until nothing of them is in CLEVRER's full frame."""
    planes = view_planes(clevrer_camera(FULL_FRAME))
    inside = np.insert(place, 2, RADIUS, axis=1) @ planes[:, :3].T + planes[:, 3]  # (n, 4): distance from each plane
    leaving = -direction @ planes[:, :2].T  # and how fast it shrinks
    with np.errstate(divide="ignore"):
        return np.where(leaving > 0, (inside + REACH) / leaving, np.inf).min(1)


def _apart(places: Float[np.ndarray, "n 2"]) -> bool:
    distance = np.linalg.norm(places[:, None] - places, axis=2)
    return bool((distance[np.triu_indices(len(places), 1)] >= GAP).all())
