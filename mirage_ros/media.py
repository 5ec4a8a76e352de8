"""Pictures of what cameras see: colour maps, contact sheets, PNG."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

# How OpenCV reads colours without turning them by EXIF.
STORED_COLOUR = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION

MARGIN = 4
CAPTION_HEIGHT = 18
BACKGROUND = 24
# RGB of the simulator's classes static, moving and sky.
LABEL_COLOURS = np.array([[96, 96, 104], [236, 112, 64], [112, 176, 236]], dtype=np.uint8)


def colour_depth(depth: NDArray[np.floating[Any]], far: float | None = None) -> Pixels:
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


def colour_labels(labels: NDArray[np.integer[Any]]) -> Pixels:
    """(..., H, W) classes of the simulator as (..., H, W, 3) rgb: grey static, orange moving, blue sky."""
    if labels.size and (labels.min() < 0 or labels.max() >= len(LABEL_COLOURS)):
        raise ValueError(f"labels: expected 0 to {len(LABEL_COLOURS) - 1}, got {labels.min()} to {labels.max()}")
    return LABEL_COLOURS[labels]


def grey(share: NDArray[np.float32]) -> Pixels:
    """(..., H, W) numbers from 0 to 1 as (..., H, W, 3) black to white."""
    return np.repeat((share * 255).round().astype(np.uint8)[..., None], 3, axis=-1)


def spread(items: Any, most: int) -> list[Any]:
    """At most `most` of a sequence or of an array's rows, evenly spread, the first and the last among them."""
    return [items[index] for index in np.linspace(0, len(items) - 1, min(most, len(items))).round().astype(int)]


def contact_sheet(rows: Sequence[tuple[str, Sequence[Pixels]]]) -> Pixels:
    """Pictures (H, W, 3), all of one size, in captioned rows on one dark sheet (H', W', 3).

    Raises:
        ValueError: there is no picture, or sizes differ.
    """
    pictures = [picture for _, row in rows for picture in row]
    if not pictures:
        raise ValueError("rows: expected at least one picture, got none")
    shapes = {picture.shape for picture in pictures}
    if len(shapes) != 1:
        raise ValueError(f"rows: expected pictures of one size, got {sorted(shapes)}")
    height, width = pictures[0].shape[:2]
    columns = max(len(row) for _, row in rows)
    row_height = CAPTION_HEIGHT + height + MARGIN
    sheet = np.full((len(rows) * row_height + MARGIN, columns * (width + MARGIN) + MARGIN, 3), BACKGROUND, np.uint8)
    for i, (caption, row) in enumerate(rows):
        top = i * row_height + CAPTION_HEIGHT
        cv2.putText(sheet, caption, (MARGIN, top - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (230, 230, 230), 1, cv2.LINE_AA)
        for j, picture in enumerate(row):
            left = MARGIN + j * (width + MARGIN)
            sheet[top : top + height, left : left + width] = picture
    return sheet


def read_picture(path: str | os.PathLike[str], field: str) -> Pixels:
    """Read a picture file as (H, W, 3) rgb: its pixels as they are stored, since intrinsics and poses are theirs.

    An orientation in EXIF, as phones write it, is not followed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no picture. Both messages begin with `field`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{field}: {os.fspath(path)} is not a file")
    bgr = cv2.imread(os.fspath(path), STORED_COLOUR)
    if bgr is None:
        raise ValueError(f"{field}: expected a picture, got {os.fspath(path)}")
    return np.ascontiguousarray(bgr[..., ::-1]).astype(np.uint8)


def read_depth(path: str | os.PathLike[str], field: str, units: float = 1000.0) -> NDArray[np.float32]:
    """Read a depth image of 16 bits as (H, W) metres, 0 where unknown: 0 or 65535 in the file.

    Args:
        path: of the file.
        field: what asks for it; messages begin with it.
        units: in a metre; millimetres by default.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image of 16 bits and one channel.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{field}: {os.fspath(path)} is not a file")
    raw: NDArray[Any] | None = cv2.imread(os.fspath(path), cv2.IMREAD_UNCHANGED)
    if raw is None or raw.dtype != np.uint16 or raw.ndim != 2:
        got = "none" if raw is None else f"{raw.shape} {raw.dtype}"
        raise ValueError(f"{field}: expected depth of 16 bits and one channel in {os.fspath(path)}, got {got}")
    return np.where(raw == np.iinfo(np.uint16).max, 0, raw).astype(np.float32) / np.float32(units)


def save_png(path: str | os.PathLike[str], pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write (H, W, 3) uint8 rgb, or (H, W) of 8 or 16 bits.

    Raises:
        OSError: the file cannot be written.
        ValueError: not such a picture, or the name does not end in .png.
    """
    if Path(path).suffix.lower() != ".png":
        raise ValueError(f"path: expected a name that ends in .png, got {os.fspath(path)!r}")
    done, encoded = cv2.imencode(".png", np.ascontiguousarray(pixels[..., ::-1] if pixels.ndim == 3 else pixels))
    if not done:
        raise ValueError(f"pixels: expected (H, W, 3) uint8 or (H, W), got {pixels.shape} {pixels.dtype}")
    Path(path).write_bytes(encoded.tobytes())
