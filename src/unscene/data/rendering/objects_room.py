"""ObjectsRoom: a room with coloured walls and a few solid objects, drawn on demand."""

from __future__ import annotations

import numpy as np

from unscene.data.generator import Draws, GeneratedScenes
from unscene.data.rendering.mujoco_room import room
from unscene.data.rendering.room_scenes import Variant, assemble_shots, shoot
from unscene.errors import InputError
from unscene.scenes import Scenes

PITCH = np.radians([-25, 22])  # of the line of sight above the horizon, lowest and highest
LARGEST = 1024  # image size
VARIANTS = {
    None: Variant(3, 3, fewest_seen=1),
    "empty_room": Variant(0, 0, fewest_seen=0),
    "six_objects": Variant(6, 6, fewest_seen=6),
    "identical_color": Variant(4, 6, fewest_seen=1, one_color=True),
}


class ObjectsRoom(GeneratedScenes):
    """A square room of one colour under a blue sky, with solids on its floor, seen from a circle along its walls.

    =====================  =======================================================
    ``variant``            objects
    =====================  =======================================================
    None                   3, of which at least 1 is in the picture
    ``empty_room``         none
    ``six_objects``        6, all in the picture
    ``identical_color``    4 to 6 of one colour, at least 1 of them in the picture
    =====================  =======================================================

    Being in the picture is having 16 of 64 x 64 pixels, or more. The camera looks to the middle of the room and up or
    down by any angle between 22 and -25 degrees, with a field of view of 60 degrees. The colours are of any hue, those
    of wall and floor paler. The light does not change.

    ``image`` (B, 3, S, S) with S = ``image_size``, one channel with ``grayscale``; ``mask`` (B, S, S) uint8: what the
    centre of the pixel shows, 0 where it is no object; ``background`` (B, S, S) uint8 tells what it is then: 1 sky, 2
    floor, 3 the pair of walls across x and 4 that across y; 0 is an object. ``visibility`` (B, N). ``camera``
    (B, 4, 4) from the camera's axes (to the right, down, along the line of sight) to the room's (z upwards, the middle
    of the floor is 0, the walls are at 3.5).

    ``factors`` of the N = 1 + (largest number of) objects, 0 where there is none: ``shape`` 1 box, 2 sphere,
    3 cylinder, 4 capsule, 5 ellipsoid, 6 cone, 7 icosahedron, 8 prism; ``size`` one of eight from 0.375 to 0.625, the
    unit of the shapes in `room_model.SHAPES`; ``color`` (B, N, 3); ``position`` (B, N, 3) of the middle; ``rotation``
    around the vertical, in degrees, less than what brings the shape back to itself. ``wall_color`` and
    ``floor_color`` (B, N, 3) are the background's, entity 0, and 0 for objects.

    What a scene holds does not depend on ``image_size``; its pixels depend on MuJoCo's version and on the OpenGL
    driver (`provenance`). Worker processes must be spawned where OpenGL draws on a graphics card that this process has
    used; with the software renderer they can be forked at any time.
    Raises InputError for an unknown ``variant``, sizes outside of 1 to 1024, and where MuJoCo or OpenGL is missing.

    After the Objects Room of the Multi-Object Datasets (Kabra et al., 2019; first in MONet, Burgess et al., 2019),
    whose generator is unpublished. Not faithful: angles, shapes and their number follow the paper of IODINE (Greff et
    al., 2019, B.5) and GQN's rooms (Eslami et al., 2018); sizes, lens, light, colours and which walls make a half are
    our own.
    """

    def __init__(
        self,
        num_scenes: int = 60_000,
        seed: int = 0,
        split: str = "train",
        variant: str | None = None,
        image_size: int = 64,
        grayscale: bool = False,
    ) -> None:
        if variant not in VARIANTS:
            known = ", ".join(name for name in VARIANTS if name)
            raise InputError(f"unknown variant {variant!r} of Objects Room; choose one of {known}, or none")
        super().__init__(num_scenes, seed, split, grayscale)
        self.variant, self.image_size = variant, check_size(image_size)

    def generate(self, draws: Draws) -> Scenes:
        variant, size = VARIANTS[self.variant], self.image_size
        shots = [shoot(draws[np.array([i])], variant, size, _stand) for i in range(len(draws.keys))]
        scenes = assemble_shots(shots, variant.most)
        return scenes | {name: scenes[name][:, 0] for name in ("image", "mask", "background", "camera")}

    def provenance(self) -> dict[str, str]:
        """What else the pixels depend on."""
        return room().describe()


def check_size(image_size: int) -> int:
    """The size itself; raises InputError for one that cannot be drawn."""
    if not 1 <= image_size <= LARGEST:
        raise InputError(f"image_size is {image_size}; Objects Room is drawn with 1 to {LARGEST} pixels a side")
    return image_size


def _stand(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Azimuth and pitch (1,) of a camera."""
    turn, pitch = draws.uniform(2)[0]
    return np.array([2 * np.pi * turn]), PITCH[:1] + np.ptp(PITCH) * pitch
