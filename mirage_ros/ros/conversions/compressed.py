"""sensor_msgs/CompressedImage <-> numpy: JPEG and PNG colour.

The `format` field is written as compressed_image_transport does, "rgb8; jpeg compressed bgr8": the encoding before
compression, the codec, the channel order inside.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import check_message, header_or_empty
from mirage_ros.ros.conversions.codec import SIGNATURES, decode, encode
from mirage_ros.ros.conversions.colours import COLOURS, convert_with_opencv


def compressed_to_numpy(message: CompressedImage, encoding: str = "rgb8") -> NDArray[np.uint8]:
    """Pixels of a JPEG or PNG colour image.

    JPEG carries no checksum: damage inside its compressed data shows in the pixels, as with every decoder. What is cut
    off is refused, and so is any damage to a PNG.

    Args:
        message: with any `format`; the codec is read off the data itself.
        encoding: wanted colour encoding: rgb8, bgr8, rgba8, bgra8 or mono8.

    Returns:
        (H, W, channels) or (H, W) uint8.

    Raises:
        TypeError: not a CompressedImage.
        ValueError: the data is neither codec, damaged, too large or not 8 bits deep.
    """
    check_message(message, CompressedImage, "compressed image")
    _check_colour(encoding)
    pixels = decode(bytes(message.data), "compressed image.data")
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
        TypeError: the header is no Header.
        ValueError: an argument is not usable; names it.
    """
    _check_colour(encoding)
    if codec not in tuple(SIGNATURES):
        raise ValueError(f"codec: expected jpeg or png, got {codec!r}")
    if not isinstance(quality, int | np.integer) or not 1 <= quality <= 100:
        raise ValueError(f"quality: expected a whole number from 1 to 100, got {quality!r}")
    array = np.asarray(array)
    channels = COLOURS[encoding][0]
    shape = array.shape[:2] + ((channels,) if channels > 1 else ())
    if array.dtype != np.uint8 or array.ndim < 2 or array.shape != shape or array.size == 0:
        raise ValueError(f"array: expected uint8 {encoding} pixels, got {array.shape} {array.dtype}")
    inside = "mono8" if encoding == "mono8" else "bgra8" if channels == 4 and codec == "png" else "bgr8"
    pixels = convert_with_opencv(array, encoding, inside)
    message = CompressedImage(header=header_or_empty(header), format=f"{encoding}; {codec} compressed {inside}")
    message.data.frombytes(encode(pixels, codec, int(quality)))
    return message


def _check_colour(encoding: str) -> None:
    if encoding not in tuple(COLOURS):
        raise ValueError(f"encoding: expected one of {', '.join(COLOURS)}, got {encoding!r}")
