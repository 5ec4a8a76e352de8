"""JPEG and PNG to arrays and back through OpenCV, with what the data claims checked before memory is spent on it."""

from __future__ import annotations

import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mirage_ros.ros.conversions.images import MAX_SIDE

SIGNATURES = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG\r\n\x1a\n"}
# 16k video has fewer; more is a mistake or an attack.
MAX_PIXELS = 1 << 27
# An 8x8 block of JPEG takes at least one bit, so a byte holds at most 512 pixels of one channel.
JPEG_PIXELS_PER_BYTE = 512
# Deflate expands by at most 1032 to 1 (https://zlib.net/zlib_tech.html).
PNG_BYTES_PER_BYTE = 1032
# Colour type of PNG: channels (PNG specification, 11.2.1 IHDR).
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def encode(pixels: NDArray[Any], codec: str, quality: int = 90) -> bytes:
    """Compressed pixels in OpenCV's channel order.

    Raises:
        ValueError: OpenCV cannot compress them, for example a JPEG wider than 65,500.
    """
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if codec == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    try:
        done, encoded = cv2.imencode(f".{codec}", np.ascontiguousarray(pixels), options)
    except cv2.error:
        done = False
    if not done:
        raise ValueError(f"array: expected a size that {codec} holds, got {pixels.shape} {pixels.dtype}")
    return encoded.tobytes()


def decode(data: bytes, field: str) -> NDArray[Any]:
    """Pixels as they are stored, in OpenCV's channel order.

    Args:
        data: a JPEG or PNG.
        field: of the message, for errors.

    Raises:
        ValueError: the data is neither, claims more than it can hold, is damaged or cut off.
    """
    codec = next((name for name, signature in SIGNATURES.items() if data.startswith(signature)), None)
    if codec is None:
        raise ValueError(f"{field}: expected a JPEG or PNG, got bytes starting {data[:8].hex() or 'nowhere'}")
    height, width, room = _png_claim(data) if codec == "png" else _jpeg_claim(data)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE and height * width <= MAX_PIXELS):
        raise ValueError(f"{field}: expected 1 to {MAX_PIXELS} pixels, got a {codec} that claims {width}x{height}")
    if height * width > room:
        raise ValueError(f"{field}: expected {width}x{height} pixels, got {len(data)} bytes that cannot hold as many")
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise ValueError(f"{field}: expected a whole {codec}, got a damaged one: {error.err}") from None
    if pixels is None:
        raise ValueError(f"{field}: expected a whole {codec}, got a damaged one of {len(data)} bytes")
    return pixels


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
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            # TEM and RSTn stand alone. Reading on as a decoder does keeps a second, smaller claim from being taken.
            position += 2
            continue
        # SOF0 to SOF15, without DHT (C4), JPG (C8) and DAC (CC), which share the range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return height, width, len(data) * JPEG_PIXELS_PER_BYTE
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0, 0, 0
