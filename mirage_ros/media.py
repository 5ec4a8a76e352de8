"""Pictures and films of what cameras see: colour maps, contact sheets, MP4."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

MARGIN = 4
CAPTION_HEIGHT = 18
BACKGROUND = 24
# RGB of the simulator's classes static, moving and sky.
LABEL_COLOURS = np.array([[96, 96, 104], [236, 112, 64], [112, 176, 236]], dtype=np.uint8)


def colour_depth(depth: NDArray[np.floating], far: float | None = None) -> Pixels:
    """Depth as colours: near is bright yellow, far is dark blue, invalid is black.

    Args:
        depth: (..., H, W) metres; 0 and non-finite values are invalid.
        far: depth that gets the darkest colour, metres; the largest valid one by default.

    Returns:
        (..., H, W, 3) rgb.
    """
    metres = np.asarray(depth, dtype=np.float32)
    valid = np.isfinite(metres) & (metres > 0)
    if far is None:
        far = float(metres[valid].max()) if valid.any() else 1.0
    if not far > 0:
        raise ValueError(f"far: expected a positive number of metres, got {far}")
    # The square root spends more of the colours on what is near.
    nearness = 1 - np.sqrt(np.clip(np.where(valid, metres, far) / far, 0, 1))
    levels = (255 * nearness).astype(np.uint8)
    flat = levels.reshape(-1, levels.shape[-1])
    rgb = cv2.applyColorMap(flat, cv2.COLORMAP_INFERNO)[..., ::-1].reshape(*levels.shape, 3)
    return np.where(valid[..., None], rgb, np.uint8(0))


def colour_labels(labels: NDArray[np.integer]) -> Pixels:
    """(..., H, W) classes of the simulator as (..., H, W, 3) rgb: grey static, orange moving, blue sky."""
    if labels.size and (labels.min() < 0 or labels.max() >= len(LABEL_COLOURS)):
        raise ValueError(f"labels: expected 0 to {len(LABEL_COLOURS) - 1}, got {labels.min()} to {labels.max()}")
    return LABEL_COLOURS[labels]


def contact_sheet(rows: Sequence[tuple[str, Sequence[Pixels]]], scale: int = 1) -> Pixels:
    """Pictures in captioned rows on one dark sheet.

    Args:
        rows: caption and (H, W, 3) rgb pictures of each row, all of one size.
        scale: whole factor by which pictures are enlarged, nearest neighbour.

    Returns:
        (H', W', 3) rgb.
    """
    pictures = [picture for _, row in rows for picture in row]
    if not pictures:
        raise ValueError("rows: expected at least one picture, got none")
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise ValueError(f"rows: expected pictures of one size, got {sorted(shapes)}")
    height, width = pictures[0].shape[0] * scale, pictures[0].shape[1] * scale
    columns = max(len(row) for _, row in rows)
    row_height = CAPTION_HEIGHT + height + MARGIN
    sheet = np.full(
        (len(rows) * row_height + MARGIN, columns * (width + MARGIN) + MARGIN, 3), BACKGROUND, dtype=np.uint8
    )
    for i, (caption, row) in enumerate(rows):
        top = i * row_height
        baseline = (MARGIN, top + CAPTION_HEIGHT - 5)
        cv2.putText(sheet, caption, baseline, cv2.FONT_HERSHEY_SIMPLEX, 0.42, (230, 230, 230), 1, cv2.LINE_AA)
        for j, picture in enumerate(row):
            left = MARGIN + j * (width + MARGIN)
            enlarged = picture.repeat(scale, axis=0).repeat(scale, axis=1)
            sheet[top + CAPTION_HEIGHT : top + CAPTION_HEIGHT + height, left : left + width] = enlarged
    return sheet


def read_picture(path: str | os.PathLike[str], field: str) -> Pixels:
    """Read a picture file as (H, W, 3) rgb.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture. Both messages begin with `field`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{field}: {os.fspath(path)} is not a file")
    bgr = cv2.imread(os.fspath(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise ValueError(f"{field}: expected a picture, got {os.fspath(path)}")
    return np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8)


def save_png(path: str | os.PathLike[str], rgb: Pixels) -> None:
    """Write (H, W, 3) rgb.

    Raises:
        OSError: the file cannot be written.
        ValueError: not an rgb picture, or the name does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path: expected a name that ends in .png, got {os.fspath(path)!r}")
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))
    if not done:
        raise ValueError(f"rgb: expected (H, W, 3) uint8, got {rgb.shape} {rgb.dtype}")
    Path(path).write_bytes(encoded.tobytes())


class VideoWriter:
    """An H.264 MP4 that every player opens; frames are appended one by one."""

    def __init__(self, path: str | os.PathLike[str], rate: float) -> None:
        """Open the file.

        Args:
            path: where to; ends in .mp4.
            rate: frames per second.
        """
        if not rate > 0:
            raise ValueError(f"rate: expected positive frames per second, got {rate}")
        self._container = av.open(os.fspath(path), "w")
        self._rate = Fraction(rate).limit_denominator(1000)
        self._stream: av.VideoStream | None = None

    def append(self, rgb: Pixels) -> None:
        """Add one (H, W, 3) frame; an odd last row or column is dropped, as 4:2:0 needs even sides."""
        even = np.ascontiguousarray(rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2])
        if self._stream is None:
            self._stream = self._container.add_stream("libx264", rate=self._rate, options={"crf": "16"})
            self._stream.height, self._stream.width = even.shape[:2]
            self._stream.pix_fmt = "yuv420p"
        if even.shape[:2] != (self._stream.height, self._stream.width):
            raise ValueError(f"rgb: expected {self._stream.height}x{self._stream.width}, got {even.shape[:2]}")
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(even, format="rgb24")))

    def close(self) -> None:
        """Finish the file."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_video(path: str | os.PathLike[str], frames: Iterable[Pixels], rate: float) -> None:
    """Write (H, W, 3) rgb frames as MP4 at `rate` frames per second."""
    with VideoWriter(path, rate) as video:
        for frame in frames:
            video.append(frame)
