"""Losses and figures on pictures."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import valid_depth
from mirage_ros.models.log_depth import FURTHEST, NEAREST


def gradient_l1(image: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Mean absolute difference of horizontal and vertical differences, (N, C, H, W); mask (N, 1, H, W) in 0..1."""
    error = image - target
    rows = masked_mean(error.diff(dim=-2).abs(), mask[..., 1:, :] * mask[..., :-1, :])
    return rows + masked_mean(error.diff(dim=-1).abs(), mask[..., 1:] * mask[..., :-1])


def picture_loss(image: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """L1 + 0.5 gradient L1 + 2 MSE of pictures (N, 3, H, W) in 0..1, where a mask (N, 1, H, W) is one."""
    mask = torch.ones_like(image[:, :1]) if mask is None else mask
    error = image - target
    absolute, square = masked_mean(error.abs(), mask), masked_mean(error.square(), mask)
    return absolute + 0.5 * gradient_l1(image, target, mask) + 2 * square


def depth_loss(log_depth: Tensor, depth: Tensor) -> Tensor:
    """Mean absolute error of log depth (N, H, W) against depth (N, H, W) in metres, where that is known."""
    valid = valid_depth(depth)
    truth = torch.log(torch.where(valid, depth, 1.0).clamp(NEAREST, FURTHEST))
    return ((log_depth - truth).abs() * valid).sum() / valid.sum().clamp(min=1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of (N, C, ...) where a (N, 1, ...) mask is one; zero where it is nowhere."""
    weight = mask.expand_as(values)
    return (values * weight).sum() / weight.sum().clamp(min=1)


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB of pictures in 0..1, the image clamped, over pixels where the mask is one.

    NaN where it is one nowhere.
    """
    if mask is not None and not mask.any():
        return float("nan")
    square = (image.float().clamp(0, 1) - target.float()).square()
    error = square.mean() if mask is None else masked_mean(square, mask)
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


def shift_latents(latents: Tensor, offset: Tensor) -> Tensor:
    """Move each latent image by a fraction of a cell, bilinearly: out(y, x) = in(y + dy, x + dx), borders repeated.

    Args:
        latents: (N, C, h, w).
        offset: (N, 2) as (dx, dy) in cells.
    """
    _, _, height, width = latents.shape
    ys = torch.arange(height, device=latents.device) + 0.5
    xs = torch.arange(width, device=latents.device) + 0.5
    grid = torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1) + offset[:, None, None].float()
    return sample_cells(latents, grid)


def sample_cells(latents: Tensor, places: Tensor) -> Tensor:
    """Latents (N, C, h, w) at places (N, h', w', 2) as (x, y) in cells, centres at +0.5; bilinear, borders repeated."""
    size = places.new_tensor([latents.shape[-1], latents.shape[-2]])
    grid = (2 * places / size - 1).to(latents.dtype)
    return F.grid_sample(latents, grid, mode="bilinear", padding_mode="border", align_corners=False)
