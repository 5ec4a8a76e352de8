"""sensor_msgs/Image <-> numpy, for the encodings that cameras and this package use.

Unpacking (byte order, row padding) is done here. Colours are converted by cv_bridge where that is installed and right,
by OpenCV otherwise; see `colours`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import check_message, header_or_empty
from mirage_ros.ros.conversions.colours import COLOURS, convert_colours

# Larger images than any camera makes; what claims to be larger is refused before anything is allocated.
MAX_SIDE = 1 << 16


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


def _encoding(dtype: type, channels: int, order: str = "") -> Encoding:
    return Encoding(np.dtype(dtype), channels, order)


ENCODINGS: dict[str, Encoding] = {
    "rgb8": _encoding(np.uint8, 3, "rgb"),
    "bgr8": _encoding(np.uint8, 3, "bgr"),
    "rgba8": _encoding(np.uint8, 4, "rgba"),
    "bgra8": _encoding(np.uint8, 4, "bgra"),
    "mono8": _encoding(np.uint8, 1, "mono"),
    "mono16": _encoding(np.uint16, 1, "mono"),
    "8UC1": _encoding(np.uint8, 1),
    "8UC3": _encoding(np.uint8, 3),
    "16UC1": _encoding(np.uint16, 1),
    "32FC1": _encoding(np.float32, 1),
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
    if encoding is not None:
        _lookup(encoding, "encoding")
    native = _unpack(message)
    if encoding is None or encoding == message.encoding:
        return native
    return _convert(message, native, encoding)


def numpy_to_image(array: NDArray[Any], encoding: str, header: Header | None = None) -> Image:
    """Image message of an array, with tightly packed rows in this machine's byte order.

    Args:
        array: (H, W) or (H, W, channels) of exactly the encoding's type.
        encoding: one of ENCODINGS.
        header: stamp and frame.

    Raises:
        TypeError: the header is no Header.
        ValueError: the array is not of this encoding.
    """
    kind = _lookup(encoding, "encoding")
    array = np.asarray(array)
    shape = array.shape[:2] + ((kind.channels,) if kind.channels > 1 else ())
    if array.ndim == 3 and array.shape[2] == 1 and kind.channels == 1:
        array = array[..., 0]
    if array.dtype != kind.dtype or array.ndim < 2 or array.shape != shape or not array.size > 0:
        expected = "(H, W)" if kind.channels == 1 else f"(H, W, {kind.channels})"
        raise ValueError(f"array: expected {expected} {kind.dtype} for {encoding}, got {array.shape} {array.dtype}")
    message = Image(header=header_or_empty(header))
    message.height, message.width = array.shape[:2]
    message.encoding = encoding
    message.step = message.width * kind.pixel_bytes
    message.is_bigendian = int(sys.byteorder == "big")
    # Filling the fresh message's own array is one copy; assigning to `data` checks every byte in Python.
    message.data.frombytes(np.ascontiguousarray(array).data.cast("B"))
    return message


def _lookup(encoding: str, field: str) -> Encoding:
    try:
        return ENCODINGS[encoding]
    except (KeyError, TypeError):
        raise ValueError(f"{field}: expected one of {', '.join(ENCODINGS)}, got {encoding!r}") from None


def _unpack(message: Image) -> NDArray[Any]:
    """(H, W[, C]) in native byte order; a view where the buffer allows."""
    kind = _lookup(message.encoding, "image.encoding")
    height, width, step = message.height, message.width, message.step
    for field, value in (("height", height), ("width", width)):
        if not 0 < value <= MAX_SIDE:
            raise ValueError(f"image.{field}: expected 1 to {MAX_SIDE} pixels, got {value}")
    if message.is_bigendian not in (0, 1):
        raise ValueError(f"image.is_bigendian: expected 0 or 1, got {message.is_bigendian}")
    row = width * kind.pixel_bytes
    if step < row:
        raise ValueError(
            f"image.step: expected at least {row} bytes for {width} pixels of {message.encoding}, got {step}"
        )
    # The last row may come without its padding.
    shortest, full = step * (height - 1) + row, step * height
    if not shortest <= len(message.data) <= full:
        raise ValueError(f"image.data: expected {full} bytes ({height} rows of step {step}), got {len(message.data)}")
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


def _convert(message: Image, pixels: NDArray[Any], target: str) -> NDArray[Any]:
    source = message.encoding
    a, b = ENCODINGS[source], ENCODINGS[target]
    if a.channels == b.channels == 1 and a.dtype == b.dtype:
        return pixels
    if source in COLOURS and target in COLOURS:
        return convert_colours(message, pixels, target)
    raise ValueError(f"image.encoding: {source} does not convert to {target}")
