"""Votes of views about points: does another view hold the same surface, or see through it? And means over surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.visibility import pixels_of, sample_pixels

# Of a box of `pool_surfaces`: pixels along its side, and the logarithm of depth that it spans.
BOX = (6, 0.06)


@dataclass(frozen=True, eq=False)
class DepthBounds:
    """Depth images that vote, prepared once, with a tolerance of one pixel for where their edges are.

    Attributes:
        nearest, furthest: (S, h, w) least and greatest valid depth around each pixel; infinite and zero where none.
        camera: (S,) cameras at h x w.
    """

    nearest: Tensor
    furthest: Tensor
    camera: Camera

    @classmethod
    def of(cls, depth: Tensor, camera: Camera) -> DepthBounds:
        """Bounds of depth images (S, h, w) in metres."""
        valid = valid_depth(depth)
        low = -_pool(torch.where(valid, -depth, -torch.inf))
        return cls(low, _pool(torch.where(valid, depth, 0.0)), camera)

    def __getitem__(self, index: Tensor | slice) -> DepthBounds:
        """Some of the views."""
        return DepthBounds(self.nearest[index], self.furthest[index], self.camera[index])


@dataclass(frozen=True, eq=False)
class Votes:
    """What S views say about N points.

    Attributes:
        through: (S, N) bool, the view sees past the point: everything around its place there is further away.
        holds: (S, N) bool, the view has a surface there.
        pixel: (S, N) int64 flat pixel of the point in the view, -1 outside of it.
    """

    through: Tensor
    holds: Tensor
    pixel: Tensor


def vote(points: Tensor, views: DepthBounds, tolerance: float) -> Votes:
    """Let views judge points.

    Args:
        points: (N, 3) world metres; NaN where there is none.
        views: S of them.
        tolerance: share of depth within which two depths are one surface.
    """
    pixel, depth = pixels_of(views.camera, points)
    nearest, furthest = sample_pixels(views.nearest, pixel), sample_pixels(views.furthest, pixel)
    depth = depth.to(nearest.dtype)
    # What a view has not measured at all says nothing; outside of it a NaN compares false.
    known = furthest > 0
    through = known & (nearest > depth * (1 + tolerance))
    holds = known & (nearest <= depth * (1 + tolerance)) & (furthest >= depth * (1 - tolerance))
    return Votes(through, holds, pixel)


def noise_of(depth: Tensor, camera: Camera) -> Tensor:
    """Robust relative error of depth between neighbouring frames, a scalar.

    The median of |ln(measured / expected)| of points carried to the next frame, scaled to a standard deviation. Moving
    things are too few to change a median.

    Args:
        depth: (T, h, w) metres.
        camera: (T,) at h x w.
    """
    residuals = []
    for t in range(len(depth) - 1):
        pixel, expected = pixels_of(camera[t + 1], camera[t].lift(depth[t]).reshape(-1, 3))
        measured = sample_pixels(depth[t + 1], pixel)
        good = valid_depth(measured) & valid_depth(expected)
        residual = (measured / expected.to(measured.dtype)).log().abs()
        residuals.append(torch.where(good, residual, torch.nan))
    if not residuals:
        return depth.new_zeros(())
    # A half for each of the two depths that are compared; 1.4826 makes a deviation of a median.
    return torch.cat(residuals).nanmedian().nan_to_num(0.0) * 1.4826 / 2**0.5


def pool_surfaces(values: Tensor, weights: Tensor, depth: Tensor) -> Tensor:
    """Weighted means over the surroundings of each pixel that are at its depth.

    Values are gathered in boxes of image and logarithm of depth, the boxes are smoothed, and every pixel reads between
    the boxes around it (a bilateral grid: Chen, Paris, Durand, SIGGRAPH 2007).

    Args:
        values: (T, h, w) float.
        weights: (T, h, w) float, zero where a value says nothing.
        depth: (T, h, w) metres, NaN where unknown; such pixels neither give nor get anything.

    Returns:
        (T, h, w) means, zero where nothing is known around.
    """
    side, step = BOX
    count, height, width = depth.shape
    known = depth.isfinite()
    log = torch.where(known, depth, 1.0).clamp(min=1e-3).log()
    lowest = torch.where(known, log, torch.inf).amin()
    lowest = torch.where(lowest.isfinite(), lowest, 0.0)
    levels = int(((log - lowest).amax().clamp(min=0) / step).ceil()) + 2
    rows, columns = -(-height // side) + 2, -(-width // side) + 2
    y = (torch.arange(height, device=depth.device) + 0.5) / side + 0.5
    x = (torch.arange(width, device=depth.device) + 0.5) / side + 0.5
    z = (log - lowest).clamp(min=0) / step
    t = torch.arange(count, device=depth.device)[:, None, None]
    box = ((t * levels + z.round().long()) * rows + y.long()[:, None]) * columns + x.long()
    grid = torch.zeros(2, count * levels * rows * columns, device=depth.device)
    weights = torch.where(known, weights, 0.0)
    grid[0].index_add_(0, box.reshape(-1), (values * weights).reshape(-1))
    grid[1].index_add_(0, box.reshape(-1), weights.reshape(-1))
    smooth = grid.reshape(2 * count, 1, levels, rows, columns)
    kernel = torch.tensor([1.0, 2.0, 1.0], device=depth.device) / 4
    for shape, padding in (((3, 1, 1), (1, 0, 0)), ((1, 3, 1), (0, 1, 0)), ((1, 1, 3), (0, 0, 1))):
        smooth = F.conv3d(smooth, kernel.reshape(1, 1, *shape), padding=padding)
    smooth = smooth.reshape(2, count, levels, rows, columns).transpose(0, 1)
    # grid_sample wants coordinates of -1..1 between the centres of the outer boxes.
    place = torch.stack(
        [
            (2 * (x - 0.5) / (columns - 1) - 1).expand(count, height, width),
            (2 * (y - 0.5) / (rows - 1) - 1).unsqueeze(-1).expand(count, height, width),
            2 * z / (levels - 1) - 1,
        ],
        dim=-1,
    )
    read = F.grid_sample(smooth, place.unsqueeze(1), align_corners=True, padding_mode="border").squeeze(2)
    return torch.where(known & (read[:, 1] > 1e-3), read[:, 0] / read[:, 1].clamp(min=1e-3), 0.0)


def _pool(image: Tensor) -> Tensor:
    return F.max_pool2d(image.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
