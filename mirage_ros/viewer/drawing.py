"""Pictures for the window, and numbers about candidates."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mirage_ros.media import Pixels, colour_depth, contact_sheet, spread
from mirage_ros.rgbd import ImaginedFrame

# Metres that the darkest colour of depth stands for, so that colours mean the same from frame to frame.
FAR = 8.0
# RGB laid over what was invented.
INVENTED = np.array([236, 112, 64], np.float32)
COLUMNS = 7
# Views of a frame by name.
VIEWS = ("colours", "invented", "depth")


def tinted(rgb: Pixels, visible: NDArray[np.float32]) -> Pixels:
    """(..., H, W, 3): grey where remembered, orange where invented or unknown."""
    grey = rgb.astype(np.float32).mean(axis=-1, keepdims=True).repeat(3, axis=-1)
    share = (1 - np.clip(visible, 0, 1))[..., None] * 0.6
    return ((1 - share) * grey + share * INVENTED).round().astype(np.uint8)


def view(frame: ImaginedFrame, name: str) -> Pixels:
    """One of `VIEWS` of a single frame, (H, W, 3)."""
    if name == "colours":
        return frame.rgb
    return colour_depth(frame.depth, FAR) if name == "depth" else tinted(frame.rgb, frame.visible)


def enlarged(pixels: Pixels, width: int = 384) -> Pixels:
    """The picture (H, W, 3) at another width."""
    rows = max(1, round(pixels.shape[0] * width / pixels.shape[1]))
    return cv2.resize(pixels, (width, rows), interpolation=cv2.INTER_CUBIC).astype(np.uint8)


def letterboxed(pixels: Pixels, aspect: float) -> Pixels:
    """The picture on black, so that it has another aspect (width by height), twice as large."""
    height, width = pixels.shape[:2]
    rows, columns = max(height, round(width / aspect)), max(width, round(height * aspect))
    canvas = np.zeros((rows, columns, 3), np.uint8)
    top, left = (rows - height) // 2, (columns - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return enlarged(canvas, 2 * columns)


def nearest(frames: ImaginedFrame) -> float:
    """Metres to the nearest thing in the middle of any frame (T,); +inf where nothing is known there."""
    height, width = frames.depth.shape[1:]
    ahead = frames.depth[:, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
    return float(np.where(ahead > 0, ahead, np.inf).min())


def compared(labels: Sequence[str], results: Sequence[ImaginedFrame]) -> tuple[str, Pixels]:
    """A table (Markdown) and a sheet of what was imagined along candidates."""
    lines = ["| way | new | nearest |", "|---|---|---|"]
    rows = []
    for label, frames in zip(labels, results, strict=True):
        new, near = float(1 - frames.visible.mean()), nearest(frames)
        lines.append(f"| {label} | {new:.0%} | {near:.1f} m |")
        rows.append((f"{label}: {new:.0%} new, nearest {near:.1f} m", spread(frames.rgb, COLUMNS)))
        rows.append(("", [tinted(frames.rgb[i], frames.visible[i]) for i in spread(range(len(frames.rgb)), COLUMNS)]))
    return "\n".join(lines), contact_sheet(rows)
