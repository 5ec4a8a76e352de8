"""sensor_msgs/CompressedImage <-> metres: depth as a 16-bit PNG.

Layout and `format` are those of compressed_depth_image_transport: "16UC1; compressedDepth png", and before the PNG a
header of 12 little-endian bytes: an int32 (0, the only mode there is) and two float32 parameters a, b. They mean
nothing for 16UC1, whose PNG holds millimetres; for 32FC1 a PNG value v > 0 stands for a / (v - b) metres. Its other
codec, RVL, is refused.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import check_message, header_or_empty
from mirage_ros.ros.conversions.codec import SIGNATURES, decode, encode
from mirage_ros.ros.conversions.depth import array_from_metres, metres_from_array

FORMAT = "16UC1; compressedDepth png"
DEPTH_HEADER = struct.Struct("<iff")


def compressed_depth_to_metres(message: CompressedImage) -> NDArray[np.float32]:
    """Depth of a PNG message: compressedDepth's 16UC1 and 32FC1, or a bare 16-bit PNG in millimetres.

    Args:
        message: `format` begins with the encoding before compression; without one it is taken for 16UC1.

    Returns:
        (H, W) float32 metres, 0 where there is no measurement.

    Raises:
        TypeError: not a CompressedImage.
        ValueError: not a 16-bit PNG, damaged, too large, or its parameters are no quantisation; names the field.
    """
    check_message(message, CompressedImage, "compressed depth")
    data = bytes(message.data)
    png, bare = SIGNATURES["png"], data.startswith(SIGNATURES["png"])
    if not bare and data[DEPTH_HEADER.size :][: len(png)] != png:
        raise ValueError(
            f"compressed depth.data: expected a PNG, alone or after a header of {DEPTH_HEADER.size} bytes, "
            f"got {len(data)} bytes of format {message.format!r}"
        )
    quantised = message.format.split(";")[0].strip() == "32FC1"
    if quantised and bare:
        raise ValueError(f"compressed depth.format: expected 16UC1 for a bare PNG, got {message.format!r}")
    pixels = decode(data if bare else data[DEPTH_HEADER.size :], "compressed depth.data")
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ValueError(f"compressed depth.data: expected one channel of 16 bits, got {pixels.shape} {pixels.dtype}")
    if not quantised:
        return metres_from_array(pixels)
    _, a, b = DEPTH_HEADER.unpack_from(data)
    if not (np.isfinite(a) and np.isfinite(b) and a > 0):
        raise ValueError(f"compressed depth.data: expected finite parameters a > 0 and b, got a={a} and b={b}")
    with np.errstate(divide="ignore", over="ignore"):
        metres = np.float32(a) / (pixels.astype(np.float32) - np.float32(b))
    # A division by zero says nothing of what is too far.
    return metres_from_array(np.where((pixels > 0) & np.isfinite(metres), metres, np.float32(0)))


def compressed_depth_from_metres(metres: NDArray[np.floating], header: Header | None = None) -> CompressedImage:
    """PNG of (H, W) metres in millimetres after compressedDepth's header; what is invalid or beyond 65.534 m is 0.

    Raises:
        TypeError: the header is no Header.
        ValueError: not (H, W) floating point.
    """
    message = CompressedImage(header=header_or_empty(header), format=FORMAT)
    png = encode(array_from_metres(metres, "16UC1"), "png")
    message.data.frombytes(DEPTH_HEADER.pack(0, 0.0, 0.0) + png)
    return message
