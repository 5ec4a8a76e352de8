"""Whether views see points: which pixel a point falls into, and whether the surface there is the point's own."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.geometry import Camera


def pixels_of(camera: Camera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Into which pixel of each view each point falls.

    Args:
        camera: (...) cameras.
        points: (..., N, 3) metres, world axes; NaN where there is none. Its batch broadcasts with the cameras'.

    Returns:
        (..., N) int64 row x width + column, -1 outside of the view or behind it; and (..., N) metres along the optical
        axis.
    """
    batch = torch.broadcast_shapes(camera.batch_shape, points.shape[:-2])
    pixels, distance = camera.project(points.expand(*batch, -1, -1))
    x, y = pixels.nan_to_num(-1.0).floor().unbind(-1)
    inside = (distance > 0) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
    return torch.where(inside, y.long() * camera.width + x.long(), -1), distance


def sample_pixels(image: Tensor, pixel: Tensor) -> Tensor:
    """Values (..., N) of images (..., H, W) at flat pixels (..., N), NaN where those are -1; batches broadcast."""
    batch = torch.broadcast_shapes(image.shape[:-2], pixel.shape[:-1])
    values = image.flatten(-2).expand(*batch, -1).gather(-1, pixel.clamp(min=0).expand(*batch, -1))
    return torch.where(pixel >= 0, values, torch.nan)


def sees(camera: Camera, depth: Tensor, points: Tensor, tolerance: float) -> Tensor:
    """Whether each view measured a surface where each point is: nothing hides it, and it is still there.

    Args:
        camera: (...) cameras at H x W.
        depth: (..., H, W) metres that they measured; a view that knows nothing at a pixel sees no point there.
        points: (..., N, 3) metres, world axes; NaN where there is none.
        tolerance: share of the measured depth within which two depths are one surface.

    Returns:
        (..., N) bool.
    """
    pixel, distance = pixels_of(camera, points)
    # A NaN on either side compares false.
    return (distance / sample_pixels(depth, pixel) - 1).abs() < tolerance
