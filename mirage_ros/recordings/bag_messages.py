"""ROS messages of a bag as arrays, without a ROS installation: pictures, depth, cameras and poses.

Messages are those that `rosbags` deserialises: plain objects with the fields of sensor_msgs, geometry_msgs, nav_msgs
and tf2_msgs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import check_intrinsics, intrinsics_from_ros
from mirage_ros.poses import pose_from_quaternion

# Encodings of sensor_msgs/Image: channels, and the order that gives red, green, blue.
COLOURS: dict[str, tuple[int, list[int]]] = {
    "rgb8": (3, [0, 1, 2]),
    "bgr8": (3, [2, 1, 0]),
    "rgba8": (4, [0, 1, 2]),
    "bgra8": (4, [2, 1, 0]),
    "mono8": (1, [0, 0, 0]),
    "8UC3": (3, [2, 1, 0]),
}
# Depth as REP 118 has it: metres in float32, or millimetres in uint16.
DEPTHS: dict[str, tuple[str, float]] = {"32FC1": ("f4", 1.0), "16UC1": ("u2", 1e-3), "mono16": ("u2", 1e-3)}
# Bytes before the PNG of a compressedDepth message (compressed_depth_image_transport): format and two parameters.
_DEPTH_HEADER = 12
Rectify = Callable[[NDArray[Any], int], NDArray[Any]]


def stamp_of(header: Any) -> int:
    """Nanoseconds of a std_msgs/Header."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def is_depth(message: Any) -> bool:
    """Whether a picture holds depth."""
    if hasattr(message, "encoding"):
        return str(message.encoding) in DEPTHS
    return "compressedDepth" in str(message.format)


def colour_of(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a sensor_msgs/Image or CompressedImage.

    Raises:
        ValueError: an encoding that is no colour, or damaged data.
    """
    if not hasattr(message, "encoding"):
        image = cv2.imdecode(np.asarray(message.data, np.uint8), cv2.IMREAD_COLOR)
        if image is None:
            raise ValueError(f"image: expected a compressed picture, got damaged data of format {message.format!r}")
        return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)
    if message.encoding not in COLOURS:
        raise ValueError(f"image: expected an encoding out of {', '.join(COLOURS)}, got {message.encoding!r}")
    channels, order = COLOURS[message.encoding]
    pixels = _rows(message, np.dtype(np.uint8), channels).reshape(message.height, message.width, channels)
    return np.ascontiguousarray(pixels[..., order])


def depth_of(message: Any) -> NDArray[np.float32]:
    """(H, W) float32 metres, 0 where unknown, of a sensor_msgs/Image or a compressedDepth image of millimetres.

    Raises:
        ValueError: an encoding that is no depth, or damaged data.
    """
    if not hasattr(message, "encoding"):
        data = np.asarray(message.data, np.uint8)[_DEPTH_HEADER:]
        units = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
        if units is None or units.dtype != np.uint16:
            raise ValueError(f"depth: expected 16UC1 in PNG, got format {message.format!r}")
        metres = units.astype(np.float32) * np.float32(1e-3)
    else:
        if message.encoding not in DEPTHS:
            raise ValueError(f"depth: expected an encoding out of {', '.join(DEPTHS)}, got {message.encoding!r}")
        kind, unit = DEPTHS[message.encoding]
        order = ">" if message.is_bigendian else "<"
        metres = _rows(message, np.dtype(order + kind), 1).astype(np.float32) * np.float32(unit)
    return np.where(metres > 0, metres, 0).astype(np.float32)


def lens_of(message: Any, rectified: bool) -> tuple[Tensor, Rectify | None]:
    """Intrinsics of a sensor_msgs/CameraInfo, and what makes its pictures pinhole pictures.

    Args:
        message: which describes two streams, the driver's (k, d) and the rectified one (p).
        rectified: the pictures are those of the rectified one: p holds, or k where p is left empty, whatever d says.

    Returns:
        (3, 3) float64 in the centre convention; a function of a picture and OpenCV's kind of interpolation, or None
        where there is nothing to straighten.

    Raises:
        ValueError: intrinsics that are not usable, or a distortion model that is not known.
    """
    # In ROS 1 their names were large.
    k, d, p = (
        np.array(getattr(message, name if hasattr(message, name) else name.upper()), np.float64) for name in "kdp"
    )
    matrix = k.reshape(3, 3)
    if rectified and p.size == 12 and p[0] != 0:
        matrix = np.ascontiguousarray(p.reshape(3, 4)[:, :3])
    check_intrinsics(torch.from_numpy(matrix), "camera_info")
    intrinsics = intrinsics_from_ros(torch.from_numpy(matrix))
    if rectified or not d.any():
        return intrinsics, None
    size = (int(message.width), int(message.height))
    if message.distortion_model in ("plumb_bob", "rational_polynomial"):
        maps = cv2.initUndistortRectifyMap(matrix, d, np.eye(3), matrix, size, cv2.CV_32FC1)
    elif message.distortion_model == "equidistant":
        maps = cv2.fisheye.initUndistortRectifyMap(matrix, d[:4], np.eye(3), matrix, size, cv2.CV_32FC1)
    else:
        raise ValueError(
            "camera_info: expected distortion plumb_bob, rational_polynomial or equidistant, "
            f"got {message.distortion_model!r}"
        )
    return intrinsics, lambda image, kind: cv2.remap(image, maps[0], maps[1], kind)


def pose_of(message: Any) -> Tensor:
    """(4, 4) float64 of a Transform, a Pose, or what holds one (stamped, with covariance, odometry)."""
    for name in ("transform", "pose"):
        while hasattr(message, name):
            message = getattr(message, name)
    place, turn = (
        (message.translation, message.rotation)
        if hasattr(message, "translation")
        else (message.position, message.orientation)
    )
    translation = torch.tensor([place.x, place.y, place.z], dtype=torch.float64)
    return pose_from_quaternion(translation, torch.tensor([turn.x, turn.y, turn.z, turn.w], dtype=torch.float64))


def _rows(message: Any, kind: np.dtype[Any], channels: int) -> NDArray[Any]:
    """(H, W * channels) of an Image, whose rows may be padded."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.asarray(message.data, np.uint8)
    length = width * channels * kind.itemsize
    if step < length or data.size < height * step or not height or not width:
        raise ValueError(
            f"image: expected {height} rows of {step} bytes with {width} pixels of {message.encoding}, "
            f"got {data.size} bytes"
        )
    rows = data[: height * step].reshape(height, step)[:, :length]
    return np.ascontiguousarray(rows).view(kind)
