"""Training the frame autoencoder so that its latents survive being warped.

Beside reconstruction there is an equivariance loss: latents that are moved, by fractions of a cell on one step and by
true depth into another view on the next, must look like the latents of the moved picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.images import as_images, as_pixels
from mirage_ros.models.frame_autoencoder import STRIDE, FrameAutoencoder
from mirage_ros.models.log_depth import FURTHEST, NEAREST
from mirage_ros.recordings.clips import Clip
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.correspondence import correspond
from mirage_ros.training.losses import depth_loss, masked_mean, picture_loss, psnr, sample_cells, shift_latents
from mirage_ros.training.task import Rows, TrainingTask

# Rows and columns of a crop in pixels, multiples of 4, and the greatest distance of the two frames of a pair.
CROP, APART = (96, 128), 4
# Deviation of what is added to latents before decoding.
NOISE = 0.05
# Weights of the losses: log-depth L1; the latents' squares, which keeps them small; what each channel's deviation lacks
# to LEAST_DEVIATION, without which noise and equivariance make some channels fall silent and pictures blur; the
# equivariance loss, and within it the relative latent L1.
DEPTH_WEIGHT, SQUARE_WEIGHT, SPREAD_WEIGHT, EQUIVARIANCE, LATENT_WEIGHT = 0.1, 0.001, 0.2, 0.1, 0.15
LEAST_DEVIATION = 0.5


class AutoencoderTask(TrainingTask):
    """Autoencoder with its losses: a batch of samples in, named losses out.

    Args:
        crop: rows and columns of a crop.
        noise: deviation of what is added to latents before decoding.
    """

    def __init__(
        self,
        autoencoder: FrameAutoencoder,
        data: ClipCache,
        held_out: ClipCache,
        crop: tuple[int, int] = CROP,
        noise: float = NOISE,
    ) -> None:
        super().__init__()
        self.autoencoder, self.crop, self._noise = autoencoder, crop, noise
        self._data, self._held_out = data, held_out

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """Two crops of neighbouring frames, one more crop a few pixels beside the first, and how the two correspond."""
        index = int(rng.integers(len(self._data)))
        first = int(rng.integers(self._data.frames(index)))
        low, high = max(0, first - APART), min(self._data.frames(index) - 1, first + APART)
        clip = self._data.clip(index, np.array([first, int(rng.integers(low, high + 1))]))
        if rng.random() < 0.5:
            clip = clip.mirrored()
        room = clip.camera.height - self.crop[0], clip.camera.width - self.crop[1]
        if min(room) < 0:
            raise ValueError(f"crop: expected at most {clip.rgb.shape[1:3]}, got {self.crop}")
        top, left = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
        shift = [int(rng.integers(min(STRIDE, room[k] + 1))) for k in (1, 0)]
        beside_left = left + shift[0] if left + shift[0] <= room[1] else left - shift[0]
        beside_top = top + shift[1] if top + shift[1] <= room[0] else top - shift[1]
        crop = clip.cropped(top, left, *self.crop)
        beside = clip[:1].cropped(beside_top, beside_left, *self.crop)
        places, covisible = _correspondence(crop)
        images = as_images(crop.rgb)
        return {
            "first": images[0],
            "second": images[1],
            "beside": as_images(beside.rgb)[0],
            "shift": torch.tensor([beside_left - left, beside_top - top], dtype=torch.float32) / STRIDE,
            "depth": torch.from_numpy(np.ascontiguousarray(crop.depth)),
            "places": places,
            "covisible": covisible,
        }

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self._data.refresh()

    def save(self, folder: Path) -> None:
        """Write the autoencoder to vae/, not normalised yet."""
        self.autoencoder.save_pretrained(folder / "vae")

    def finish(self, folder: Path) -> dict[str, float]:
        """Normalise the autoencoder by its latents of training frames and write it; the statistics of log depth."""
        self.autoencoder.eval()
        mean, deviation, log_mean, log_deviation = measure_statistics(self.autoencoder, self._data)
        self.autoencoder.normalise_by(mean, deviation)
        self.save(folder)
        return {"log_depth_mean": log_mean, "log_depth_std": log_deviation}

    def validate(self) -> tuple[dict[str, float], Rows]:
        """Reconstruction of held-out scenes."""
        return measure_autoencoder(self.autoencoder, self._held_out)

    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch; the entry 'loss' is their weighted sum."""
        images = torch.cat([batch["first"], batch["second"]])
        depth = torch.cat([batch["depth"][:, 0], batch["depth"][:, 1]])
        latents = self.autoencoder.encode_images(images)
        noise = torch.randn(latents.shape, generator=generator, device=latents.device)
        decoded, log_depth = self.autoencoder.decode_images(latents + self._noise * noise.to(latents))
        losses = {
            "picture": picture_loss(decoded.float(), images),
            "depth": depth_loss(log_depth.squeeze(1).float(), depth),
            "square": latents.float().square().mean(),
            "spread": F.relu(LEAST_DEVIATION - latents.float().std(dim=(0, 2, 3))).mean(),
        }
        first, second = latents.float().chunk(2)
        if step % 2 == 0:
            moved = shift_latents(first, batch["shift"])
            truth, wanted = batch["beside"], self.autoencoder.encode_images(batch["beside"]).float()
            # The border has nothing to be shifted in from.
            mask = torch.zeros_like(moved[:, :1])
            mask[..., 1:-1, 1:-1] = 1
        else:
            mask = batch["covisible"].float().unsqueeze(1)
            moved = torch.where(mask > 0, sample_cells(first, batch["places"]), second)
            truth, wanted = batch["second"], second
        relative = masked_mean((moved - wanted).abs(), mask) / wanted.abs().mean().detach().clamp(min=1e-3)
        redrawn = self.autoencoder.decode_images(moved)[0].float()
        pixels = F.interpolate(mask, scale_factor=STRIDE, mode="nearest")
        losses["equivariance"] = picture_loss(redrawn, truth, pixels) + LATENT_WEIGHT * relative
        losses["loss"] = (
            losses["picture"]
            + DEPTH_WEIGHT * losses["depth"]
            + SQUARE_WEIGHT * losses["square"]
            + SPREAD_WEIGHT * losses["spread"]
            + EQUIVARIANCE * losses["equivariance"]
        )
        return losses


def _correspondence(crop: Clip) -> tuple[Tensor, Tensor]:
    """Where the second frame's cells are in the first frame, and which of them both see standing still."""
    height, width = crop.rgb.shape[1] // STRIDE, crop.rgb.shape[2] // STRIDE
    depth = torch.from_numpy(np.where(crop.keep, crop.depth, 0))
    # A sample near the cell's middle; a mean would mix surfaces.
    coarse = depth[1:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
    cells = crop.camera.resized(height, width)
    places, covisible = correspond(cells[1:], coarse, cells[:1], depth[:1])
    return places[0], covisible[0]


@torch.no_grad()
def measure_autoencoder(
    autoencoder: FrameAutoencoder, data: ClipCache, clips: int = 24
) -> tuple[dict[str, float], Rows]:
    """Reconstruction of whole frames, and rows for a sheet.

    Returns:
        figures ('psnr' over all pixels in dB, 'depth_abs_rel' the mean relative depth error), and truth and
        reconstruction of the first few.
    """
    device = next(autoencoder.parameters()).device
    images, decoded, errors = [], [], []
    for index in data.evenly(clips):
        clip = data.clip(index, np.array([0, data.frames(index) // 2]))
        truth = as_images(clip.rgb)
        picture, depth = autoencoder.decode_with_depth(autoencoder.encode(truth.unsqueeze(0).to(device)))
        known = clip.depth > 0
        errors.append(np.abs(depth[0].cpu().numpy() / np.where(known, clip.depth, 1) - 1)[known].mean())
        images.append(truth)
        decoded.append(picture[0].cpu())
    figures = {"psnr": psnr(torch.cat(decoded), torch.cat(images)), "depth_abs_rel": float(np.mean(errors))}
    rows = [
        ("truth", [as_pixels(image[0]) for image in images[:5]]),
        ("decoded", [as_pixels(image[0]) for image in decoded[:5]]),
    ]
    return figures, rows


@torch.no_grad()
def measure_statistics(
    autoencoder: FrameAutoencoder, data: ClipCache, frames: int = 400
) -> tuple[list[float], list[float], float, float]:
    """Mean and deviation of each latent channel, and of log depth, over training frames.

    Returns:
        latent means, latent deviations, log-depth mean, log-depth deviation.
    """
    rng, device = np.random.default_rng(0), next(autoencoder.parameters()).device
    latents, logs = [], []
    for _ in range(frames):
        index = int(rng.integers(len(data)))
        clip = data.clip(index, np.array([int(rng.integers(data.frames(index)))]))
        latents.append(autoencoder.encode_images(as_images(clip.rgb).to(device)).float().cpu())
        metres = clip.depth[clip.depth > 0]
        logs.append(np.log(np.clip(metres[:: max(1, metres.size // 500)], NEAREST, FURTHEST)))
    stacked, log = torch.cat(latents), np.concatenate(logs)
    mean, deviation = stacked.mean(dim=(0, 2, 3)), stacked.std(dim=(0, 2, 3))
    return mean.tolist(), deviation.tolist(), float(log.mean()), float(log.std())
