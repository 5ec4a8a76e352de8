"""ROS messages of a bag as arrays, without a ROS installation: pictures, depth and poses.

Messages are those that `rosbags` deserialises: plain objects with the fields of sensor_msgs, geometry_msgs, nav_msgs
and tf2_msgs.
"""

from __future__ import annotations

import math
import struct
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.media import STORED_COLOUR
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
# A driver's word for depth that was not measured, in millimetres.
_UNMEASURED = 65535
# What compressed_depth_image_transport puts before the PNG (ConfigHeader): format, and the two parameters of floats.
_DEPTH_HEADER = struct.Struct("<iff")
# A PNG's signature, and the bytes of its header that tell 16 bits of grey (PNG specification, 11.2.1 IHDR).
_PNG, _GREY_16 = b"\x89PNG\r\n\x1a\n", bytes([16, 0])


def stamp_of(header: Any) -> int:
    """Nanoseconds of a std_msgs/Header."""
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


def frame_of(header: Any) -> str:
    """Name of a std_msgs/Header's frame; the slash before it in ROS 1 means nothing."""
    return str(header.frame_id).lstrip("/")


def _encoding(message: Any) -> str:
    """Of the pixels, before compression: compressed messages name it first in their format."""
    if hasattr(message, "encoding"):
        return str(message.encoding)
    return str(message.format).partition(";")[0].strip()


def is_depth(message: Any) -> bool:
    """Whether a picture holds depth."""
    if _encoding(message) in DEPTHS:
        return True
    if hasattr(message, "encoding"):
        return False
    start = bytes(message.data[:26])
    return "compressedDepth" in str(message.format) or (start.startswith(_PNG) and start[24:26] == _GREY_16)


def colour_of(message: Any) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a sensor_msgs/Image or CompressedImage, whose orientation in EXIF is not followed.

    Raises:
        ValueError: an encoding that is no colour, or damaged data.
    """
    if not hasattr(message, "encoding"):
        data = np.asarray(message.data, np.uint8)
        image = cv2.imdecode(data, STORED_COLOUR) if data.size else None
        if image is None:
            raise ValueError(f"image: expected a compressed picture, got damaged data of format {message.format!r}")
        return np.ascontiguousarray(image[..., ::-1], dtype=np.uint8)
    if message.encoding not in COLOURS:
        raise ValueError(f"image: expected an encoding out of {', '.join(COLOURS)}, got {message.encoding!r}")
    channels, order = COLOURS[message.encoding]
    pixels = _rows(message, np.dtype(np.uint8), channels).reshape(message.height, message.width, channels)
    return np.ascontiguousarray(pixels[..., order])


def depth_of(message: Any) -> NDArray[np.float32]:
    """(H, W) float32 metres, 0 where unknown, of a sensor_msgs/Image or a compressed image of depth.

    Raises:
        ValueError: an encoding that is no depth, or damaged data.
    """
    if not hasattr(message, "encoding"):
        metres = _decompressed(message)
    else:
        if message.encoding not in DEPTHS:
            raise ValueError(f"depth: expected an encoding out of {', '.join(DEPTHS)}, got {message.encoding!r}")
        kind, unit = DEPTHS[message.encoding]
        order = ">" if message.is_bigendian else "<"
        units = _rows(message, np.dtype(order + kind), 1)
        metres = _metres(units) if kind == "u2" else units.astype(np.float32) * np.float32(unit)
    return np.where(metres > 0, metres, 0).astype(np.float32)


def _metres(millimetres: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(millimetres == _UNMEASURED, 0, millimetres).astype(np.float32) * np.float32(1e-3)


def _decompressed(message: Any) -> NDArray[np.float32]:
    """Metres of a compressedDepth message, or of a PNG of 16 bits as image_transport's `compressed` has it."""
    data, special, encoding = bytes(message.data), "compressedDepth" in str(message.format), _encoding(message)
    near, offset = 0.0, 0.0
    if special and encoding not in DEPTHS:
        raise ValueError(
            f"depth: expected a format like '16UC1; compressedDepth png' with {', '.join(DEPTHS)}, "
            f"got {message.format!r}"
        )
    if special and len(data) > _DEPTH_HEADER.size:
        _, near, offset = _DEPTH_HEADER.unpack_from(data)
        data = data[_DEPTH_HEADER.size :]
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data.startswith(_PNG) else None
    if pixels is None or pixels.dtype != np.uint16 or pixels.ndim != 2:
        raise ValueError(f"depth: expected 16 bits in PNG, got other or damaged data of format {message.format!r}")
    if not special or encoding != "32FC1":
        return _metres(pixels)
    if not (math.isfinite(near) and math.isfinite(offset) and near > 0):
        raise ValueError(f"depth: expected quantisation above 0 of 32FC1 in compressedDepth, got {near} and {offset}")
    # Inverse depth in steps: value = near / metres + offset, 0 where unknown (compressed_depth_image_transport).
    inverse = pixels.astype(np.float32) - np.float32(offset)
    with np.errstate(divide="ignore"):
        return np.where((pixels > 0) & (inverse > 0), np.float32(near) / inverse, 0).astype(np.float32)


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
