"""What the stages of the transformer and the joint phase minimise.

Every stage: the error of the flow, or of clean estimates, on what the network has to invent. Where clean latents of
single frames are estimated, the error of some decoded pictures too; in the joint phase that of true latents, decoded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.models import log_depth
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.schedule import FEW_STEPS, add_noise, clean_estimate, shift_sigmas
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.losses import depth_loss, masked_mean

# Errors of normalised latents, and of a pixel, at which squared and absolute ones count about alike.
LATENT_UNIT, PIXEL_UNIT = 1.0, 0.1


@dataclass(frozen=True, eq=False)
class NoisyChunk:
    """Target frames on their way from noise.

    Attributes:
        targets: (B, C, F, h, w) true ones.
        start: (B, C, F, h, w) what noise is added to: the readout where a rollout keeps it, else the targets.
        fixed: (B, C, F, h, w) bool, where it is kept.
        noise: (B, C, F, h, w).
        level: (B, 1, F, 1, 1) sigmas; zero for the known first frame.
    """

    targets: Tensor
    start: Tensor
    fixed: Tensor
    noise: Tensor
    level: Tensor

    @property
    def noisy(self) -> Tensor:
        """(B, C, F, h, w) what the network is given."""
        return torch.where(self.level > 0, add_noise(self.start, self.noise, self.level), self.targets)


def draw_sigmas(batch: int, frames: int, settings: StageSettings, generator: torch.Generator) -> Tensor:
    """(B, F) noise levels, zero for the known first frame."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=generator.device)

    level = shift_sigmas(uniform(batch, 1), settings.shift)
    level = torch.where(uniform(batch, 1) < settings.pure_noise, 1.0, level).expand(-1, frames)
    each = shift_sigmas(uniform(batch, frames), settings.shift)
    sigmas = torch.where(uniform(batch, 1) < settings.own_sigma, each, level).clamp(min=1e-3)
    return torch.cat([torch.zeros_like(sigmas[:, :1]), sigmas[:, 1:]], dim=1)


def few_step_sigmas(batch: int, frames: int, generator: torch.Generator) -> Tensor:
    """(B, F) noise levels of 1 to `FEW_STEPS.steps` steps of Euler's method, zero for the known first frame."""
    steps = torch.randint(1, FEW_STEPS.steps + 1, (batch, 1), generator=generator, device=generator.device)
    step = (torch.rand(batch, 1, generator=generator, device=generator.device) * steps).floor()
    level = shift_sigmas(1 - step / steps, FEW_STEPS.shift)
    return torch.cat([torch.zeros_like(level), level.expand(-1, frames - 1)], dim=1)


def stage_losses(
    flow: Tensor,
    chunk: NoisyChunk,
    seen: Tensor,
    batch: dict[str, Tensor],
    settings: StageSettings,
    *,
    corrects: bool,
    autoencoder: FrameAutoencoder | None,
) -> dict[str, Tensor]:
    """Losses on the frames after the known first one.

    Args:
        flow: (B, C, F, h, w) predicted.
        chunk: what it was predicted for.
        seen: (B, 1, F - 1, h, w) above zero where the memory shows something.
        batch: the sample; see `chunk_samples.draw_chunk`.
        corrects: the network corrects the readout: clean estimates count, not the flow.
        autoencoder: that decodes pictures; used where `settings` gives them a weight.

    Returns:
        'loss', the one to minimise, its parts in what is 'seen' and 'hidden', and 'picture', 'true' and 'depth' as far
        as they count.
    """
    if corrects:
        estimate = clean_estimate(chunk.noisy, flow, chunk.level)
        weight = chunk.level.clamp(min=settings.least_sigma)[:, :, 1:]
        error = square_where_seen((estimate - chunk.targets)[:, :, 1:] / weight, seen, LATENT_UNIT)
    else:
        error = (flow - (chunk.noise - chunk.start))[:, :, 1:].square()
    # What follows the readout anyway is not the network's to get right.
    counted = (~moving_cells(batch) & ~chunk.fixed)[:, :, 1:].float().expand_as(error)
    losses = {
        "loss": masked_mean(error, counted),
        "seen": masked_mean(error, counted * seen),
        "hidden": masked_mean(error, counted * (1 - seen)),
    }
    if corrects and autoencoder is not None and settings.picture_weight > 0:
        cells = torch.cat([torch.ones_like(seen[:, :, :1]), seen], dim=2)
        shown = torch.where(chunk.fixed, chunk.start, estimate)
        losses["picture"] = picture_error(autoencoder, shown, cells, batch)
        losses["loss"] = losses["loss"] + settings.picture_weight * losses["picture"]
    if autoencoder is not None and settings.decoder:
        losses |= true_losses(autoencoder, chunk.targets, batch)
        losses["loss"] = (
            losses["loss"] + settings.picture_weight * losses["true"] + settings.depth_weight * losses["depth"]
        )
    return losses


def moving_cells(batch: dict[str, Tensor]) -> Tensor:
    """(B, 1, F, h, w) bool: cells with something that moves, which no memory can foresee."""
    frames = batch["targets"].shape[1]
    moves = ~batch["still"] & (batch["depth"][:, :frames] < log_depth.SKY_FROM)
    cells = F.max_pool2d(moves.float().flatten(0, 1).unsqueeze(1), log_depth.FINE)
    return (cells.unflatten(0, moves.shape[:2]) > 0).transpose(1, 2)


def square_where_seen(error: Tensor, seen: Tensor, unit: float) -> Tensor:
    """Squared error where something is seen; elsewhere the absolute error, about as great at `unit`.

    Of all that may be in a hidden place the square wants the mean, which is fog: where an edge may be here or there, it
    wants a ramp. The absolute error wants the median, which has edges.

    Args:
        error: of any shape.
        seen: of a shape that expands to it, above zero where seen.
        unit: of the error. Below a tenth of it the absolute error is rounded off.
    """
    rounded = 0.1 * unit
    absolute = unit * ((error.square() + rounded**2).sqrt() - rounded)
    return torch.where(seen > 0, error.square(), absolute)


def picture_error(autoencoder: FrameAutoencoder, latents: Tensor, seen: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Mean error of some frames, decoded, where nothing moves.

    Args:
        latents: (B, C, F, h, w) imagined, perhaps with depth channels behind.
        seen: (B, 1, F, h, w) above zero where the memory shows something.
        batch: with 'drawn', (B, P) places of the frames, their 'images' (B, P, 3, H, W) and 'static' (B, P, 1, H, W).
    """
    # Not clamped: what is drawn too bright must be told so.
    pictures = autoencoder.decode_images(_picked(latents, batch)[:, : autoencoder.channels])[0].float()
    error = pictures - batch["images"].flatten(0, 1)
    shown = F.interpolate(_picked(seen, batch).float(), size=error.shape[-2:], mode="nearest")
    return masked_mean(square_where_seen(error, shown, PIXEL_UNIT), batch["static"].flatten(0, 1))


def true_losses(autoencoder: FrameAutoencoder, latents: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Losses of true latents, for a decoder that must go on drawing them.

    Args:
        latents: (B, C, F, h, w) true ones, perhaps with depth channels behind.
        batch: with 'drawn' and 'images' as above, and 'depth' (B, T, 2h, 2w) metres.

    Returns:
        'true', the squared error of pixels, and 'depth', L1 of log depth.
    """
    pictures, log_depths = autoencoder.decode_images(_picked(latents, batch)[:, : autoencoder.channels])
    metres = _picked(batch["depth"].unsqueeze(1), batch).squeeze(1)
    # Depth is kept for some of the pixels; that of the sky is a convention.
    step = log_depths.shape[-1] // metres.shape[-1]
    sampled = log_depths[:, 0, step // 2 :: step, step // 2 :: step].float()
    return {
        "true": (pictures.float() - batch["images"].flatten(0, 1)).square().mean(),
        "depth": depth_loss(sampled, torch.where(metres < log_depth.SKY_FROM, metres, 0.0)),
    }


def _picked(values: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """The drawn frames (B P, C, h, w) of (B, C, F, h, w)."""
    rows = torch.arange(len(values), device=values.device)[:, None]
    return values.transpose(1, 2)[rows, batch["drawn"]].flatten(0, 1)
