"""Depth images (REP-118) <-> metres."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import as_float32, check_message
from mirage_ros.ros.conversions.images import image_to_numpy, numpy_to_image

DEPTH_ENCODINGS = ("32FC1", "16UC1", "mono16")
MILLIMETRES = 1000.0
# The largest distance that 16 bits of millimetres hold; the next value up is what some drivers send for "too far", and
# some for "unknown".
MAX_MILLIMETRES = 65534


def depth_to_metres(message: Image) -> NDArray[np.float32]:
    """Metres along the optical axis, +inf where it is too far to measure, 0 where there is no measurement.

    Args:
        message: 32FC1 in metres, or 16UC1 (mono16 from some drivers) in millimetres, as REP-118 has it.

    Returns:
        (H, W) float32. 0, NaN and negative values, and 65535 in millimetres, which drivers send for this and for that,
        become 0.

    Raises:
        ValueError: not a depth encoding, or the message contradicts itself.
    """
    check_message(message, Image, "depth")
    if message.encoding not in DEPTH_ENCODINGS:
        raise ValueError(f"depth.encoding: expected one of {', '.join(DEPTH_ENCODINGS)}, got {message.encoding!r}")
    return metres_from_array(image_to_numpy(message))


def metres_from_array(values: NDArray[np.float32] | NDArray[np.uint16]) -> NDArray[np.float32]:
    """(H, W) metres from float metres or 16-bit millimetres, +inf where too far to measure, 0 where invalid."""
    if values.dtype == np.uint16:
        known = values <= MAX_MILLIMETRES
        return np.where(known, values, 0).astype(np.float32) / np.float32(MILLIMETRES)
    with np.errstate(invalid="ignore"):
        return np.where(values > 0, values, np.float32(0))


def array_from_metres(metres: NDArray[np.floating], encoding: str) -> NDArray[np.float32] | NDArray[np.uint16]:
    """(H, W) float metres with NaN where invalid and +inf where too far, or 16-bit millimetres with 0 for both."""
    if encoding not in ("32FC1", "16UC1"):
        raise ValueError(f"encoding: expected 32FC1 or 16UC1, got {encoding!r}")
    metres = np.asarray(metres)
    if metres.ndim != 2 or not np.issubdtype(metres.dtype, np.floating):
        raise ValueError(f"metres: expected (H, W) floating point, got {metres.shape} {metres.dtype}")
    known = metres_from_array(as_float32(metres))
    if encoding == "32FC1":
        return np.where(known > 0, known, np.float32(np.nan))
    millimetres = np.rint(known.astype(np.float64) * MILLIMETRES)
    return np.where(millimetres <= MAX_MILLIMETRES, millimetres, 0).astype(np.uint16)


def depth_from_metres(metres: NDArray[np.floating], encoding: str = "32FC1", header: Header | None = None) -> Image:
    """Depth message of (H, W) metres.

    Args:
        metres: along the optical axis; +inf is too far to measure, 0, negative values and NaN are invalid.
        encoding: 32FC1 (metres, as REP-118 has it: +inf stays, invalid ones are NaN: a 0 would be a point in the lens
            to depth_image_proc) or 16UC1 (millimetres, invalid ones and those beyond 65.534 m 0).
        header: stamp and frame.

    Raises:
        ValueError: not (H, W) floating point, or another encoding.
    """
    return numpy_to_image(array_from_metres(metres, encoding), encoding, header)
