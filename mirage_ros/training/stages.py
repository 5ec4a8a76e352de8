"""The stages of training the transformer: backbone, then memory branch, then branch and LoRA together.

A sample is a chunk with the context that it has in a rollout: its first frame known, perhaps the frame before it and
past references, and a memory made of one frame, as in the paper, or of several.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mirage_ros.geometry import Camera
from mirage_ros.models import log_depth
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.branch_input import pack_frames
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.lora import add_lora, has_lora
from mirage_ros.models.presets import Preset
from mirage_ros.models.public_weights import OnesLatents
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.schedule import TRAIN_TIMESTEPS, add_noise, clean_estimate, shift_sigmas
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import save_part, save_transformer
from mirage_ros.training.chunk_samples import StageSettings, draw_chunk
from mirage_ros.training.decoded_loss import picture_error, true_losses
from mirage_ros.training.latent_windows import Windows
from mirage_ros.training.losses import masked_mean, square_where_seen
from mirage_ros.training.pixel_cache_input import read_pixels
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.rollout_memory import OWN_SOURCES, applies, own_memory
from mirage_ros.training.sample_memory import forget, measured, read_sources
from mirage_ros.training.task import Rows, Task
from mirage_ros.world.reading import Reading, branch_input, has_layout

# Error of normalised latents at which squared and absolute ones count about alike.
LATENT_UNIT = 1.0
Stage = Literal["backbone", "branch", "lora", "all"]
STAGES: tuple[Stage, ...] = ("backbone", "branch", "lora", "all")


class StageTask(Task):
    """The transformer with its loss.

    Args:
        stage: what is trained: 'backbone' without memory; 'branch', the backbone frozen; 'lora', branch and LoRA;
            'all', backbone and branch, and the decoder as far as `StageSettings.decoder` says.
        model: branch and LoRA are set up as the stage needs them.
        preset: shapes and habits.
        data, held_out: clips.
        reader, autoencoder: finished, frozen but for the decoder in the joint stage; see `StageSettings.decoder`.
        settings: how.
        prompts: features of the clips' prompts; for presets with text.

    Raises:
        ValueError: there is no such stage, or a preset with text has no prompts.
    """

    def __init__(
        self,
        stage: Stage,
        model: MirageTransformer,
        preset: Preset,
        data: Windows,
        held_out: Windows,
        reader: UnfoldReader | None,
        autoencoder: Autoencoder,
        settings: StageSettings | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__()
        if stage not in STAGES:
            raise ValueError(f"stage: expected one of {', '.join(STAGES)}, got {stage!r}")
        self.stage, self.model, self.preset = stage, model, preset
        self.settings = settings or StageSettings()
        if stage != "all" or not applies(preset, data, self.settings.chunks):
            # A model that cannot imagine yet has nothing to remember.
            self.settings = replace(self.settings, own_outputs=0.0)
        if not preset.predicts_clean or data.time_stride != 1:
            self.settings = replace(self.settings, picture_weight=0.0)
        if stage != "all" or not self.settings.picture_weight or not isinstance(autoencoder, FrameAutoencoder):
            self.settings = replace(self.settings, decoder=False)
        if stage == "backbone":
            # It remembers nothing.
            self.settings = replace(self.settings, cache="latent")
        self._data, self._held_out = data, held_out
        self._prompts = prompts or Prompts(preset)
        self._learn_prompts()
        # In lists, so that they are no part of the module; see `held`.
        self._frozen = [None if reader is None else reader.eval().requires_grad_(False)]
        self._autoencoder = [autoencoder.eval().requires_grad_(False)]
        self._ones = [OnesLatents(autoencoder)]
        if self.settings.decoder:
            assert isinstance(autoencoder, FrameAutoencoder)
            self.decoder = autoencoder.decoder.requires_grad_(True)
        model.set_gradient_checkpointing(self.settings.gradient_checkpointing)
        model.requires_grad_(False)
        if stage in ("backbone", "all"):
            model.backbone.requires_grad_(True)
        if stage != "backbone" and model.branch is not None:
            model.branch.requires_grad_(True)
        if stage == "lora":
            parameters = (
                [p for n, p in model.backbone.named_parameters() if "lora_" in n]
                if has_lora(model)
                else add_lora(model)
            )
            for parameter in parameters:
                parameter.requires_grad_(True)

    def held(self) -> Sequence[nn.Module]:
        """Autoencoder and reader."""
        return [part for part in (*self._autoencoder, *self._frozen) if part is not None]

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self._data.refresh()
        self._learn_prompts()

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """A chunk, its context and the source frames of its memory."""
        return draw_chunk(self._data, self.preset, self.settings, rng, shared)

    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss on the target frames after the known first one, and its parts in what is seen and what is hidden."""
        own = self.settings
        own_frames = None
        if "earlier" in batch:
            batch, own_frames = own_memory(self, batch, generator)
        remembered = 0 if own_frames is None else OWN_SOURCES
        reading = None if self.stage == "backbone" else forget(self.read(batch, remembered), batch["forget"])
        targets, preceding, references = self.clean(batch)
        if own_frames is not None:
            targets = torch.cat([own_frames[:, :, -1:], targets[:, :, 1:]], dim=2)
            preceding = own_frames[:, :, own_frames.shape[2] - 1 - preceding.shape[2] : -1]
        memory = None if reading is None else self.memory(reading)
        sigmas = self._sigmas(len(targets), targets.shape[2], generator).to(targets.device)
        noise = torch.randn(targets.shape, generator=generator, device=targets.device)
        start, fixed = targets, torch.zeros_like(targets, dtype=torch.bool)
        if reading is not None and self.preset.keep_known:
            # In a rollout what the memory shows sharply follows the readout through the noise levels.
            known, fixed = self.known(reading, targets.shape[2])
            start = torch.where(fixed, known, targets)
        level = sigmas[:, None, :, None, None]
        noisy = torch.where(level > 0, add_noise(start, noise, level), targets)
        prompts = ["" if clip < 0 else self._data.clips.prompt(clip) for clip in batch["clip"].tolist()]
        flow = self.predict(noisy, sigmas, references, preceding, memory, self.context(prompts))
        if reading is None:
            seen = torch.zeros_like(noisy[:, :1, 1:])
        else:
            seen = reading.visible.transpose(1, 2)[:, :, 1 : targets.shape[2]]
        estimate = None
        if self.model.branch is None or self.model.branch.correction is None:
            error = (flow - (noise - start))[:, :, 1:].square()
        else:
            weight = level.clamp(min=own.least_sigma)[:, :, 1:]
            estimate = clean_estimate(noisy, flow, level)
            difference = (estimate - targets)[:, :, 1:] / weight
            error = square_where_seen(difference, seen, LATENT_UNIT) if own.edges else difference.square()
        # What follows the readout anyway is not the network's to get right.
        counted = (~self.moving(batch) & ~fixed)[:, :, 1:].float().expand_as(error)
        losses = {
            "loss": masked_mean(error, counted),
            "seen": masked_mean(error, counted * seen),
            "hidden": masked_mean(error, counted * (1 - seen)),
        }
        if estimate is not None and own.picture_weight > 0:
            cells = torch.cat([torch.ones_like(seen[:, :, :1]), seen], dim=2)
            shown = torch.where(fixed, start, estimate)
            losses["picture"] = picture_error(self._images(), shown, cells, batch, edges=own.edges)
            losses["loss"] = losses["loss"] + own.picture_weight * losses["picture"]
        if own.decoder:
            losses |= true_losses(self._images(), targets, batch)
            losses["loss"] = losses["loss"] + own.picture_weight * losses["true"] + own.depth_weight * losses["depth"]
        return losses

    def predict(
        self,
        noisy: Tensor,
        sigmas: Tensor,
        references: Tensor,
        preceding: Tensor,
        memory: Tensor | None,
        context: Tensor,
    ) -> Tensor:
        """Flow (B, C, F, h, w) of the targets, with sigmas (B, F) and context tokens from `context`."""
        sequence = torch.cat([references, noisy, preceding], dim=2)
        first, last = (
            sigmas.new_zeros(len(sigmas), references.shape[2]),
            sigmas.new_zeros(len(sigmas), preceding.shape[2]),
        )
        timesteps = torch.cat([first, sigmas, last], dim=1) * TRAIN_TIMESTEPS
        flow = self.model(sequence, timesteps, context, memory, references=references.shape[2])
        return flow[:, :, references.shape[2] : references.shape[2] + noisy.shape[2]].float()

    def draw(self, latents: Tensor) -> Tensor:
        """Pictures (B, T, 3, H, W) 0..1 of latents (B, C, F, h, w)."""
        return self._autoencoder[0].decode(latents)

    def encode_again(self, latents: Tensor) -> Tensor:
        """Latents (B, C, F, h, w) after decoding and encoding."""
        return self._autoencoder[0].encode(self.draw(latents))

    def _encode_images(self, images: Tensor) -> Tensor:
        return self._autoencoder[0].encode(images[:, None])[:, :, 0]

    def _images(self) -> FrameAutoencoder:
        autoencoder = self._autoencoder[0]
        assert isinstance(autoencoder, FrameAutoencoder)
        return autoencoder

    def context(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, D) context tokens of prompts; those of no text for presets without."""
        return self.model.embed_text(self._prompts.features(prompts, self.model.device))

    def clean(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Clean targets, preceding frames and references, each (B, C, F, h, w), depth channels included."""
        parts = [batch["targets"], batch["preceding"], batch["references"]]
        if self.preset.depth_channels:
            packed = pack_frames(batch["depth"], self.preset.log_depth_mean, self.preset.log_depth_std)
            depths = packed.split([part.shape[1] for part in parts], dim=1)
            parts = [torch.cat([part, depth], dim=2) for part, depth in zip(parts, depths, strict=True)]
        targets, preceding, references = (part.transpose(1, 2).contiguous() for part in parts)
        return targets, preceding, references

    def read(self, batch: dict[str, Tensor], own: int = 0) -> Reading:
        """What the memory shows of targets and preceding frames; its last `own` source frames were imagined."""
        height, width = batch["targets"].shape[-2:]
        views = Camera(batch["intrinsics"], batch["cam2world"], height, width)
        branch = self.model.branch
        room = branch is not None and has_layout(tuple(branch.config["inputs"]))
        if self.settings.cache == "rgb":
            return read_pixels(batch, views, self._encode_images, with_room=room)
        sources = Camera(batch["source_intrinsics"], batch["source_cam2world"], height, width)
        rule = self.preset.read_rule if self.preset.read_rule != "unfold" else "nearest"
        latents, depth = batch["source_latents"], batch["source_depth"]
        observed = latents.shape[1] - own if self.preset.observed_first else None
        held = batch["source_held"]
        return read_sources(latents, depth, sources, views, self._frozen[0], rule, observed, held=held, with_room=room)

    def memory(self, reading: Reading) -> Tensor:
        """(B, K, F, h, w) input of the memory branch."""
        if self.model.branch is None:
            raise ValueError("branch: expected a model with a memory branch")
        inputs = tuple(self.model.branch.config["inputs"])
        ones = None
        if "ones" in inputs:
            frames, _, height, width = reading.latents.shape[1:]
            ones = self._ones[0](frames, height, width, reading.latents.device)
        # Matrix products of poses in bfloat16 would be no poses any more.
        with torch.autocast(reading.latents.device.type, enabled=False):
            return branch_input(inputs, reading, reading.camera.cam2world[:, 0], self.preset, ones)

    def known(self, reading: Reading, frames: int) -> tuple[Tensor, Tensor]:
        """Latents (B, C, F, h, w) of the readout, depth channels included, and where a rollout keeps them."""
        latents, sharp = reading.latents, reading.sharp
        fixed = sharp.expand_as(latents)
        if self.preset.depth_channels:
            depth = log_depth.pack(reading.fine_depth, self.preset.log_depth_mean, self.preset.log_depth_std)
            latents = torch.cat([latents, depth], dim=2)
            fixed = torch.cat([fixed, measured(reading) & sharp], dim=2)
        return latents.transpose(1, 2)[:, :, :frames], fixed.transpose(1, 2)[:, :, :frames]

    @staticmethod
    def moving(batch: dict[str, Tensor]) -> Tensor:
        """(B, 1, F, h, w) bool: cells with something that moves, which no memory can foresee."""
        frames = batch["targets"].shape[1]
        moves = ~batch["still"] & (batch["depth"][:, :frames] < log_depth.SKY_FROM)
        cells = torch.nn.functional.max_pool2d(moves.float().flatten(0, 1).unsqueeze(1), log_depth.FINE)
        return (cells.unflatten(0, moves.shape[:2]) > 0).transpose(1, 2)

    def save(self, folder: Path) -> None:
        """Write transformer/, and branch/, lora/ and vae/ as far as the stage trains them."""
        if self.stage == "backbone":
            save_part(self.model.backbone, folder / "transformer")
        else:
            save_transformer(self.model, folder)
        if self.settings.decoder:
            self._images().save_pretrained(folder / "vae")

    def validate(self) -> tuple[dict[str, float], Rows]:
        """Imagined frames of held-out scenes; see `measure_imagination`."""
        from mirage_ros.training.measure_chunks import measure_imagination

        return measure_imagination(self, self._held_out, self._autoencoder[0])

    def _learn_prompts(self) -> None:
        known = [data.clips.prompt(index) for data in (self._data, self._held_out) for index in range(len(data.clips))]
        self._prompts.learn(["", *known])

    def _sigmas(self, batch: int, frames: int, generator: torch.Generator) -> Tensor:
        """(B, F) noise levels, zero for the known first frame."""
        own, device = self.settings, generator.device

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=generator, device=device)

        level = shift_sigmas(uniform(batch, 1), own.shift)
        level = torch.where(uniform(batch, 1) < own.pure_noise, 1.0, level).expand(-1, frames)
        each = shift_sigmas(uniform(batch, frames), own.shift)
        sigmas = torch.where(uniform(batch, 1) < own.own_sigma, each, level).clamp(min=1e-3)
        return torch.cat([torch.zeros_like(sigmas[:, :1]), sigmas[:, 1:]], dim=1)
