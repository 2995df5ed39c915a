"""Discs that bounce off each other and off the walls of a box, for many scenes at once."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

SUB_STEPS = 4  # per frame; Sutskever's generator takes 2, in which fast balls sink visibly into each other


@dataclass
class Balls:
    """The balls of B scenes, at most n each, in a box from 0 to ``box`` along both axes.

    ``position`` and ``velocity`` (2, n, B), axis 0 being x and y; ``radius`` and ``mass`` (n, B), a radius of 0
    meaning that there is no such ball. Scenes come last, where arithmetic on rows is fastest; all of it is
    elementwise, so that a scene moves bit by bit the same in any batch.
    """

    position: np.ndarray
    velocity: np.ndarray
    radius: np.ndarray
    mass: np.ndarray
    box: float

    def __post_init__(self) -> None:
        self._pairs = list(combinations(range(len(self.radius)), 2))
        self._first, self._second = np.array(self._pairs, dtype=np.int64).reshape(-1, 2).T
        both = (self.radius[self._first] > 0) & (self.radius[self._second] > 0)
        reach = self.radius[self._first] + self.radius[self._second]
        self._reach_squared = np.where(both, reach * reach, -1.0)  # (pairs, B); nothing is nearer than -1

    def run(self, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position and velocity (T, 2, n, B) in each of T frames, the first being now, and contact (T, n, B).

        ``contact``: whether the ball has exchanged momentum with another since the frame before.
        """
        position, velocity = (np.empty((frames, *start.shape)) for start in (self.position, self.velocity))
        contact = np.zeros((frames, *self.radius.shape), dtype=bool)
        for t in range(frames):
            if t > 0:
                for _ in range(SUB_STEPS):
                    self._step(1 / SUB_STEPS, contact[t])
            position[t], velocity[t] = self.position, self.velocity
        return position, velocity, contact

    def _step(self, duration: float, contact: np.ndarray) -> None:
        """Move, then turn at the walls, then at each other, pair by pair: the order of Sutskever's generator."""
        self.position += duration * self.velocity
        speed = np.abs(self.velocity)  # a ball beyond a wall heads inwards; its position is left as it is
        np.copyto(self.velocity, speed, where=self.position < self.radius)
        np.copyto(self.velocity, -speed, where=self.position > self.box - self.radius)
        dx, dy = self.position[:, self._first] - self.position[:, self._second]
        near = dx * dx + dy * dy < self._reach_squared
        for pair in np.flatnonzero(near.any(axis=1)):
            self._collide(*self._pairs[pair], np.flatnonzero(near[pair]), contact)

    def _collide(self, i: int, j: int, scenes: np.ndarray, contact: np.ndarray) -> None:
        """Elastic exchange along the line between the centres of balls i and j, where they approach each other.

        Without that condition a pair that still overlaps after the exchange would be exchanged back, and stick.
        """
        normal = self.position[:, i, scenes] - self.position[:, j, scenes]
        normal /= np.sqrt(normal[0] * normal[0] + normal[1] * normal[1])
        speed_i, speed_j = (
            normal[0] * self.velocity[0, ball, scenes] + normal[1] * self.velocity[1, ball, scenes] for ball in (i, j)
        )
        approach = speed_i < speed_j
        scenes, normal, speed_i, speed_j = scenes[approach], normal[:, approach], speed_i[approach], speed_j[approach]
        mass_i, mass_j = self.mass[i, scenes], self.mass[j, scenes]
        after_j = (2 * mass_i * speed_i + speed_j * (mass_j - mass_i)) / (mass_i + mass_j)
        after_i = after_j + speed_j - speed_i
        self.velocity[:, i, scenes] += normal * (after_i - speed_i)
        self.velocity[:, j, scenes] += normal * (after_j - speed_j)
        contact[i, scenes] = contact[j, scenes] = True
