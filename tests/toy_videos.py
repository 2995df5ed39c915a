"""Small video files, written by PyAV."""

from fractions import Fraction

import av
import numpy as np


def write_video(path, frames, codec="libx264", rate=10, container=None):
    """uint8 frames (T, H, W, 3) as a video; lossless with ``codec`` "ffv1" in .mkv or .avi."""
    pixels = {"ffv1": "bgr0", "libx264": "yuv444p", "mjpeg": "yuvj444p"}.get(codec, "yuv420p")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=container) as output:
        stream = output.add_stream(codec, rate=Fraction(rate), options={"qp": "0"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *frames[0].shape[:2], pixels
        for frame in frames:
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        output.mux(stream.encode())
    return path


def write_audio(path):
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def random_frames(count=6, height=16, width=24, seed=0):
    """Smooth enough to survive compression, and all different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, height // 8, width // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, axis=1).repeat(8, axis=2)
