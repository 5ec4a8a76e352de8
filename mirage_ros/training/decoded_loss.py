"""Decoded pictures in the transformer's loss: of what it imagines, and of true latents."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.log_depth import SKY_FROM
from mirage_ros.training.losses import depth_loss, masked_mean, square_where_seen

# Error of a pixel at which squared and absolute ones count about alike.
UNIT = 0.1


def picture_error(
    autoencoder: FrameAutoencoder, latents: Tensor, seen: Tensor, batch: dict[str, Tensor], *, edges: bool
) -> Tensor:
    """Mean error of some frames, decoded, where nothing moves.

    Args:
        autoencoder: that decodes.
        latents: (B, C, F, h, w) imagined, perhaps with depth channels behind.
        seen: (B, 1, F, h, w) above zero where the memory shows something.
        batch: with 'drawn', (B, P) places of the frames, their 'images' (B, P, 3, H, W) and 'static' (B, P, 1, H, W).
        edges: absolute rather than squared in what is hidden.
    """
    # Not clamped: what is drawn too bright must be told so.
    pictures = autoencoder.decode_images(_picked(latents, batch)[:, : autoencoder.channels])[0].float()
    error = pictures - batch["images"].flatten(0, 1)
    shown = F.interpolate(_picked(seen, batch).float(), size=error.shape[-2:], mode="nearest")
    penalty = square_where_seen(error, shown, UNIT) if edges else error.square()
    return masked_mean(penalty, batch["static"].flatten(0, 1))


def true_losses(autoencoder: FrameAutoencoder, latents: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of true latents, for a decoder that must go on drawing them.

    Args:
        autoencoder: whose decoder is trained.
        latents: (B, C, F, h, w) true ones, perhaps with depth channels behind.
        batch: with 'drawn' and 'images' as above, and 'depth' (B, T, 2h, 2w) metres.

    Returns:
        'true', the squared error of pixels, and 'depth', L1 of log depth.
    """
    pictures, log_depths = autoencoder.decode_images(_picked(latents, batch)[:, : autoencoder.channels])
    rows = torch.arange(len(latents), device=latents.device)[:, None]
    metres = batch["depth"][rows, batch["drawn"]].flatten(0, 1)
    # Depth is kept for some of the pixels; that of the sky is a convention.
    step = log_depths.shape[-1] // metres.shape[-1]
    sampled = log_depths[:, 0, step // 2 :: step, step // 2 :: step].float()
    return {
        "true": (pictures.float() - batch["images"].flatten(0, 1)).square().mean(),
        "depth": depth_loss(sampled, torch.where(metres < SKY_FROM, metres, 0.0)),
    }


def _picked(values: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The drawn frames (B P, C, h, w) of (B, C, F, h, w)."""
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values.transpose(1, 2)[rows, batch["drawn"]].flatten(0, 1)
