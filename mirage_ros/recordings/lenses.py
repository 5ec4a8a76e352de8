"""Lenses that are no pinholes: what straightens their pictures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mirage_ros.geometry import Camera, intrinsics_to_ros

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
