"""sensor_msgs/CameraInfo of a bag: the pinhole camera of its pictures, and what makes them pinhole pictures."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch

from mirage_ros.geometry import Camera, check_intrinsics, intrinsics_from_ros
from mirage_ros.images import doubt_of_optics
from mirage_ros.recordings.lenses import Rectify, rectification


def lens_of(message: Any, rectified: bool, height: int, width: int) -> tuple[Camera, Rectify | None]:
    """Camera at the origin of a sensor_msgs/CameraInfo, and what makes its pictures pinhole pictures.

    Region of interest and binning are applied. Pictures that were made smaller after their CameraInfo are taken as
    copies of the whole, with a warning.

    Args:
        message: which describes two streams, the driver's (k, d) and the rectified one (p).
        rectified: the pictures are those of the rectified one: p holds, or k where p is left empty, whatever d says.
        height, width: pixels of the pictures.

    Returns:
        A float64 camera of the pictures; a function of a picture and OpenCV's kind of interpolation, or None where
        there is nothing to straighten.

    Raises:
        ValueError: intrinsics that are not usable or not those of such pictures, or a distortion that is not known.
    """
    # In ROS 1 their names were large.
    k, d, p = (
        np.array(getattr(message, name if hasattr(message, name) else name.upper()), np.float64) for name in "kdp"
    )
    field, matrix = "camera_info.k", k.reshape(3, 3)
    if rectified and p.size == 12 and p[0] != 0:
        field, matrix = "camera_info.p", np.ascontiguousarray(p.reshape(3, 4)[:, :3])
    check_intrinsics(torch.from_numpy(matrix), field)
    intrinsics = intrinsics_from_ros(torch.from_numpy(matrix))
    camera = _of_pictures(message, intrinsics, height, width)
    if (doubt := doubt_of_optics(camera)) is not None:
        warnings.warn(f"{field}: {doubt}", stacklevel=2)
    return camera, None if rectified else rectification("camera_info", str(message.distortion_model), d, camera)


def _of_pictures(message: Any, intrinsics: torch.Tensor, height: int, width: int) -> Camera:
    # Some drivers leave the size out.
    whole = (int(message.height) or height, int(message.width) or width)
    camera = Camera(intrinsics, torch.eye(4, dtype=torch.float64), *whole)
    roi, binning = message.roi, (max(1, int(message.binning_y)), max(1, int(message.binning_x)))
    # All zeros means the whole picture (CameraInfo.msg).
    windowed = bool(roi.height or roi.width or roi.x_offset or roi.y_offset)
    if windowed:
        if not (
            roi.height and roi.width and roi.y_offset + roi.height <= whole[0] and roi.x_offset + roi.width <= whole[1]
        ):
            raise ValueError(
                f"camera_info.roi: expected a window inside {whole[1]}x{whole[0]}, "
                f"got {roi.width}x{roi.height} at ({roi.x_offset}, {roi.y_offset})"
            )
        camera = camera.cropped(int(roi.y_offset), int(roi.x_offset), int(roi.height), int(roi.width))
    expected = (camera.height // binning[0], camera.width // binning[1])
    if (height, width) != expected:
        said = (
            f"camera_info: expected that of the pictures, {width}x{height}, got {whole[1]}x{whole[0]}"
            + (f", roi {roi.width}x{roi.height}" if windowed else "")
            + (f", binning {binning[1]} and {binning[0]}" if max(binning) > 1 else "")
        )
        # A pixel more or less is the rounding of smaller copies.
        slack = max(1.0, camera.height / height)
        if windowed or abs(camera.width * height / width - camera.height) > slack:
            raise ValueError(said)
        warnings.warn(f"{said}; the pictures are taken as copies of the whole in another size", stacklevel=3)
    return camera.resized(height, width)
