"""sensor_msgs/PointCloud2 with x y z rgb and confidence, or visibility and doubt <-> numpy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import Header

from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.conversions.checks import as_float32, check_message, header_or_empty

# PCL and RViz read `rgb` as a float32 whose bits are 0x00RRGGBB.
POINT = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("rgb", "<u4")]
OPTIONAL = ("rgb", "rgba", "confidence")
# PointField.INT8 = 1 to PointField.FLOAT64 = 8.
_TYPES = dict(enumerate(("i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"), start=1))


def points_to_cloud(
    points: NDArray[np.floating],
    colours: NDArray[np.uint8],
    confidence: NDArray[np.floating],
    header: Header | None = None,
) -> PointCloud2:
    """Cloud message.

    Args:
        points: (N, 3) metres in the header's frame.
        colours: (N, 3) rgb.
        confidence: (N,) 0 to 1.
        header: stamp and frame.

    Returns:
        Unordered cloud (height 1) with fields x y z rgb confidence, 20 bytes a point.

    Raises:
        ValueError: sizes differ or colours are not bytes; names the argument.
    """
    return values_to_cloud(points, colours, {"confidence": confidence}, header)


def frame_to_cloud(frame: ImaginedFrame, header: Header | None = None) -> PointCloud2:
    """Points in the world of a single imagined frame, those without a finite depth left out.

    Returns:
        Unordered cloud with fields x y z rgb visibility doubt, which is the standard deviation of depth in metres (NaN
        where nobody estimated it).
    """
    there = np.isfinite(frame.depth) & (frame.depth > 0)
    points = frame.camera.to("cpu", torch.float64).lift(torch.from_numpy(frame.depth)).numpy()[there]
    doubt = np.full_like(frame.depth, np.nan) if frame.uncertainty is None else frame.uncertainty
    return values_to_cloud(
        points, frame.rgb[there], {"visibility": frame.visible[there], "doubt": doubt[there]}, header
    )


def values_to_cloud(
    points: NDArray[np.floating],
    colours: NDArray[np.uint8],
    values: Mapping[str, NDArray[np.floating]],
    header: Header | None = None,
) -> PointCloud2:
    """Cloud message with fields x y z rgb and one float32 for each named value; see `points_to_cloud`."""
    points, colours = np.asarray(points), np.asarray(colours)
    if points.ndim != 2 or points.shape[1] != 3 or not np.issubdtype(points.dtype, np.floating):
        raise ValueError(f"points: expected (N, 3) floating point, got {points.shape} {points.dtype}")
    count = len(points)
    if colours.shape != (count, 3) or colours.dtype != np.uint8:
        raise ValueError(f"colours: expected ({count}, 3) uint8, got {colours.shape} {colours.dtype}")
    for name, value in values.items():
        value = np.asarray(value)
        if value.shape != (count,) or not np.issubdtype(value.dtype, np.floating):
            raise ValueError(f"{name}: expected ({count},) floating point, got {value.shape} {value.dtype}")
    kind = np.dtype([*POINT, *((name, "<f4") for name in values)])
    packed = np.empty(count, kind)
    packed["x"], packed["y"], packed["z"] = as_float32(points).T
    red, green, blue = colours.T.astype(np.uint32)
    packed["rgb"] = red << 16 | green << 8 | blue
    for name, value in values.items():
        packed[name] = as_float32(np.asarray(value))
    message = PointCloud2(header=header_or_empty(header), height=1, width=count, is_bigendian=False)
    message.point_step, message.row_step = kind.itemsize, count * kind.itemsize
    message.is_dense = all(bool(np.isfinite(packed[axis]).all()) for axis in "xyz")
    message.fields = [
        PointField(name=name, offset=4 * index, datatype=PointField.FLOAT32, count=1)
        for index, name in enumerate(kind.names or ())
    ]
    message.data.frombytes(packed.tobytes())
    return message


def cloud_to_points(message: PointCloud2) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    """Points of a cloud message: fields in any order, with any padding, either byte order.

    Args:
        message: with x, y, z of any PointField type; `rgb` or `rgba` packed as PCL does (float32 or uint32) and
            `confidence` are optional.

    Returns:
        points (N, 3) float32 metres, colours (N, 3) uint8 (white where the cloud has none), confidence (N,) float32
        (one where it has none).

    Raises:
        TypeError: not a PointCloud2.
        ValueError: a field is missing, comes twice, has an unusable type or lies outside the data.
    """
    check_message(message, PointCloud2, "cloud")
    names = [field.name for field in message.fields]
    # Only names that are read must be unique: padding is often declared as several fields called "_".
    if any(names.count(name) != 1 for name in "xyz") or any(names.count(name) > 1 for name in OPTIONAL):
        raise ValueError(f"cloud.fields: expected x, y, z and none of {', '.join(OPTIONAL)} twice, got {names}")
    fields = dict(zip(names, message.fields, strict=True))
    count, step, row = message.height * message.width, message.point_step, message.row_step
    # A step of 0 would let any number of points share the same bytes.
    if count and step < 1:
        raise ValueError(f"cloud.point_step: expected at least the size of x, y and z, got {step}")
    if count and (row < message.width * step or len(message.data) < row * (message.height - 1) + message.width * step):
        raise ValueError(
            f"cloud.data: expected {message.height} rows of {row} bytes with {message.width} points of {step}, "
            f"got {len(message.data)} bytes"
        )
    points = np.empty((count, 3), np.float32)
    for axis, name in enumerate("xyz"):
        points[:, axis] = as_float32(_column(message, fields[name]))
    colours, confidence = np.full((count, 3), 255, np.uint8), np.ones(count, np.float32)
    colour = fields.get("rgb", fields.get("rgba"))
    if colour is not None:
        if colour.datatype not in (PointField.FLOAT32, PointField.UINT32):
            raise ValueError(f"cloud.fields.{colour.name}: expected float32 or uint32, got datatype {colour.datatype}")
        bits = _column(message, colour, "u4")
        colours = np.stack([bits >> 16 & 255, bits >> 8 & 255, bits & 255], axis=-1).astype(np.uint8)
    if "confidence" in fields:
        confidence = as_float32(_column(message, fields["confidence"]))
    return points, colours, confidence


def _column(message: PointCloud2, field: PointField, kind: str = "") -> NDArray[Any]:
    """(N,) values of one field."""
    if field.datatype not in _TYPES or field.count not in (0, 1):
        raise ValueError(
            f"cloud.fields.{field.name}: expected one number of a PointField type, "
            f"got datatype {field.datatype} x {field.count}"
        )
    dtype = np.dtype((">" if message.is_bigendian else "<") + (kind or _TYPES[field.datatype]))
    if field.offset + dtype.itemsize > message.point_step:
        raise ValueError(
            f"cloud.fields.{field.name}: expected inside a point of {message.point_step} bytes, "
            f"got offset {field.offset}"
        )
    shape, strides = (message.height, message.width), (message.row_step, message.point_step)
    if 0 in shape:
        return np.empty(0, dtype)
    values: NDArray[Any] = np.ndarray(shape, dtype, np.frombuffer(message.data, np.uint8).data, field.offset, strides)
    return values.reshape(-1).astype(dtype.newbyteorder("="))
