"""ObjectsRoomFlights: videos of the rooms of ObjectsRoom, in which only the camera moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unscene.data.generator import Draws, GeneratedVideos
from unscene.data.rendering.mujoco_room import room
from unscene.data.rendering.objects_room import PITCH, VARIANTS, check_size
from unscene.data.rendering.room_scenes import assemble_shots, shoot
from unscene.errors import InputError
from unscene.scenes import Scenes

TURN, NOD = np.radians([6, 2])  # largest speed of the camera along its circle, and of its pitch, per frame


class ObjectsRoomFlights(GeneratedVideos):
    """Flights through the rooms of `ObjectsRoom`: the camera runs along its circle and nods, both at constant speed.

    There are 3 objects, and each frame shows at least 1 of them. Both speeds are uniform, that along the circle between
    -6 and 6 degrees per frame and that of the pitch between -2 and 2, or what the range of the pitch leaves in this
    many frames; flights of different lengths are therefore different ones.

    ``image`` (B, T, 3, S, S) with T = ``frames`` and S = ``image_size``, one channel with ``grayscale``; ``mask`` and
    ``background`` (B, T, S, S) uint8, ``camera`` (B, T, 4, 4), ``factors`` and the rest as in `ObjectsRoom`, with N = 4
    entities. ``visibility`` (B, N): in any frame.

    Raises InputError for less than 1 frame, and as `ObjectsRoom` does.

    After the sequences of Objects Room in IODINE (Greff et al., 2019, B.5), which were never released; that the speeds
    are constant and drawn for each flight is stated there, their range is our choice.
    """

    timed_factors = ()

    def __init__(
        self,
        num_scenes: int = 50_000,
        seed: int = 0,
        split: str = "train",
        frames: int = 16,
        image_size: int = 64,
        grayscale: bool = False,
    ) -> None:
        if frames < 1:
            raise InputError(f"frames is {frames}; a flight has at least 1 frame")
        super().__init__(num_scenes, seed, split, grayscale)
        self.num_frames, self.image_size = frames, check_size(image_size)

    def provenance(self) -> dict[str, str]:
        """What else the pixels depend on."""
        return room().describe()

    def _film(self, draws: Draws, starts: Sequence[int], frames: int) -> Scenes:
        variant = VARIANTS[None]
        taken = (slice(start, start + frames) for start in starts)
        shots = [shoot(draws[np.array([i])], variant, self.image_size, self._fly, when) for i, when in enumerate(taken)]
        return assemble_shots(shots, variant.most)

    def _fly(self, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
        """Azimuth and pitch (T,) of the camera."""
        start, turn, height, nod = draws.uniform(4)[0]
        time = np.arange(self.num_frames)
        fastest = min(NOD, np.ptp(PITCH) / max(self.num_frames - 1, 1))
        way = (2 * nod - 1) * fastest * time  # of the pitch from its start on
        lowest, highest = PITCH[0] - way.min(), PITCH[1] - way.max()
        return 2 * np.pi * start + (2 * turn - 1) * TURN * time, lowest + (highest - lowest) * height + way
