"""sensor_msgs/Image <-> numpy, for the encodings that cameras and this package use, and depth images <-> metres."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import as_float32, check_message, check_size, header_or_empty
from mirage_ros.ros.conversions.colours import COLOURS, convert_colours

DEPTH_ENCODINGS = ("32FC1", "16UC1", "mono16")
MILLIMETRES = 1000.0
# The largest distance that 16 bits of millimetres hold; the next value up is what some drivers send for "too far", and
# some for "unknown".
MAX_MILLIMETRES = 65534


@dataclass(frozen=True)
class Encoding:
    """How pixels of one encoding lie in memory.

    Attributes:
        dtype: of a channel, native byte order.
        channels: values a pixel.
        order: of the channels, "rgb", "bgra", ..., "mono" for brightness, or "" where they have no colour meaning.
    """

    dtype: np.dtype[Any]
    channels: int
    order: str

    @property
    def pixel_bytes(self) -> int:
        """Bytes of one pixel."""
        return self.dtype.itemsize * self.channels


ENCODINGS = {
    name: Encoding(np.dtype(kind), channels, order)
    for name, kind, channels, order in (
        ("rgb8", "u1", 3, "rgb"),
        ("bgr8", "u1", 3, "bgr"),
        ("rgba8", "u1", 4, "rgba"),
        ("bgra8", "u1", 4, "bgra"),
        ("mono8", "u1", 1, "mono"),
        ("mono16", "u2", 1, "mono"),
        ("8UC1", "u1", 1, ""),
        ("8UC3", "u1", 3, ""),
        ("16UC1", "u2", 1, ""),
        ("32FC1", "f4", 1, ""),
    )
}


def image_to_numpy(message: Image, encoding: str | None = None) -> NDArray[Any]:
    """Pixels of an image message.

    Args:
        message: any encoding of ENCODINGS, either byte order, rows padded to any `step`.
        encoding: wanted one; the message's own by default. Colours and mono8 convert into each other; a depth or a
            matrix encoding (16UC1, 32FC1, 8UC1, 8UC3) stands for itself, except that single channels of the same type
            (mono8 and 8UC1, mono16 and 16UC1) are the same pixels.

    Returns:
        (H, W) or (H, W, channels) in native byte order. Where nothing has to change it is a view of the message's
        buffer, without a copy, and changes when the message does; the message cannot grow while the view lives.
        Padded rows make a view with gaps; `np.ascontiguousarray` closes them. Pixels in the message's own encoding are
        always read-only, so that nobody's code works with one camera's layout only.

    Raises:
        TypeError: not an Image.
        ValueError: the message contradicts itself or its encoding does not convert; names the field.
    """
    check_message(message, Image, "image")
    target = None if encoding is None else _lookup(encoding, "encoding")
    if encoding in COLOURS and message.encoding not in COLOURS:
        usable = [*COLOURS, *(["8UC1"] if encoding == "mono8" else [])]
        if message.encoding not in usable:
            raise ValueError(f"image.encoding: expected one of {', '.join(usable)}, got {message.encoding!r}")
    pixels, source, own = _unpack(message), ENCODINGS[message.encoding], message.encoding
    if target is None or encoding is None or encoding == own:
        return pixels
    if source.channels == target.channels == 1 and source.dtype == target.dtype:
        return pixels
    if own in COLOURS and encoding in COLOURS:
        return convert_colours(message, pixels, encoding)
    raise ValueError(f"image.encoding: {own} does not convert to {encoding}")


def numpy_to_image(array: NDArray[Any], encoding: str, header: Header | None = None) -> Image:
    """Image message of an array, with tightly packed rows in this machine's byte order.

    Args:
        array: (H, W) or (H, W, channels) of exactly the encoding's type.
        encoding: one of ENCODINGS.
        header: stamp and frame.

    Raises:
        TypeError: the header is no Header.
        ValueError: the array does not fit the encoding.
    """
    kind = _lookup(encoding, "encoding")
    array = np.asarray(array)
    shape = array.shape[:2] + ((kind.channels,) if kind.channels > 1 else ())
    if array.dtype != kind.dtype or array.ndim < 2 or array.shape != shape or not array.size > 0:
        expected = "(H, W)" if kind.channels == 1 else f"(H, W, {kind.channels})"
        raise ValueError(f"array: expected {expected} {kind.dtype} for {encoding}, got {array.shape} {array.dtype}")
    message = Image(header=header_or_empty(header), encoding=encoding, is_bigendian=int(sys.byteorder == "big"))
    message.height, message.width = array.shape[:2]
    message.step = message.width * kind.pixel_bytes
    # Filling the fresh message's own array is one copy; assigning to `data` checks every byte in Python.
    message.data.frombytes(np.ascontiguousarray(array).data.cast("B"))
    return message


def _lookup(encoding: str, field: str) -> Encoding:
    try:
        return ENCODINGS[encoding]
    except (KeyError, TypeError):
        raise ValueError(f"{field}: expected one of {', '.join(ENCODINGS)}, got {encoding!r}") from None


def _unpack(message: Image, name: str = "image") -> NDArray[Any]:
    """(H, W[, C]) in native byte order; a view where the buffer allows. Errors begin with the name."""
    kind = _lookup(message.encoding, f"{name}.encoding")
    check_size(message, name)
    height, width, step = message.height, message.width, message.step
    if message.is_bigendian not in (0, 1):
        raise ValueError(f"{name}.is_bigendian: expected 0 or 1, got {message.is_bigendian}")
    row = width * kind.pixel_bytes
    if step < row:
        raise ValueError(
            f"{name}.step: expected at least {row} bytes for {width} pixels of {message.encoding}, got {step}"
        )
    # The last row may come without its padding.
    shortest, full = step * (height - 1) + row, step * height
    if not shortest <= len(message.data) <= full:
        raise ValueError(f"{name}.data: expected {full} bytes ({height} rows of step {step}), got {len(message.data)}")
    buffer = np.frombuffer(message.data, dtype=np.uint8)
    buffer.flags.writeable = False
    dtype = kind.dtype.newbyteorder(">" if message.is_bigendian else "<")
    strides: tuple[int, ...] = (step, kind.pixel_bytes, kind.dtype.itemsize)
    pixels: NDArray[Any] = np.ndarray((height, width, kind.channels), dtype, buffer.data, strides=strides)
    if kind.channels == 1:
        pixels = pixels[..., 0]
    # Rows that start between two numbers are copied too: torch, for one, cannot look at them.
    native = pixels.astype(kind.dtype, copy=not pixels.flags.aligned)
    native.flags.writeable = False
    return native


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
    values = _unpack(message, "depth")
    if values.dtype == np.uint16:
        return np.where(values <= MAX_MILLIMETRES, values, 0).astype(np.float32) / np.float32(MILLIMETRES)
    with np.errstate(invalid="ignore"):
        return np.where(values > 0, values, np.float32(0))


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
    if encoding not in ("32FC1", "16UC1"):
        raise ValueError(f"encoding: expected 32FC1 or 16UC1, got {encoding!r}")
    metres = np.asarray(metres)
    if metres.ndim != 2 or not np.issubdtype(metres.dtype, np.floating):
        raise ValueError(f"metres: expected (H, W) floating point, got {metres.shape} {metres.dtype}")
    metres = as_float32(metres)
    with np.errstate(invalid="ignore"):
        known = metres > 0
    if encoding == "32FC1":
        return numpy_to_image(np.where(known, metres, np.float32(np.nan)), encoding, header)
    millimetres = np.rint(np.where(known, metres, 0).astype(np.float64) * MILLIMETRES)
    values = np.where(millimetres <= MAX_MILLIMETRES, millimetres, 0).astype(np.uint16)
    return numpy_to_image(values, encoding, header)
