"""A video as files in CLEVRER's layout, which `unscene.data.CLEVRER` reads: MP4, annotation, and label maps."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from jaxtyping import Bool, UInt8

from unscene.data.clevrer_annotations import CATEGORIES
from unscene.data.preprocess import image_to_pixels
from unscene.data.rendering.clevrer_view import FULL_FRAME
from unscene.scenes import Scenes

RATE = Fraction(128, 5)  # frames per second
QUALITY = "16"  # x264's constant rate factor: losses are hardly visible
PER_FOLDER = 1000
TRACKS = ("location", "orientation", "velocity", "angular_velocity")


def clevrer_files(number: int, scene: Scenes) -> dict[str, bytes]:
    """The files of video ``number`` by their paths below the folder of the data set; ``scene`` is of `CLEVRERLike`.

    annotation_00000-01000/annotation_00000.json; of frames of 320 x 480 pixels also
    video_00000-01000/video_00000.mp4 and proposals/proposal_00000.json, the label maps in the form of the detections
    published with CLEVRER, for ``mask_root`` of its reader.
    """
    files = {_path("annotation", number, "json"): json.dumps(annotation(number, scene)).encode()}
    if tuple(scene["image"].shape[-2:]) == FULL_FRAME:
        files[_path("video", number, "mp4")] = encode_mp4(_rgb(scene))
        files[f"proposals/proposal_{number:05d}.json"] = json.dumps(detections(number, scene)).encode()
    return files


def annotation(number: int, scene: Scenes) -> dict[str, Any]:
    """What CLEVRER tells of a video, with its names; the objects' numbers are their ids less 1."""
    factors = {name: values.numpy() for name, values in scene["factors"].items()}
    places = np.round(scene["contact_location"].double().numpy(), 6).tolist()
    return {
        "scene_index": number,
        "video_filename": f"video_{number:05d}.mp4",
        "object_property": [{"object_id": i, **kind} for i, kind in enumerate(_kinds(scene))],
        "motion_trajectory": list(_trajectory(factors)),
        "collision": [
            {"object_ids": [first - 1, second - 1], "frame_id": frame, "location": place}
            for (frame, first, second), place in zip(scene["contacts"].tolist(), places, strict=True)
            if frame >= 0
        ],
    }


def detections(number: int, scene: Scenes) -> dict[str, Any]:
    """The label maps, frame by frame: which objects are seen, and their masks in COCO's run-length code."""
    kinds = _kinds(scene)
    frames = [
        {
            "frame_index": t,
            "objects": [
                {**kinds[i - 1], "mask": {"size": list(mask.shape), "counts": encode_rle(mask == i)}}
                for i in np.unique(mask[mask > 0])
            ],
        }
        for t, mask in enumerate(scene["mask"].numpy())
    ]
    return {"scene_index": number, "video_filename": f"video_{number:05d}.mp4", "frames": frames}


def encode_rle(mask: Bool[np.ndarray, "H W"]) -> list[int]:
    """COCO's runs of 0 and 1 in turn, down the columns; the first is of 0, and may be empty."""
    pixels = np.concatenate([[False], mask.T.ravel()])
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    return np.diff([0, *changes, mask.size]).tolist()


def encode_mp4(frames: UInt8[np.ndarray, "T H W 3"]) -> bytes:
    """The frames as a video of 25.6 frames per second; x264 does not always repeat its bytes."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": QUALITY})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1  # a video is small, and workers share the cores
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


def _path(kind: str, number: int, suffix: str) -> str:
    first = number - number % PER_FOLDER
    return f"{kind}_{first:05d}-{first + PER_FOLDER:05d}/{kind}_{number:05d}.{suffix}"


def _kinds(scene: Scenes) -> list[dict[str, str]]:
    """Colour, material and shape of the objects that are there, by their names."""
    rows = zip(*(scene["factors"][name].tolist() for name in CATEGORIES), strict=True)
    return [
        {name: names[k - 1] for (name, names), k in zip(CATEGORIES.items(), row, strict=True)}
        for row in rows
        if row[0] > 0
    ]


def _trajectory(factors: dict[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    there = np.flatnonzero(factors["color"] > 0)
    tracks = {name: np.round(factors[name].astype(np.float64), 6) for name in TRACKS}
    for t in range(factors["inside"].shape[1]):
        objects = [
            {"object_id": int(i) - 1}
            | {name: track[i, t].tolist() for name, track in tracks.items()}
            | {"inside_camera_view": bool(factors["inside"][i, t])}
            for i in there
        ]
        yield {"frame_id": t, "objects": objects}


def _rgb(scene: Scenes) -> UInt8[np.ndarray, "T H W 3"]:
    """Also of a scene in gray."""
    pixels = image_to_pixels(scene["image"]).numpy()
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:3], 3)))
