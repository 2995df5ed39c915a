"""Flights through Objects Room: where the camera goes, what stays as it is, and clips of them."""

import numpy as np
import pytest
import torch

pytest.importorskip("mujoco")

from unscene.data.clips import Clips, ReadsClips
from unscene.data.preprocess import to_grayscale
from unscene.data.rendering.mujoco_room import PARTS
from unscene.data.rendering.objects_room_flights import ObjectsRoomFlights
from unscene.errors import InputError


@pytest.fixture(scope="module")
def flights():
    return ObjectsRoomFlights(4).batch(range(4))


@pytest.fixture(scope="module")
def many():
    """Cameras of many flights; the pictures are tiny."""
    return ObjectsRoomFlights(16, image_size=1).batch(range(16))


def poses(camera):
    """Azimuth and pitch (B, T) in degrees, the azimuth without jumps."""
    camera = camera.double().numpy()
    azimuth = np.unwrap(np.arctan2(camera[..., 1, 3], camera[..., 0, 3]))
    return np.degrees(azimuth), np.degrees(np.arcsin(camera[..., 2, 2]))


def test_shapes_and_types(flights):
    assert flights["image"].shape == (4, 16, 3, 64, 64) and flights["image"].dtype == torch.float32
    for name in ("mask", "background"):
        assert flights[name].shape == (4, 16, 64, 64) and flights[name].dtype == torch.uint8
    assert flights["camera"].shape == (4, 16, 4, 4) and flights["visibility"].shape == (4, 4)
    assert {name: tuple(value.shape) for name, value in flights["factors"].items()} == {
        **dict.fromkeys(("shape", "size", "rotation"), (4, 4)),
        **dict.fromkeys(("color", "position", "wall_color", "floor_color"), (4, 4, 3)),
    }


def test_the_camera_moves_at_constant_speed(many):
    azimuth, pitch = poses(many["camera"])
    for angle, fastest in ((azimuth, 6), (pitch, 2)):
        speed = np.diff(angle, axis=1)
        assert np.ptp(speed, axis=1).max() < 1e-3  # of float32 matrices
        assert np.abs(speed).max() < fastest and np.abs(speed[:, 0]).max() > fastest / 2
        assert (speed[:, 0] > 0).any() and (speed[:, 0] < 0).any()
    assert pitch.min() > -25 - 1e-3 and pitch.max() < 22 + 1e-3
    radius = many["camera"][..., :2, 3].norm(dim=-1)
    torch.testing.assert_close(radius, torch.full_like(radius, 3.2))


@pytest.mark.parametrize("frames", [1, 40])
def test_the_pitch_stays_in_its_range_in_flights_of_any_length(frames):
    flights = ObjectsRoomFlights(3, frames=frames, image_size=1).batch(range(3))
    assert flights["image"].shape == (3, frames, 3, 1, 1)
    _, pitch = poses(flights["camera"])
    assert pitch.min() > -25 - 1e-3 and pitch.max() < 22 + 1e-3


def test_every_frame_shows_an_object_well(flights):
    pixels = torch.stack([(flights["mask"] == i).flatten(2).sum(2) for i in (1, 2, 3)])  # (N, B, T)
    assert (pixels >= 16).any(0).all()
    assert torch.equal(flights["visibility"][:, 1:], (pixels > 0).any(2).T)
    assert torch.equal(flights["background"] == 0, flights["mask"] > 0)


def test_an_object_keeps_its_id_and_place(flights):
    """Where the middle of an object comes to lie in a frame, there is the object itself, or one before it."""
    seen = 0
    for mask, camera, position in zip(
        *(flights[n].numpy() for n in ("mask", "camera")), _positions(flights), strict=True
    ):
        for frame, pose in zip(mask, camera, strict=True):
            x, y, depth = ((position - pose[:3, 3]) @ pose[:3, :3]).T
            column, row = (np.floor(32 * (1 + c / depth / np.tan(np.radians(30)))).astype(int) for c in (x, y))
            for i in np.flatnonzero((depth > 0) & (np.abs(column - 31.5) < 31) & (np.abs(row - 31.5) < 31)):
                found = frame[row[i], column[i]]
                assert found > 0 and depth[found - 1] <= depth[i] + 1e-4
                seen += found == i + 1
    assert seen > 60


def _positions(flights):
    return flights["factors"]["position"][:, 1:].numpy()


def test_only_the_camera_moves(flights):
    """Parts of the room that two frames show have the same brightness in both: the median hardly changes."""
    for image, background in zip(flights["image"].mean(2), flights["background"], strict=True):
        for part in set(PARTS.tolist()) - {0, 1}:  # of the sky other heights are seen
            shown = [frame[where] for frame, where in zip(image, background == part, strict=True) if where.sum() > 200]
            medians = [float(values.median()) for values in shown]
            assert not medians or max(medians) - min(medians) < 0.12


def test_a_flight_does_not_depend_on_its_batch(flights):
    again = ObjectsRoomFlights(9).batch([2, 0])
    for name in ("image", "mask", "background", "camera", "visibility"):
        assert torch.equal(again[name], flights[name][[2, 0]]), name
    assert not torch.equal(flights["image"][0], ObjectsRoomFlights(9, seed=1)[0]["image"])


def test_clips_are_cut_from_the_flights(flights):
    dataset = ObjectsRoomFlights(4)
    assert isinstance(dataset, ReadsClips)
    clips = Clips(dataset, 5).batch([1, 11])  # of three per flight
    for name in ("image", "mask", "background", "camera"):
        assert torch.equal(clips[name], torch.stack([flights[name][0, 5:10], flights[name][3, 10:15]])), name
    assert torch.equal(clips["factors"]["position"], flights["factors"]["position"][[0, 3]])
    for i in range(4):
        assert torch.equal(clips["visibility"][:, i], (clips["mask"] == i).flatten(1).any(1))


def test_grayscale(flights):
    dataset = ObjectsRoomFlights(4, grayscale=True)
    assert torch.equal(dataset[1]["image"], to_grayscale(flights["image"][1]))
    assert torch.equal(Clips(dataset, 2)[9]["image"], to_grayscale(flights["image"][1, 2:4]))


def test_provenance_names_the_renderer():
    assert ObjectsRoomFlights(1).provenance()["renderer"].startswith("mujoco ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 0}, "frames is 0; a flight has at least 1 frame"),
        ({"image_size": 0}, "image_size is 0; Objects Room is drawn with 1 to 1024 pixels a side"),
        ({"num_scenes": 0}, "num_scenes is 0; ask for at least 1 scene"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        ObjectsRoomFlights(**options)
