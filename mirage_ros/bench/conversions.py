"""`mirage bench conversions`: filling and reading 1080p image messages."""

from __future__ import annotations

import argparse
import platform

import cv2
import numpy as np
from sensor_msgs.msg import Image

from mirage_ros.bench.timing import median_ms
from mirage_ros.ros.conversions import image_to_numpy, numpy_to_image, points_to_cloud


def assign(data: object) -> Image:
    """Assign to the field instead: of bytes, rclpy makes one more copy; of an array, it checks every element."""
    message = Image(height=1080, width=1920, step=1920 * 3, encoding="rgb8")
    message.data = data
    return message


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=50)
    repeats = parser.parse_args().repeats
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (1080, 1920, 3), dtype=np.uint8)
    message = numpy_to_image(pixels, "rgb8")
    points, colours = rng.normal(size=(100_000, 3)).astype(np.float32), pixels.reshape(-1, 3)[:100_000]
    results = {
        "fill rgb8": median_ms(lambda: numpy_to_image(pixels, "rgb8"), repeats),
        "fill by assigning bytes": median_ms(lambda: assign(pixels.tobytes()), repeats),
        "fill by assigning the array": median_ms(lambda: assign(pixels.ravel()), max(3, repeats // 10)),
        "read rgb8": median_ms(lambda: image_to_numpy(message), repeats),
        "read rgb8 as bgr8": median_ms(lambda: image_to_numpy(message, "bgr8"), repeats),
        "cloud of 100,000 points": median_ms(lambda: points_to_cloud(points, colours, points[:, 0]), repeats),
    }
    print(f"1920x1080, one thread, median of {repeats}, {platform.processor() or platform.machine()}")
    for name, value in results.items():
        print(f"{name:<27} {value:8.3f} ms")
    for other in ("bytes", "the array"):
        ratio = results[f"fill by assigning {other}"] / results["fill rgb8"]
        print(f"filling is {ratio:.1f} times faster than assigning {other}")
