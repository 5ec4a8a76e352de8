"""The transformer with all that conditions it, for batches of chunks: their memory read, their frames imagined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.models import log_depth
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.branch_input import pack_frames
from mirage_ros.models.presets import Preset
from mirage_ros.models.public_weights import OnesLatents
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.schedule import TRAIN_TIMESTEPS, make_scheduler
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.sample_memory import measured, read_sources
from mirage_ros.world.denoise import Conditions, denoise, draw_noise
from mirage_ros.world.reading import Reading, branch_input, has_layout


class ChunkModel:
    """A world model for batches of chunks as `chunk_samples` gives them, with gradients where they are asked for.

    Args:
        reader, autoencoder: finished; without a reader whole tokens are read.
        prompts: features of the clips' prompts.
        remembers: whether the model is given a memory.
    """

    def __init__(
        self,
        model: MirageTransformer,
        preset: Preset,
        reader: UnfoldReader | None,
        autoencoder: Autoencoder,
        prompts: Prompts,
        remembers: bool = True,
    ) -> None:
        self.model, self.preset, self.prompts, self.remembers = model, preset, prompts, remembers
        self.reader = None if reader is None else reader.eval().requires_grad_(False)
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        self._ones = OnesLatents(autoencoder)

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
        sources = Camera(batch["source_intrinsics"], batch["source_cam2world"], height, width)
        branch, preset, latents = self.model.branch, self.preset, batch["source_latents"]
        return read_sources(
            latents,
            batch["source_depth"],
            sources,
            views,
            self.reader,
            preset.read_rule if preset.read_rule != "unfold" else "nearest",
            latents.shape[1] - own if preset.observed_first else None,
            held=batch["source_held"],
            with_room=branch is not None and has_layout(tuple(branch.config["inputs"])),
        )

    def memory(self, reading: Reading) -> Tensor:
        """(B, K, F, h, w) input of the memory branch."""
        assert self.model.branch is not None
        inputs = tuple(self.model.branch.config["inputs"])
        ones = None
        if "ones" in inputs:
            frames, _, height, width = reading.latents.shape[1:]
            ones = self._ones(frames, height, width, reading.latents.device)
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

    def context(self, prompts: Sequence[str]) -> Tensor:
        """(B, L, D) context tokens of prompts; those of no text for presets without."""
        return self.model.embed_text(self.prompts.features(prompts, self.model.device))

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
        before, frames = references.shape[2], noisy.shape[2]
        zeros = [sigmas.new_zeros(len(sigmas), part.shape[2]) for part in (references, preceding)]
        timesteps = torch.cat([zeros[0], sigmas, zeros[1]], dim=1) * TRAIN_TIMESTEPS
        flow = self.model(sequence, timesteps, context, memory, references=before)
        return flow[:, :, before : before + frames].float()

    @torch.no_grad()
    def imagine(
        self,
        batch: dict[str, Tensor],
        steps: int | None = None,
        seed: int = 0,
        prompts: Sequence[str] | None = None,
        reading: Reading | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Clean latents (B, C, F, h, w) of chunks whose first frame is known, sampled as in a rollout.

        Args:
            steps: of the sampler; the preset's by default.
            prompts: one for each chunk; none by default.
            reading: of the memory; the batch's sources are read by default.
            noise: (B, C, F, h, w) to begin with; that of the seed by default.
        """
        targets, preceding, references = self.clean(batch)
        memory = None
        known, fixed = targets, torch.zeros_like(targets, dtype=torch.bool)
        hidden = ~fixed[:, :1]
        if self.remembers:
            reading = self.read(batch) if reading is None else reading
            hidden = reading.visible.transpose(1, 2)[:, :, : targets.shape[2]] <= 0
            memory = self.memory(reading)
            if self.preset.keep_known:
                known, fixed = self.known(reading, targets.shape[2])
        known = torch.cat([targets[:, :, :1], known[:, :, 1:]], dim=2)
        fixed = torch.cat([torch.ones_like(fixed[:, :, :1]), fixed[:, :, 1:]], dim=2)
        noise = draw_noise(tuple(targets.shape), seed, 0, targets.device) if noise is None else noise
        context = self.context(prompts or [""] * len(targets))
        conditions = Conditions(references, preceding, memory, known, fixed, hidden, context, 1)
        return denoise(self.model, make_scheduler(self.preset.schedule, steps), noise, conditions)
