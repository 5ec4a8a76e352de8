"""Depth of a camera beside the colour camera, brought to the colour camera's pixels."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera

# Two pinholes are the same view within this share of the focal length and of the image's width.
SAME_VIEW = 0.01
# Share of the depth camera's sharpness at which its points are drawn: with fewer cells than points none stays empty,
# and nothing behind is seen through a surface.
DENSITY = 0.7


def same_view(one: Camera, other: Camera) -> bool:
    """Whether two cameras at one place see the same, at whatever resolution."""
    scaled = one.resized(other.height, other.width).intrinsics - other.intrinsics
    focal = float(other.intrinsics[0, 0])
    return float(scaled[:2, :2].abs().max()) <= SAME_VIEW * focal and float(
        scaled[:2, 2].abs().max()
    ) <= SAME_VIEW * max(other.width, other.height)


def register_depth(depth: NDArray[np.float32], depth_camera: Camera, camera: Camera) -> NDArray[np.float32]:
    """Depth as another camera would have measured it.

    Args:
        depth: (h, w) metres of the depth camera; values that are no finite positive number are unknown.
        depth_camera, camera: in one common frame, whatever it is.

    Returns:
        (H, W) metres along the camera's optical axis, 0 where nothing was measured that it sees. Of surfaces behind one
        another the nearest counts.
    """
    sharpness = float(depth_camera.intrinsics[0, 0] / camera.intrinsics[0, 0]) * DENSITY
    scale = min(1.0, sharpness)
    raster = camera.resized(max(1, round(camera.height * scale)), max(1, round(camera.width * scale)))
    known = torch.from_numpy(np.isfinite(depth) & (depth > 0))
    points = depth_camera.lift(torch.from_numpy(np.where(known.numpy(), depth, 1.0).astype(np.float64)))[known]
    pixels, distance = raster.project(points)
    cells = pixels.floor().long()
    inside = (distance > 0) & (cells >= 0).all(-1) & (cells[:, 0] < raster.width) & (cells[:, 1] < raster.height)
    index = cells[inside, 1] * raster.width + cells[inside, 0]
    nearest = torch.full((raster.height * raster.width,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, index, distance[inside].double(), "amin")
    drawn = torch.where(nearest.isfinite(), nearest, 0).view(raster.height, raster.width).numpy().astype(np.float32)
    size = (camera.width, camera.height)
    return cv2.resize(drawn, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.float32)
