"""Where objects stand: at random on the ground, apart from each other."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from unscene.data.generator import Draws

Region = Literal["square", "disc"]


def place(
    draws: Draws,
    radius: Float[np.ndarray, " N"],
    *,
    reach: float,
    gap: float,
    margin: float = 0.0,
    front: Float[np.ndarray, " 2"] | None = None,
    region: Region = "square",
    attempts: int = 50,
) -> Float[np.ndarray, "N 2"] | None:
    """Centres of circles of one scene, each uniform over the room that those before it have left.

    They lie within ``reach`` of the origin in x and in y, or with ``region`` "disc" in distance. The circles are at
    least ``gap`` apart, and their centres at least ``margin`` along ``front``, the direction of the ground that points
    to the viewer, and across it, so that what is left of, or behind, what is plain. None if one of them finds no room
    in so many ``attempts``; then it is for the caller to draw everything anew.
    """
    axes = np.array([front, (-front[1], front[0])]) if front is not None else np.empty((0, 2))
    centres = np.empty((len(radius), 2))
    for k in range(len(radius)):
        tries = reach * (2 * draws.uniform(attempts, 2)[0] - 1)
        apart = tries[:, None] - centres[:k]  # (attempts, k, 2)
        free = _free(apart, radius[k] + radius[:k] + gap, axes, margin)
        if region == "disc":
            free &= (tries**2).sum(1) <= reach**2
        if not free.any():
            return None
        centres[k] = tries[free.argmax()]
    return centres


def _free(
    apart: Float[np.ndarray, "A K 2"], distance: Float[np.ndarray, " K"], axes: np.ndarray, margin: float
) -> Bool[np.ndarray, " A"]:
    far = (apart**2).sum(-1) >= distance**2
    plain = (np.abs(apart @ axes.T) >= margin).all(-1)
    return (far & plain).all(1)
