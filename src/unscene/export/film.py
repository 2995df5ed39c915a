"""Films as files, written frame by frame: MP4 for the eye, GIF for pages that show nothing else."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from jaxtyping import UInt8
from PIL import GifImagePlugin, Image

QUALITY = "16"  # x264's constant rate factor: losses are hardly visible
FINEST_TIME_BASE = 65_535  # denominator of a frame rate that MP4 can hold
SHORTEST_GIF_FRAME = 2  # hundredths of a second; browsers slow down anything below


class Film:
    """A film that takes frames (H, W, 3) uint8 of one size: ``with Film(path, fps) as film: film.write(frame)``.

    The suffix of ``path``, .mp4 or .gif, decides. Frames go to the disk as they come. An odd height or width, which
    MP4's colour format has no room for, grows by repeating the last row or column.
    """

    def __init__(self, path: Path, fps: int | float) -> None:
        self._writer = _Gif(path, fps) if path.suffix == ".gif" else _Mp4(path, fps)

    def write(self, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        self._writer.write(np.ascontiguousarray(frame))

    def __enter__(self) -> Film:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


class Films(ExitStack):
    """Films of one frame rate in one folder, by file name, each opened when its first frame comes."""

    def __init__(self, folder: Path, fps: int | float) -> None:
        super().__init__()
        self.folder, self.fps = folder, fps
        self._films: dict[str, Film] = {}

    def write(self, name: str, frame: UInt8[np.ndarray, "H W 3"]) -> None:
        if name not in self._films:
            self._films[name] = self.enter_context(Film(self.folder / name, self.fps))
        self._films[name].write(frame)


class _Mp4:
    def __init__(self, path: Path, fps: int | float) -> None:
        self.container = av.open(str(path), "w", format="mp4")
        rate = Fraction(fps).limit_denominator(FINEST_TIME_BASE)
        self.stream = self.container.add_stream("libx264", rate=rate, options={"crf": QUALITY})
        self.stream.pix_fmt = "yuv420p"  # the only one that every player knows
        self.stream.codec_context.thread_count = 1  # a film is small, and a few of them are open at once
        self.empty = True

    def write(self, frame: np.ndarray) -> None:
        height, width = frame.shape[:2]
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self.empty:
            self.stream.height, self.stream.width = frame.shape[:2]
            self.empty = False
        self.container.mux(self.stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def close(self) -> None:
        if not self.empty:
            self.container.mux(self.stream.encode())
        self.container.close()


class _Gif:
    """Pillow's `save` would gather all frames first; its parts write one after the other."""

    def __init__(self, path: Path, fps: int | float) -> None:
        self.file = path.open("wb")
        self.duration = 10 * max(round(100 / fps), SHORTEST_GIF_FRAME)
        self.empty = True

    def write(self, frame: np.ndarray) -> None:
        image = Image.fromarray(frame).quantize(256, dither=Image.Dither.NONE)
        if self.empty:
            for part in GifImagePlugin.getheader(image, info={"loop": 0, "duration": self.duration})[0]:
                self.file.write(part)
            self.empty = False
        for part in GifImagePlugin.getdata(image, duration=self.duration, include_color_table=True):
            self.file.write(part)

    def close(self) -> None:
        self.file.write(b";")
        self.file.close()
