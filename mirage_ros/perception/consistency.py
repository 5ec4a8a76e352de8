"""Votes of views about points: does another view hold the same surface, or does it see through it?"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera, valid_depth


@dataclass(frozen=True, eq=False)
class Views:
    """Depth images that vote, prepared once.

    Attributes:
        nearest, furthest: (S, h, w) least and greatest valid depth around each pixel; infinite and zero where none.
        camera: (S,) cameras at h x w.
    """

    nearest: Tensor
    furthest: Tensor
    camera: Camera

    def __len__(self) -> int:
        return len(self.nearest)

    def __getitem__(self, index: Tensor | slice) -> Views:
        """Some of the views."""
        return Views(self.nearest[index], self.furthest[index], self.camera[index])


def views_of(depth: Tensor, camera: Camera) -> Views:
    """Views of depth images (S, h, w) in metres, with a tolerance of one pixel for where their edges are."""
    valid = valid_depth(depth)
    low = -_pool(torch.where(valid, -depth, -torch.inf))
    return Views(low, _pool(torch.where(valid, depth, 0.0)), camera)


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


def vote(points: Tensor, views: Views, tolerance: Tensor | float) -> Votes:
    """Let views judge points.

    Args:
        points: (N, 3) world metres; NaN where there is none.
        views: S of them.
        tolerance: share of depth within which two depths are one surface; a number or (N,).
    """
    height, width = views.camera.height, views.camera.width
    pixels, depth = views.camera.project(points.expand(len(views), -1, -1))
    x, y = pixels.nan_to_num(-1.0).floor().unbind(-1)
    inside = (depth > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    flat = torch.where(inside, y * width + x, 0.0).long()
    nearest = views.nearest.flatten(1).gather(1, flat)
    furthest = views.furthest.flatten(1).gather(1, flat)
    depth = depth.to(nearest.dtype)
    # What a view has not measured at all says nothing.
    known = inside & (furthest > 0)
    through = known & (nearest > depth * (1 + tolerance))
    holds = known & (nearest <= depth * (1 + tolerance)) & (furthest >= depth * (1 - tolerance))
    return Votes(through, holds, torch.where(inside, flat, -1))


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
        pixels, expected = camera[t + 1].project(camera[t].lift(depth[t]).reshape(-1, 3))
        measured = sample_nearest(depth[t + 1], pixels)
        good = valid_depth(measured) & valid_depth(expected)
        residual = (measured / expected.to(measured.dtype)).log().abs()
        residuals.append(torch.where(good, residual, torch.nan))
    if not residuals:
        return depth.new_zeros(())
    # A half for each of the two depths that are compared; 1.4826 makes a deviation of a median.
    return torch.cat(residuals).nanmedian().nan_to_num(0.0) * 1.4826 / 2**0.5


def sample_nearest(image: Tensor, pixels: Tensor) -> Tensor:
    """(N,) values of an image (h, w) at pixels (N, 2), NaN outside."""
    height, width = image.shape
    x, y = pixels.nan_to_num(-1.0).floor().long().unbind(-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    return torch.where(inside, image.reshape(-1)[torch.where(inside, y * width + x, 0)], torch.nan)


def _pool(image: Tensor) -> Tensor:
    return F.max_pool2d(image.unsqueeze(1), 3, stride=1, padding=1).squeeze(1)
