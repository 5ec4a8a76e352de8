"""Whether this Python's cv_bridge converts colours rightly, found out in a process of its own.

A cv_bridge built against NumPy 1 imports under NumPy 2 and then takes the process down with a segmentation fault
(ros-perception/vision_opencv#535), which no `except` catches. So it is first tried where a crash costs nothing.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from sensor_msgs.msg import Image

ORDERS = {"rgb8": "rgb", "bgr8": "bgr", "rgba8": "rgba", "bgra8": "bgra", "mono8": "m"}
# A healthy one answers within a second; a slow disk gets its time.
TIMEOUT_SECONDS = 60.0


def cv_bridge_is_right() -> bool:
    """Whether cv_bridge is installed, loads, and converts every pair of colour encodings rightly."""
    if importlib.util.find_spec("cv_bridge") is None:
        return False
    code = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='__main__')"
    # The modules that this process would import, whoever put them on its path.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    try:
        trial = subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__))],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return trial.returncode == 0


def try_cv_bridge() -> None:
    """Convert a few pixels between all pairs of encodings and compare with the same by index.

    Raises:
        AssertionError: a pixel differs. A broken build raises anything, or ends the process.
    """
    from cv_bridge import CvBridge

    convert = CvBridge().imgmsg_to_cv2
    rgba = np.random.default_rng(0).integers(0, 256, (4, 6, 4), dtype=np.uint8)
    rgba[..., 3] = 255
    for source, source_order in ORDERS.items():
        pixels = in_order(rgba, source_order)
        message = Image(height=4, width=6, encoding=source, is_bigendian=int(sys.byteorder == "big"))
        message.step = pixels.nbytes // 4
        message.data.frombytes(pixels.tobytes())
        known = np.dstack([pixels] * 3 + [rgba[..., 3]]) if source == "mono8" else rgba
        for target, target_order in ORDERS.items():
            converted = convert(message, target).astype(int)
            expected = in_order(known, target_order).astype(int)
            if converted.shape != expected.shape or np.abs(converted - expected).max() > 1:
                raise AssertionError(f"{source} to {target}")


def in_order(rgba: np.ndarray, order: str) -> np.ndarray:
    """(H, W[, C]) channels of (H, W, 4) in an order; m is brightness by Rec. 601."""
    if order == "m":
        return np.rint(rgba[..., :3] @ [0.299, 0.587, 0.114]).astype(np.uint8)
    return np.ascontiguousarray(rgba[..., ["rgba".index(name) for name in order]])


if __name__ == "__main__":
    try_cv_bridge()
