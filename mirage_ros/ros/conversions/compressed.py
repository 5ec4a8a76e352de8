"""sensor_msgs/CompressedImage <-> numpy: JPEG and PNG colour, what the data claims checked before memory is spent."""

from __future__ import annotations

import struct

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import MAX_SIDE, check_message, header_or_empty
from mirage_ros.ros.conversions.colours import convert_with_opencv

SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
# 16k video has fewer; more is a mistake or an attack.
MAX_PIXELS = 1 << 27
# An 8x8 block of JPEG takes at least one bit, so a byte holds at most 512 pixels of one channel.
JPEG_PIXELS_PER_BYTE = 512
# Deflate expands by at most 1032 to 1 (https://zlib.net/zlib_tech.html).
PNG_BYTES_PER_BYTE = 1032
# Colour type of PNG: channels (PNG specification, 11.2.1 IHDR).
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_FIELD = "compressed image.data"


def compressed_to_numpy(message: CompressedImage) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 rgb pixels of a JPEG or PNG colour image; its `format` is not read, the data says what it is.

    JPEG carries no checksum: damage inside its compressed data shows in the pixels, as with every decoder. What is cut
    off is refused, and so is any damage to a PNG.

    Raises:
        TypeError: not a CompressedImage.
        ValueError: the data is neither codec, claims more than it can hold, is damaged, or not 8 bits deep.
    """
    check_message(message, CompressedImage, "compressed image")
    data = bytes(message.data)
    codec = next((name for name, signature in SIGNATURES.items() if data.startswith(signature)), None)
    if codec is None:
        raise ValueError(f"{_FIELD}: expected a JPEG or PNG, got bytes starting {data[:8].hex() or 'nowhere'}")
    height, width, room = _png_claim(data) if codec == "png" else _jpeg_claim(data)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ValueError(f"{_FIELD}: expected 1 to {MAX_PIXELS} pixels, got a {codec} that claims {width}x{height}")
    if height * width > room:
        raise ValueError(f"{_FIELD}: expected {width}x{height} pixels, got {len(data)} bytes that cannot hold as many")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{_FIELD}: expected a whole {codec}, got a damaged one: {error.err}") from None
    if pixels is None:
        raise ValueError(f"{_FIELD}: expected a whole {codec}, got a damaged one of {len(data)} bytes")
    if pixels.dtype != np.uint8:
        raise ValueError(f"{_FIELD}: expected 8-bit colours, got {pixels.dtype}")
    # OpenCV decodes to BGR whatever the stream holds.
    source = {1: "mono8", 3: "bgr8", 4: "bgra8"}[1 if pixels.ndim == 2 else pixels.shape[2]]
    return convert_with_opencv(pixels, source, "rgb8")


def numpy_to_compressed(array: NDArray[np.uint8], header: Header | None = None, quality: int = 90) -> CompressedImage:
    """JPEG of (H, W, 3) uint8 rgb pixels, its `format` as compressed_image_transport writes it.

    Raises:
        TypeError: the header is no Header.
        ValueError: not such pixels, or more than a JPEG holds (65,500 along a side).
    """
    array = np.asarray(array)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or array.size == 0:
        raise ValueError(f"array: expected (H, W, 3) uint8 rgb pixels, got {array.shape} {array.dtype}")
    bgr = convert_with_opencv(array, "rgb8", "bgr8")
    try:
        done, encoded = cv2.imencode(".jpeg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    except cv2.error:
        done = False
    if not done:
        raise ValueError(f"array: expected a size that jpeg holds, got {array.shape} {array.dtype}")
    message = CompressedImage(header=header_or_empty(header), format="rgb8; jpeg compressed bgr8")
    message.data.frombytes(encoded.tobytes())
    return message


def _png_claim(data: bytes) -> tuple[int, int, int]:
    """Height and width in the IHDR chunk (zeros if it is cut off), and the most pixels that the data can hold."""
    if len(data) < 26:
        return 0, 0, 0
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    bits = max(1, depth * _PNG_CHANNELS.get(colour, 1))
    return height, width, len(data) * PNG_BYTES_PER_BYTE * 8 // bits


def _jpeg_claim(data: bytes) -> tuple[int, int, int]:
    """Height and width in the start-of-frame segment (ITU T.81, B.2.2; zeros if there is none), and the most pixels."""
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            # A marker may be preceded by any number of fill bytes.
            position += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
            # TEM and RSTn stand alone. Reading on as a decoder does keeps a second, smaller claim from being taken.
            position += 2
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            # SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC), which share the range.
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return height, width, len(data) * JPEG_PIXELS_PER_BYTE
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0, 0
