"""CLEVRERLike: videos of colliding objects after CLEVRER, simulated and rendered on demand, with true masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unscene.data.clevrer import SPLITS
from unscene.data.clevrer_annotations import CATEGORIES
from unscene.data.generator import Draws, GeneratedVideos, assemble, pad_objects
from unscene.data.rendering.camera import camera_to_world
from unscene.data.rendering.clevrer_physics import Contact, Tracks, simulate
from unscene.data.rendering.clevrer_stage import clevrer_stage, outlines
from unscene.data.rendering.clevrer_start import Start, begin
from unscene.data.rendering.clevrer_view import clevrer_camera, in_picture
from unscene.data.rendering.clevrer_writer import clevrer_files
from unscene.data.rendering.gl import import_mujoco
from unscene.data.rendering.renderers import open_renderer
from unscene.data.rendering.stage import Camera
from unscene.errors import InputError
from unscene.scenes import Scenes

MOST = 10  # objects that CLEVRER's reader has room for
CONTACTS = 32  # that a video has room for
MOTION = ("location", "velocity", "orientation", "angular_velocity")


class CLEVRERLike(GeneratedVideos):
    """Videos of cubes, spheres and cylinders that lie on a gray floor or slide into view, and collide.

    ``fewest`` to ``most`` objects, all numbers equally likely, of equal size, in CLEVRER's eight colours and two
    materials, no two of the same kind. At least one lies in view, at least one comes in from the left, the right or
    the front within 2.5 seconds, most of them towards one that lies. Nineteen of twenty videos have a collision.

    ``image`` (B, T, 3, H, W), or (B, T, 1, H, W) with ``grayscale``; 25.6 frames per second. The camera is
    CLEVRER's; images of any ``image_size`` (H, W) show as much in height as its 320 x 480 pixels, and what then fits
    in width: (64, 64) shows the square that `CLEVRER` cuts out. ``mask`` (B, T, H, W) uint8. ``factors`` of the
    N = 1 + ``most`` entities, 0 for the background and for objects that a video does not have: ``color``, ``material``,
    ``shape`` (B, N) categories from 1, in the order of CATEGORIES in `clevrer_annotations`; ``location``, ``velocity``,
    ``orientation``, ``angular_velocity`` (B, N, T, 3) in CLEVRER's unit (objects are 0.4 high), radians and seconds;
    ``inside`` (B, N, T) bool, whether the object would be in the picture if nothing hid it. ``visibility`` (B, N):
    whether it has a pixel in any frame.

    ``contacts`` (B, 32, 3) int16: of each encounter in the whole video the first frame after they touched, and the two
    ids, -1 beyond the last; ``contact_location`` (B, 32, 3). ``camera`` (B, T, 4, 4), always the same, from the
    camera's axes (to the right, down, along the line of sight) to the world's.

    ``frames``: a video's first frames do not depend on how many there are, nor does what happens in it depend on
    ``image_size`` and the renderer's options ``samples`` per pixel, ``denoise`` and ``variant``, see `MitsubaRenderer`.
    Motion repeats on the same version of MuJoCo only, see `provenance`. `files` are in CLEVRER's layout and numbering,
    which has room for 10,000, 5,000 and 5,000 videos.

    Raises InputError for other sizes and numbers, for more videos than the split has room for, and where the
    packages of the extra ``render`` are missing.

    After CLEVRER (Yi et al., 2020). Its simulation is unpublished: size, camera, friction, drag and restitution are
    what VRDP (Ding et al., 2021) uses or estimates; masses are equal. Not faithful: objects only slide and turn
    around the vertical; how they are placed and thrown is our choice; lamps and materials are those of our CLEVR.
    """

    timed_factors = (*MOTION, "inside")

    def __init__(
        self,
        num_scenes: int = 1_000,
        seed: int = 0,
        split: str = "train",
        frames: int = 128,
        image_size: Sequence[int] = (64, 64),
        fewest: int = 4,
        most: int = 6,
        samples: int = 16,
        denoise: bool = True,
        renderer: str = "mitsuba",
        variant: str = "auto",
        grayscale: bool = False,
    ) -> None:
        super().__init__(num_scenes, seed, split, grayscale)
        if num_scenes > len(SPLITS[split]):
            raise InputError(
                f"num_scenes is {num_scenes}; CLEVRER numbers {len(SPLITS[split])} videos of split {split!r}, "
                "take more seeds for more"
            )
        size = tuple(image_size)
        if frames < 1 or len(size) != 2 or min(size) < 1:
            raise InputError(
                f"frames is {frames} and image_size {size}; film at least 1 frame, and give a height and a width"
            )
        if not 2 <= fewest <= most <= MOST:
            raise InputError(f"cannot film {fewest} to {most} objects; set 2 <= fewest <= most <= {MOST}")
        self.split, self.num_frames, self.image_size = split, frames, size
        self.fewest, self.most = fewest, most
        self._camera = clevrer_camera(size)
        self._mujoco = import_mujoco().__version__
        self._renderer = open_renderer(renderer, samples, denoise, variant)

    def provenance(self) -> dict[str, str]:
        return self._renderer.describe() | {"physics": f"mujoco {self._mujoco}"}

    def files(self, index: int, scene: Scenes) -> dict[str, bytes]:
        """The files of video ``index``, which is ``scene``, in CLEVRER's layout; see `clevrer_files`."""
        return clevrer_files(SPLITS[self.split][index], scene)

    def _film(self, draws: Draws, starts: Sequence[int], frames: int) -> Scenes:
        videos = [self._shoot(draws[[b]], range(start, start + frames)) for b, start in enumerate(starts)]
        arrays, factors = (
            {name: np.stack([part[name] for part in parts]) for name in parts[0]} for parts in zip(*videos, strict=True)
        )
        scenes = assemble(arrays.pop("image"), arrays.pop("mask"), factors)
        return scenes | {name: torch.from_numpy(array) for name, array in arrays.items()}

    def _shoot(self, draws: Draws, frames: range) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """What a batch has of these frames of one video, and the objects' factors."""
        start = begin(draws, self.fewest, self.most)
        shapes = [shape for _, _, shape in start.kinds]
        tracks = simulate(shapes, start.position, start.velocity, start.angle, self.num_frames)
        pictures = [self._renderer.render(clevrer_stage(start, tracks, t, self._camera)) for t in frames]
        image, mask = (np.concatenate(parts) for parts in zip(*pictures, strict=True))
        arrays = {
            "image": image.transpose(0, 3, 1, 2).astype(np.float32) / 255,
            "mask": mask,
            "camera": np.tile(camera_to_world(self._camera).astype(np.float32), (len(frames), 1, 1)),
            **_table(tracks.contacts),
        }
        return arrays, _factors(start, tracks, frames, self._camera, self.most)


def _factors(start: Start, tracks: Tracks, frames: range, camera: Camera, most: int) -> dict[str, np.ndarray]:
    """{name: (most, ...)}, 0 for objects that are not there."""
    upright = {"orientation": tracks.angle, "angular_velocity": tracks.spin}
    motion = {"location": tracks.location, "velocity": tracks.velocity}
    motion |= {name: turn[..., None] * (0, 0, 1) for name, turn in upright.items()}
    when = slice(frames.start, frames.stop)
    named = zip(CATEGORIES.items(), zip(*start.kinds, strict=True), strict=True)
    values = {name: np.array([1 + names.index(k) for k in kinds], np.uint8) for (name, names), kinds in named}
    values |= {name: motion[name][:, when].astype(np.float32) for name in MOTION}
    shapes = outlines(start, tracks.location[:, when], tracks.angle[:, when])
    values["inside"] = np.stack([in_picture(camera, points).any(-1) for points in shapes])
    return pad_objects(values, most)


def _table(contacts: Sequence[Contact]) -> dict[str, np.ndarray]:
    """The first 32 contacts, with ids, and where they are."""
    table, places = np.full((CONTACTS, 3), -1, dtype=np.int16), np.zeros((CONTACTS, 3), dtype=np.float32)
    for row, contact in enumerate(contacts[:CONTACTS]):
        table[row], places[row] = (contact.frame, contact.first + 1, contact.second + 1), contact.location
    return {"contacts": table, "contact_location": places}
