"""Training of the generator: flow matching on residuals over the transformer's mean, of coarse cells and of latents."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.images import as_images, as_pixels
from mirage_ros.media import Pixels
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.generator import COARSE, Generator, OpenView
from mirage_ros.models.network_files import save_part
from mirage_ros.models.schedule import add_noise
from mirage_ros.training.losses import masked_mean, psnr
from mirage_ros.training.residuals import ResidualCache
from mirage_ros.training.task import Rows, TrainingTask

# Share of samples that start from pure noise, where a sampler of few steps spends its first one, and of those in which
# whatever is visible is kept, sharp or not.
PURE_NOISE, KEEP_VISIBLE = 0.15, 0.5
# Share of steps that see parts of keyframes around something hidden, and the rows and columns of such a part: cheaper,
# but large holes need whole frames.
CROPS, CROP = 0.75, (24, 24)
# Steps that validation draws with, and the pixels of the means that tell whether colours are in the right places.
STEPS, BLOCK = 4, 16
# Weight of the error of differences between neighbouring cells.
EDGES = 1.0
# Keyframes that validation draws.
DRAWN = 96
# Keyframes that tell how strong residuals are.
SAMPLED = 500
# Noises that each sample is drawn from on coarse cells, where a network costs less than the conditions.
NOISES = 4
# Share of the deviations, at most, by which what is drawn of coarse cells is off where latents are trained on it.
MISDRAWN = 0.3

Part = Literal["coarse", "fine"]


class GeneratorTask(TrainingTask):
    """The generator with its loss.

    Args:
        generator: to be trained; new ones are to be fitted first, see `fit`.
        part: of it; the other one stays as it is.
        data, held_out: keyframes with their means.
        autoencoder: draws pictures for validation.
    """

    def __init__(
        self,
        generator: Generator,
        part: Part,
        data: ResidualCache,
        held_out: ResidualCache,
        autoencoder: FrameAutoencoder,
    ) -> None:
        super().__init__()
        self.generator, self._part, self._data, self._held_out = generator, part, data, held_out
        self._autoencoder = (autoencoder,)
        generator.requires_grad_(False)
        trained = (generator.stem, generator.coarse) if part == "coarse" else (generator.fine, generator.scale)
        for network in trained:
            network.requires_grad_(True)
        self._grid = data.sample(0)["mean"].shape[-2:]

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self._data.refresh()

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """A keyframe or a part of one, with what of it is open."""
        sample = opened(self._data.sample(self._data.draw(rng)), keep_visible=rng.random() < KEEP_VISIBLE)
        return _cropped(sample, rng) if self._part == "fine" and shared.random() < CROPS else sample

    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Squared error of the flow in what is open and does not move: of all, 'latents' and 'depth'.

        On the latent grid also of its differences, and the negative logarithm of the likelihood of residuals under a
        Gaussian of the estimated 'scale'.
        """
        opening = OpenView(batch["mean"], batch["memory"], batch["is_open"])
        residual = self.generator.unmixed(torch.where(opening.is_open, batch["truth"] - opening.mean, 0.0))
        if self._part == "coarse":
            return self._coarse(opening, residual, batch["still"], generator)
        return self._fine(opening, residual, batch["still"], generator)

    def _noise(self, shape: torch.Size, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Noise levels, and white noise of whole frames, whose largest scales a part of one has too."""
        height, width = self._grid
        device = generator.device
        level = torch.randn(shape[0], generator=generator, device=device).sigmoid()
        pure = torch.rand(shape[0], generator=generator, device=device) < PURE_NOISE
        white = torch.randn(*shape[:2], 2 * height, 2 * width, generator=generator, device=device)
        return torch.where(pure, 1.0, level), white

    def _coarse(
        self, opening: OpenView, residual: Tensor, still: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        condensed = self.generator.condensed(opening).repeat(NOISES, 1, 1, 1)
        coarse, counted = self.generator.coarse_part(residual, opening.is_open & still)
        coarse, counted = (part.repeat(NOISES, 1, 1, 1) for part in (coarse, counted.float()))
        level, white = self._noise(coarse.shape, generator)
        noise = self.generator.coarse_noise(white)
        drawn = self.generator.coarse_part(residual, opening.is_open)[1].repeat(NOISES, 1, 1, 1)
        noisy = add_noise(coarse, noise, level[:, None, None, None]) * drawn
        error = (self.generator.coarse_flow(noisy, level, condensed) - (noise - coarse)).square()
        return {"loss": masked_mean(error, counted), **self._kinds(error, counted)}

    def _fine(
        self, opening: OpenView, residual: Tensor, still: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        model = self.generator
        coarse, _ = model.coarse_part(residual, opening.is_open & still)
        drawn = model.coarse_part(residual, opening.is_open)[1]
        level, white = self._noise(residual.shape, generator)
        below, noise = model.coarse_noise(white), model.fine_noise(white)
        rows, columns = residual.shape[-2:]
        noise = noise[..., :rows, :columns]
        # What is drawn of coarse cells will not be quite what latents are like.
        wrong = torch.rand(len(coarse), 1, 1, 1, generator=generator, device=coarse.device) * MISDRAWN
        coarse = coarse + wrong * below[..., : coarse.shape[-2], : coarse.shape[-1]]
        corrected = model.corrected(opening, coarse * drawn)
        residual = residual - model.unmixed(corrected.mean - opening.mean)
        counted = (model.opened(opening.is_open) & still).float()
        scales = model.log_scales(corrected)
        likelihood = masked_mean((residual * torch.exp(-scales)).square() / 2 + scales, counted)
        scale = scales.detach().exp()
        residual = residual / scale
        noisy = add_noise(residual, noise, level[:, None, None, None])
        error = model.fine_flow(noisy, level, corrected) - (noise - residual)
        # What may be strong counts the more, though not as much more as it is.
        counted = counted * scale.sqrt()
        # Large scales have most of the error, and details most of what one looks at.
        edges = sum(
            masked_mean(
                error.diff(dim=dim).square(),
                counted.narrow(dim, 1, counted.shape[dim] - 1) * counted.narrow(dim, 0, counted.shape[dim] - 1),
            )
            for dim in (-2, -1)
        )
        error = error.square()
        return {
            "loss": masked_mean(error, counted) + EDGES * edges + likelihood,
            "scale": likelihood,
            **self._kinds(error, counted),
        }

    def _kinds(self, error: Tensor, counted: Tensor) -> dict[str, Tensor]:
        latents = int(self.generator.config["latent_channels"])
        return {
            "latents": masked_mean(error[:, :latents], counted[:, :latents]),
            "depth": masked_mean(error[:, latents:], counted[:, latents:]),
        }

    def save(self, folder: Path) -> None:
        """Write generator/."""
        save_part(self.generator, folder / "generator")

    def validate(self) -> tuple[dict[str, float], Rows]:
        """Keyframes of held-out scenes, drawn.

        Returns:
            PSNR in dB of hidden pixels of 'sample' and 'mean', and of their means over blocks of 16 pixels, and rows of
            pictures.
        """
        rng = np.random.default_rng(0)
        picks = [self._held_out.draw(rng) for _ in range(DRAWN)]
        batch = torch.utils.data.default_collate(
            [opened(self._held_out.sample(pick), keep_visible=False) for pick in picks]
        )
        count, channels, height, width = batch["mean"].shape
        noise = torch.randn(count, channels, 2 * height, 2 * width, generator=torch.Generator().manual_seed(0))
        device = self.generator.mixing.device
        conditions = [batch[name].to(device).split(12) for name in ("mean", "memory", "is_open")]
        parts = [
            (OpenView(*opening), white) for *opening, white in zip(*conditions, noise.to(device).split(12), strict=True)
        ]
        drawn = torch.cat([self.generator.draw(opening, white, STEPS).cpu() for opening, white in parts])
        channels, (autoencoder,) = self._autoencoder[0].channels, self._autoencoder
        pictures = {
            name: autoencoder.decode_images(latents[:, :channels].float())[0].float().clamp(0, 1)
            for name, latents in (("mean", batch["mean"]), ("sample", drawn))
        }
        clips = self._held_out.data.clips
        frames = [self._held_out.frame(pick) for pick in picks]
        truth = torch.cat([as_images(clips.clip(clip, np.array([frame])).rgb) for clip, frame in frames])
        hidden = (~batch["visible"] & batch["still"]).float()
        mask = F.interpolate(hidden, size=truth.shape[-2:], mode="nearest")
        figures = {}
        for name, picture in pictures.items():
            figures[name] = psnr(picture, truth, mask)
            figures[f"{name}_low{BLOCK}"] = psnr(_blocks(picture, mask), _blocks(truth, mask), _share(mask))
        shown = hidden.mean(dim=(1, 2, 3)).argsort(descending=True)[::4][:8].tolist()
        grey = torch.where(mask > 0, 0.5, truth)
        rows: list[tuple[str, list[Pixels]]] = [
            (caption, [as_pixels(images[place]) for place in shown])
            for caption, images in (("truth", truth), ("known", grey), *pictures.items())
        ]
        return figures, rows


def fit(generator: Generator, data: ResidualCache) -> None:
    """Measure how strong residuals are in what is hidden and does not move, and how strong their coarse parts."""
    rng, total, count = np.random.default_rng(0), torch.zeros(()), 0
    picks = [data.draw(rng) for _ in range(SAMPLED)]
    for sample in map(data.sample, picks):
        values = (sample["truth"] - sample["mean"])[:, (~sample["visible"] & sample["still"])[0]]
        total, count = total + values @ values.T, count + values.shape[1]
    generator.fit(total / max(1, count))
    generator.deviations.fill_(1)
    squares, cells = torch.zeros(()), torch.zeros(())
    for sample in map(data.sample, picks):
        hidden = (~sample["visible"] & sample["still"]).expand_as(sample["mean"])[None]
        unmixed = generator.unmixed((sample["truth"] - sample["mean"])[None])
        coarse, counted = generator.coarse_part(unmixed, hidden)
        squares = squares + (coarse.square() * counted).sum(dim=(0, 2, 3))
        cells = cells + counted.sum(dim=(0, 2, 3))
    generator.deviations.copy_((squares / cells.clamp(min=1)).sqrt().clamp(min=1e-3))


def opened(sample: dict[str, Tensor], *, keep_visible: bool) -> dict[str, Tensor]:
    """A sample with 'is_open' (C, h, w) bool: what is not sharp, or nothing that is visible at all."""
    channels, depth = len(sample["mean"]), len(sample["measured"])
    kept = sample["visible"] if keep_visible else sample["sharp"]
    latents = (~kept).expand(channels - depth, -1, -1)
    is_open = torch.cat([latents, ~sample["measured"] & ~(sample["visible"] & keep_visible)])
    return {**sample, "is_open": is_open}


def _cropped(sample: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """A part of a sample around an open cell, if there is one, of whole coarse cells."""
    height, width = sample["is_open"].shape[-2:]
    rows, columns = min(CROP[0], height), min(CROP[1], width)
    places = sample["is_open"][0].nonzero()
    middle = places[int(rng.integers(len(places)))] if len(places) else torch.tensor([height // 2, width // 2])
    top, left = (
        int(np.clip(int(at) - int(rng.integers(side)), 0, whole - side)) // COARSE * COARSE
        for at, side, whole in zip(middle, (rows, columns), (height, width), strict=True)
    )
    return {name: value[..., top : top + rows, left : left + columns] for name, value in sample.items()}


def _share(mask: Tensor) -> Tensor:
    """Blocks of which at least half counts."""
    return (F.avg_pool2d(mask, BLOCK) >= 0.5).float()


def _blocks(images: Tensor, mask: Tensor) -> Tensor:
    """Means of what counts of each block."""
    return F.avg_pool2d(images * mask, BLOCK) / F.avg_pool2d(mask, BLOCK).clamp(min=1e-6)
