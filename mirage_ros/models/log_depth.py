"""Depth as latent channels: log depth on a grid twice as fine as the latents, unshuffled to four channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mirage_ros.geometry import valid_depth

# Fine cells along each side of a latent cell, and channels of a packed cell.
FINE = 2
CHANNELS = FINE * FINE
# Metres: depth outside is clamped before the logarithm.
NEAREST, FURTHEST = 0.05, 200.0
# Metres that models are taught to say of what is too far to measure, such as the sky; further than anything in a scene.
SKY_DEPTH = 30.0
# And from where on a depth of theirs is that.
SKY_FROM = 0.95 * SKY_DEPTH


def reduce(depth: Tensor, height: int, width: int) -> Tensor:
    """Bring depth to a coarser grid by the median of each block's valid pixels; of two in the middle the nearer.

    A mean would put points between two surfaces where there is nothing.

    Args:
        depth: (..., H, W) metres; invalid pixels do not take part.
        height, width: cells; H and W are multiples.

    Returns:
        (..., height, width) metres, NaN where a block has no valid pixel.

    Raises:
        ValueError: the sizes do not divide.
    """
    rows, columns = depth.shape[-2:]
    if rows % height or columns % width:
        raise ValueError(f"depth: expected a multiple of {height}x{width} pixels, got {rows}x{columns}")
    metres = torch.where(valid_depth(depth), depth, torch.nan)
    blocks = metres.unflatten(-2, (height, -1)).unflatten(-1, (width, -1)).transpose(-3, -2).flatten(-2)
    return blocks.nanmedian(dim=-1).values


def pack(depth: Tensor, mean: float, deviation: float) -> Tensor:
    """Fine depth to normalised log-depth channels.

    Args:
        depth: (..., 2h, 2w) metres; +inf, too far to measure (REP-118), counts as `SKY_DEPTH`.
        mean, deviation: of log depth over the training data.

    Returns:
        (..., 4, h, w); zero, the mean log depth, where the depth is invalid.
    """
    depth = torch.where(depth == torch.inf, SKY_DEPTH, depth)
    valid = valid_depth(depth)
    log = torch.log(torch.where(valid, depth, 1.0).clamp(NEAREST, FURTHEST))
    return pixel_unshuffle(torch.where(valid, (log - mean) / deviation, 0.0).unsqueeze(-3), FINE)


def unpack(channels: Tensor, mean: float, deviation: float) -> Tensor:
    """Normalised log-depth channels (..., 4, h, w) to depth (..., 2h, 2w) in metres, always valid."""
    log = pixel_shuffle(channels, FINE).squeeze(-3) * deviation + mean
    return torch.exp(log).clamp(NEAREST, FURTHEST)
