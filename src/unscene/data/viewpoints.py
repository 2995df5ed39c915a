"""Viewpoints: the vectors that tell a model from where a view was taken."""

from __future__ import annotations

import numpy as np

POSE = 5  # numbers of a pose as GQN stores it: x, y, z, yaw, pitch


def normalise_cameras(location: np.ndarray) -> np.ndarray:
    """Viewpoints (..., 3) float32 of cameras at (..., 3) that look at the origin, as MulMON has them.

    The height is left out (the third number is 0), x and y are scaled to the unit circle, then (1, 0, 0) is taken off.
    """
    flat = np.asarray(location, dtype=np.float64) * (1, 1, 0)
    return (flat / (np.linalg.norm(flat, axis=-1, keepdims=True) + 1e-5) - (1, 0, 0)).astype(np.float32)


def expand_poses(pose: np.ndarray) -> np.ndarray:
    """Viewpoints (..., 7) float32: x, y, z, sin yaw, cos yaw, sin pitch, cos pitch of GQN's poses (..., 5)."""
    position, angles = pose[..., :3], pose[..., 3:]
    turned = np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(*pose.shape[:-1], 4)
    return np.concatenate([position, turned], axis=-1).astype(np.float32)
