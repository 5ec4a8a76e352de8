"""Films: H.264 MP4 files that every player opens."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from fractions import Fraction

import av
import numpy as np

from mirage_ros.media import Pixels


class VideoWriter(AbstractContextManager["VideoWriter"]):
    """Writes a film; frames are appended one by one."""

    def __init__(self, path: str | os.PathLike[str], rate: float) -> None:
        """Open the file, which ends in .mp4, for a film of `rate` frames per second."""
        if not rate > 0:
            raise ValueError(f"rate: expected positive frames per second, got {rate}")
        self._container = av.open(os.fspath(path), "w")
        self._rate = Fraction(rate).limit_denominator(1000)
        self._stream: av.VideoStream | None = None

    def append(self, rgb: Pixels) -> None:
        """Add one (H, W, 3) frame; an odd last row or column is dropped, as 4:2:0 needs even sides."""
        height, width = rgb.shape[0] // 2 * 2, rgb.shape[1] // 2 * 2
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "16"})
            self._stream.height, self._stream.width, self._stream.pix_fmt = height, width, "yuv420p"
        if (height, width) != (self._stream.height, self._stream.width):
            raise ValueError(f"rgb: expected {self._stream.height}x{self._stream.width}, got {(height, width)}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb[:height, :width]), format="rgb24")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __exit__(self, *_: object) -> None:
        self.close()


def write_video(path: str | os.PathLike[str], frames: Iterable[Pixels], rate: float) -> None:
    """Write (H, W, 3) rgb frames as MP4 at `rate` frames per second."""
    with VideoWriter(path, rate) as video:
        for frame in frames:
            video.append(frame)
