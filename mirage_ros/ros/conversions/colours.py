"""Colour conversion of 8-bit images: by cv_bridge where it is installed and right, by OpenCV otherwise.

cv_bridge is asked only for what it gets right: rows without padding (it cuts padded ones), this machine's byte order,
two named colour encodings (it reads 'passthrough' and bare matrix types differently). Whether it is right at all
is tried once, at the first conversion, in a process of its own; see `cv_bridge_trial`.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

from mirage_ros.ros.conversions.cv_bridge_trial import cv_bridge_is_right

# Encoding: channels and OpenCV's name.
COLOURS = {"rgb8": (3, "RGB"), "bgr8": (3, "BGR"), "rgba8": (4, "RGBA"), "bgra8": (4, "BGRA"), "mono8": (1, "GRAY")}

Pixels = NDArray[Any]


def convert_colours(message: Image, pixels: Pixels, target: str) -> Pixels:
    """Pixels of a colour message in another colour encoding.

    Args:
        message: the whole message, its encoding in COLOURS.
        pixels: (H, W[, C]) its unpacked pixels.
        target: another one of COLOURS.
    """
    converter = cv_bridge_converter()
    packed = message.step == message.width * COLOURS[message.encoding][0]
    # Byte order means nothing for 8-bit channels, but cv_bridge swaps by the flag.
    if converter is not None and packed and message.is_bigendian == (sys.byteorder == "big"):
        return converter(message, target)
    return convert_with_opencv(pixels, message.encoding, target)


def convert_with_opencv(pixels: Pixels, source: str, target: str) -> Pixels:
    """(H, W[, C]) uint8 from one colour encoding to another; alpha is dropped or opaque, brightness is Rec. 601."""
    if source == target:
        return pixels
    code = getattr(cv2, f"COLOR_{COLOURS[source][1]}2{COLOURS[target][1]}")
    return cv2.cvtColor(np.ascontiguousarray(pixels), code)


@functools.cache
def cv_bridge_converter() -> Callable[[Image, str], Pixels] | None:
    """cv_bridge's conversion, if this Python has one that works."""
    if not cv_bridge_is_right():
        return None
    from cv_bridge import CvBridge

    convert: Callable[[Image, str], Pixels] = CvBridge().imgmsg_to_cv2
    return convert
