"""Colour conversion of 8-bit images: by cv_bridge where it is installed and right, by OpenCV otherwise.

cv_bridge is asked only for what it gets right: rows without padding (it cuts padded ones), this machine's byte order,
two named colour encodings (it reads 'passthrough' and bare matrix types differently). Whether it is right at all is
tried once, in a process of its own: one that was built against NumPy 1 imports under NumPy 2 and then takes the process
down with a segmentation fault (ros-perception/vision_opencv#535), which no `except` catches.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import Image

# Encoding: channels and OpenCV's name.
COLOURS = {"rgb8": (3, "RGB"), "bgr8": (3, "BGR"), "rgba8": (4, "RGBA"), "bgra8": (4, "BGRA"), "mono8": (1, "GRAY")}
# Converts one random image between all pairs of encodings, through OpenCV and through cv_bridge.
TRIAL = f"""
import sys
import cv2, numpy as np
from cv_bridge import CvBridge
from sensor_msgs.msg import Image
colours = {COLOURS!r}
rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
def converted(pixels, a, b):
    return pixels if a == b else cv2.cvtColor(pixels, getattr(cv2, "COLOR_%s2%s" % (colours[a][1], colours[b][1])))
for source in colours:
    pixels = converted(rgb, "rgb8", source)
    message = Image(height=4, width=6, encoding=source, step=pixels.nbytes // 4, is_bigendian=sys.byteorder == "big")
    message.data.frombytes(pixels.tobytes())
    for target in colours:
        result, expected = CvBridge().imgmsg_to_cv2(message, target), converted(pixels, source, target)
        assert result.shape == expected.shape and np.abs(result.astype(int) - expected).max() <= 1, (source, target)
"""
# A healthy cv_bridge answers within a second; a slow disk gets its time.
TRIAL_SECONDS = 60.0

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
    if importlib.util.find_spec("cv_bridge") is None:
        return None
    # The modules that this process would import, whoever put them on its path.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    try:
        command, quiet = [sys.executable, "-c", TRIAL], subprocess.DEVNULL
        subprocess.run(
            command, env=environment, stdin=quiet, stdout=quiet, stderr=quiet, timeout=TRIAL_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    from cv_bridge import CvBridge

    convert: Callable[[Image, str], Pixels] = CvBridge().imgmsg_to_cv2
    return convert
