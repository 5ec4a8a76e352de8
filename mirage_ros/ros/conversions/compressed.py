"""sensor_msgs/CompressedImage <-> numpy: JPEG and PNG colour, PNG depth.

The `format` field follows image_transport_plugins: "rgb8; jpeg compressed bgr8" for colour (the encoding before
compression, the codec, the channel order inside) and "16UC1; compressedDepth png" for depth. A compressedDepth message
begins with 12 bytes: the quantisation mode as int32 (0 for none) and two float32 parameters; then the PNG follows.
"""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import check_message
from mirage_ros.ros.conversions.colours import COLOURS, convert_with_opencv
from mirage_ros.ros.conversions.depth import array_from_metres, metres_from_array
from mirage_ros.ros.conversions.images import MAX_SIDE

CODECS = ("jpeg", "png")
DEPTH_HEADER = struct.Struct("<iff")
# A larger image than 16k video is a mistake or an attack.
MAX_PIXELS = 1 << 28
_SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}


def compressed_to_numpy(message: CompressedImage, encoding: str = "rgb8") -> NDArray[np.uint8]:
    """Pixels of a JPEG or PNG colour image.

    Args:
        message: with any `format`; the codec is read off the data itself.
        encoding: wanted colour encoding: rgb8, bgr8, rgba8, bgra8 or mono8.

    Returns:
        (H, W, channels) or (H, W) uint8.

    Raises:
        ValueError: the data is neither codec, damaged, too large or not 8 bits deep.
    """
    check_message(message, CompressedImage, "compressed image")
    if encoding not in COLOURS:
        raise ValueError(f"encoding: expected one of {', '.join(COLOURS)}, got {encoding!r}")
    data = bytes(message.data)
    pixels = _decode(data, "compressed image.data")
    if pixels.dtype != np.uint8:
        raise ValueError(
            f"compressed image.data: expected 8-bit colours, got {pixels.dtype}; depth has a function of its own"
        )
    # OpenCV decodes to BGR whatever the stream holds.
    source = {1: "mono8", 3: "bgr8", 4: "bgra8"}[1 if pixels.ndim == 2 else pixels.shape[2]]
    return convert_with_opencv(pixels, source, encoding)


def numpy_to_compressed(
    array: NDArray[np.uint8],
    encoding: str = "rgb8",
    codec: str = "jpeg",
    header: Header | None = None,
    quality: int = 90,
) -> CompressedImage:
    """Compress a colour image.

    Args:
        array: (H, W, channels) or (H, W) uint8 of the encoding.
        encoding: rgb8, bgr8, rgba8, bgra8 or mono8; JPEG drops alpha.
        codec: jpeg or png.
        header: stamp and frame.
        quality: of JPEG, 1 to 100.

    Raises:
        ValueError: an argument is not usable; names it.
    """
    if encoding not in COLOURS:
        raise ValueError(f"encoding: expected one of {', '.join(COLOURS)}, got {encoding!r}")
    if codec not in CODECS:
        raise ValueError(f"codec: expected jpeg or png, got {codec!r}")
    if not 1 <= quality <= 100:
        raise ValueError(f"quality: expected 1 to 100, got {quality}")
    channels = COLOURS[encoding][0]
    shape = array.shape[:2] + ((channels,) if channels > 1 else ())
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape != shape or array.size == 0:
        raise ValueError(f"array: expected uint8 {encoding} pixels, got {array.shape} {array.dtype}")
    inside = "mono8" if encoding == "mono8" else "bgra8" if channels == 4 and codec == "png" else "bgr8"
    pixels = convert_with_opencv(array, encoding, inside)
    message = CompressedImage(header=header or Header(), format=f"{encoding}; {codec} compressed {inside}")
    message.data.frombytes(_encode(pixels, codec, quality))
    return message


def compressed_depth_to_metres(message: CompressedImage) -> NDArray[np.float32]:
    """Depth of a PNG message, with compressedDepth's header or as a bare 16-bit PNG in millimetres.

    Returns:
        (H, W) float32 metres, 0 where there is no measurement.

    Raises:
        ValueError: not a 16-bit PNG, damaged, too large, or quantised (32FC1 through compressedDepth).
    """
    check_message(message, CompressedImage, "compressed depth")
    data = bytes(message.data)
    if "compressedDepth" in message.format:
        if not message.format.startswith("16UC1"):
            raise ValueError(f"compressed depth.format: expected '16UC1; compressedDepth png', got {message.format!r}")
        if len(data) < DEPTH_HEADER.size:
            raise ValueError(f"compressed depth.data: expected a header of {DEPTH_HEADER.size} bytes, got {len(data)}")
        data = data[DEPTH_HEADER.size :]
    if not data.startswith(_SIGNATURES["png"]):
        raise ValueError(f"compressed depth.data: expected a PNG, got bytes starting {data[:8].hex() or 'nowhere'}")
    pixels = _decode(data, "compressed depth.data")
    if pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ValueError(f"compressed depth.data: expected one channel of 16 bits, got {pixels.shape} {pixels.dtype}")
    return metres_from_array(pixels)


def compressed_depth_from_metres(metres: NDArray[np.floating], header: Header | None = None) -> CompressedImage:
    """PNG of (H, W) metres in millimetres, laid out as compressed_depth_image_transport does; beyond 65.534 m is 0."""
    message = CompressedImage(header=header or Header(), format="16UC1; compressedDepth png")
    png = _encode(array_from_metres(metres, "16UC1"), "png", 0)
    message.data.frombytes(DEPTH_HEADER.pack(0, 0.0, 0.0) + png)
    return message


def _encode(pixels: NDArray[Any], codec: str, quality: int) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if codec == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    done, encoded = cv2.imencode(f".{codec}", np.ascontiguousarray(pixels), options)
    if not done:
        raise ValueError(f"array: OpenCV could not compress {pixels.shape} {pixels.dtype} as {codec}")
    return encoded.tobytes()


def _decode(data: bytes, field: str) -> NDArray[Any]:
    codec = next((name for name, signature in _SIGNATURES.items() if data.startswith(signature)), None)
    if codec is None:
        raise ValueError(f"{field}: expected a JPEG or PNG, got bytes starting {data[:8].hex() or 'nowhere'}")
    # A few bytes can claim gigabytes, so the claim is read before anything is decoded.
    height, width = _png_size(data) if codec == "png" else _jpeg_size(data)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ValueError(f"{field}: expected 1 to {MAX_PIXELS} pixels, got a {codec} that claims {width}x{height}")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{field}: damaged {codec}: {error.err}") from None
    if pixels is None:
        raise ValueError(f"{field}: damaged {codec} of {len(data)} bytes")
    return pixels


def _png_size(data: bytes) -> tuple[int, int]:
    """Height and width in the IHDR chunk, zeros if it is cut off."""
    if len(data) < 24:
        return 0, 0
    width, height = struct.unpack(">II", data[16:24])
    return height, width


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width in the start-of-frame segment (ITU T.81, B.2.2), zeros if there is none."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        # SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC), which share the range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return height, width
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0
