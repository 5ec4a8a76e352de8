"""Averages over neighbours on the same surface, by a bilateral grid."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def pool_surfaces(values: Tensor, weights: Tensor, depth: Tensor, *, side: int = 6, step: float = 0.06) -> Tensor:
    """Weighted means over the surroundings of each pixel that are at its depth.

    Values are gathered in boxes of image and logarithm of depth, the boxes are smoothed, and every pixel reads between
    the boxes around it (a bilateral grid: Chen, Paris, Durand, SIGGRAPH 2007).

    Args:
        values: (T, h, w) float.
        weights: (T, h, w) float, zero where a value says nothing.
        depth: (T, h, w) metres, NaN where unknown; such pixels neither give nor get anything.
        side: pixels along a box.
        step: logarithm of depth that a box spans.

    Returns:
        (T, h, w) means, zero where nothing is known around.
    """
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
