"""Lenses that are no pinholes: what straightens their pictures, and the camera of a sensor_msgs/CameraInfo of a bag."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera, check_intrinsics, intrinsics_from_ros, intrinsics_to_ros
from mirage_ros.images import doubt_of_optics

# A function of a picture and OpenCV's kind of interpolation.
Rectify = Callable[[NDArray[Any], int], NDArray[Any]]
# Numbers of coefficients that a distortion model (as sensor_msgs names it) may have.
LENSES = {"plumb_bob": (4, 5), "rational_polynomial": (8, 12, 14)}
FISHEYES = ("equidistant", "fisheye", "kannala_brandt")


def rectification(field: str, model: str, d: NDArray[np.float64], camera: Camera) -> Rectify | None:
    """What makes pictures of a lens those of a pinhole camera with the same intrinsics and size.

    Args:
        field: begins the messages.
        model: one of LENSES or FISHEYES, or '' or 'none' without coefficients.
        d: coefficients in OpenCV's order; of a fisheye 4 or none.
        camera: of the pictures.

    Returns:
        None where there is nothing to straighten; rays of a fisheye bend with all coefficients zero, too.

    Raises:
        ValueError: a model that is not known, or another number of coefficients.
    """
    matrix, size = intrinsics_to_ros(camera.intrinsics.double()).numpy(), (camera.width, camera.height)
    if model in FISHEYES:
        if d.size not in (0, 4):
            raise ValueError(f"{field}: expected 4 coefficients of {model}, got {d.size}")
        bends = d if d.size else np.zeros(4)
        maps = cv2.fisheye.initUndistortRectifyMap(matrix, bends, np.eye(3), matrix, size, cv2.CV_32FC1)
    elif not d.any() and model in ("", "none", *LENSES):
        return None
    elif model in LENSES:
        if d.size not in LENSES[model]:
            raise ValueError(f"{field}: expected {LENSES[model]} coefficients of {model}, got {d.size}")
        maps = cv2.initUndistortRectifyMap(matrix, d, np.eye(3), matrix, size, cv2.CV_32FC1)
    else:
        raise ValueError(
            f"{field}: expected distortion {', '.join((*LENSES, *FISHEYES))} or none, got {model!r} with d {d.tolist()}"
        )
    return lambda image, kind: cv2.remap(image, maps[0], maps[1], kind)


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
