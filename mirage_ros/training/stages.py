"""The stages of training the transformer: backbone, then memory branch, then branch and LoRA together.

A sample is a chunk with the context that it has in a rollout: its first frame known, perhaps the frame before it and
past references, and a memory made of one frame, as in the paper, or of several.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.models import log_depth
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.loading import MAX_FILE, save_transformer
from mirage_ros.models.lora import add_lora, has_lora
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.schedule import TRAIN_TIMESTEPS, add_noise, clean_estimate, shift_sigmas
from mirage_ros.models.text import no_text
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.training.latents import SKY_DEPTH
from mirage_ros.training.loop import Rows, Task
from mirage_ros.training.memories import forget, measured, read_sources
from mirage_ros.training.reader import noisy_depth
from mirage_ros.training.windows import Windows
from mirage_ros.world.reading import Reading, branch_input

Stage = Literal["backbone", "branch", "lora", "all"]
STAGES: tuple[Stage, ...] = ("backbone", "branch", "lora", "all")


@dataclass(frozen=True)
class StageSettings:
    """How samples are drawn and weighted.

    Attributes:
        chunks: numbers of latent frames of a chunk, one of which each step draws.
        sources: numbers of source frames of a memory, likewise; the known frame is always one of them.
        memory_dropout: share of samples whose memory shows nothing.
        own_sigma: share of samples in which every frame has a noise level of its own.
        pure_noise: share of the others that start from pure noise, where few-step sampling spends its first step.
        shift: of the noise levels, as in the schedule.
        depth_noise: relative error of the sources' depth, in a third of the samples.
        latent_noise: deviation of an error on the sources' latents, in half of the samples: what is written in a
            rollout is not what a camera saw.
        gradient_checkpointing: recompute blocks in the backward pass: less memory, a third more time.
        least_sigma: errors of a clean estimate are weighted by 1 / sigma squared down to this level.
    """

    chunks: tuple[int, ...] = (3, 5, 9)
    sources: tuple[int, ...] = (1, 1, 2, 3)
    memory_dropout: float = 0.1
    own_sigma: float = 0.2
    pure_noise: float = 0.35
    shift: float = 3.0
    depth_noise: float = 0.02
    latent_noise: float = 0.05
    gradient_checkpointing: bool = False
    least_sigma: float = 0.4


class StageTask(Task):
    """The transformer with its loss.

    Args:
        stage: what is trained: 'backbone' without memory; 'branch', the backbone frozen; 'lora', branch and LoRA;
            'all', backbone and branch.
        model: branch and LoRA are set up as the stage needs them.
        preset: shapes and habits.
        data, held_out: clips.
        reader, autoencoder: finished, frozen.
        settings: how.

    Raises:
        ValueError: there is no such stage.
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
    ) -> None:
        super().__init__()
        if stage not in STAGES:
            raise ValueError(f"stage: expected one of {', '.join(STAGES)}, got {stage!r}")
        self.stage, self.model, self.preset = stage, model, preset
        self.settings = settings or StageSettings()
        self._data, self._held_out = data, held_out
        # In a list, so that they are no part of the module: checkpoints need not hold what does not change.
        self._frozen = [None if reader is None else reader.eval().requires_grad_(False)]
        self._autoencoder = [autoencoder.eval().requires_grad_(False)]
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

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self._data.refresh()

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """A chunk, its context and the source frames of its memory."""
        own, preset = self.settings, self.preset
        stride = self._data.time_stride
        chunk = int(shared.choice(own.chunks))
        sources = int(shared.choice(own.sources))
        preceding = int(shared.integers(0, preset.preceding + 1))
        references = int(shared.integers(0, min(preset.references, sources - 1) + 1))
        index = int(rng.integers(len(self._data)))
        count = self._data.frames(index)
        length, before = (chunk - 1) * stride + 1, preceding * stride
        if length + before > count:
            raise ValueError(f"chunks: expected at most {count} frames, clip {index} has no {length + before}")
        # Every second frame of slow walks, so that views turn away from what was seen.
        most = max(1, (count - 1) // (length + before)) if stride == 1 else 1
        step = int(rng.integers(1, min(most, 2) + 1))
        order = np.arange(count)[:: -1 if stride == 1 and rng.random() < 0.5 else 1]
        start = int(rng.integers(before * step, count - (length - 1) * step))
        targets = order[start + step * np.arange(length)]
        context = order[start - step * stride * np.arange(preceding, 0, -1)] if preceding else order[:0]
        others = np.setdiff1d(order, targets) if len(targets) < count else order
        seen = np.concatenate([targets[:1], rng.choice(others, sources - 1)]).astype(np.int64)
        shown = np.concatenate([targets[::stride], context])
        depth = self._data.depth(index, seen, keep=True)
        source_latents = self._data.latents(index, seen)
        if rng.random() < 1 / 3:
            depth = noisy_depth(depth, own.depth_noise, rng)
        if rng.random() < 0.5:
            noise = rng.standard_normal(source_latents.shape, np.float32)
            source_latents = source_latents + own.latent_noise * torch.from_numpy(noise)
        camera, view = self._data.camera(index, seen), self._data.camera(index, shown)
        past = seen[1 : 1 + references]
        single = self._data.latents(index, np.concatenate([context, past])) if preceding + references else None
        window = self._data.window(index, targets)
        empty = window[:0]
        return {
            "targets": window,
            "preceding": empty if single is None else single[:preceding],
            "references": empty if single is None else single[preceding:],
            "depth": self._data.depth(index, np.concatenate([targets[::stride], context, past]), keep=False),
            "still": torch.isfinite(self._data.depth(index, targets[::stride], keep=True)),
            "source_latents": source_latents,
            "source_depth": depth,
            "source_intrinsics": camera.intrinsics,
            "source_cam2world": camera.cam2world,
            "intrinsics": view.intrinsics,
            "cam2world": view.cam2world,
            "forget": torch.tensor(rng.random() < own.memory_dropout),
        }

    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Loss on the target frames after the known first one, and its parts in what is seen and what is hidden."""
        own = self.settings
        reading = None if self.stage == "backbone" else forget(self.read(batch), batch["forget"])
        targets, preceding, references = self.clean(batch)
        memory = None if reading is None else self.memory(reading)
        sigmas = self._sigmas(len(targets), targets.shape[2], generator).to(targets.device)
        noise = torch.randn(targets.shape, generator=generator, device=targets.device)
        start = targets
        if reading is not None and self.preset.keep_known:
            # In a rollout what the memory shows sharply follows the readout through the noise levels.
            known, fixed = self.known(reading, targets.shape[2])
            start = torch.where(fixed, known, targets)
        level = sigmas[:, None, :, None, None]
        noisy = torch.where(level > 0, add_noise(start, noise, level), targets)
        flow = self.predict(noisy, sigmas, references, preceding, memory)
        if self.model.branch is None or self.model.branch.correction is None:
            error = (flow - (noise - start))[:, :, 1:].square()
        else:
            weight = level.clamp(min=own.least_sigma)[:, :, 1:]
            error = ((clean_estimate(noisy, flow, level) - targets)[:, :, 1:] / weight).square()
        moving = self.moving(batch)[:, :, 1:]
        still = (~moving).float().expand_as(error)
        if reading is None:
            seen = torch.zeros_like(still)
        else:
            seen = reading.visible.transpose(1, 2)[:, :, 1 : targets.shape[2]].expand_as(error)
        losses = {
            "loss": (error * still).sum() / still.sum().clamp(min=1),
            "seen": (error * still * seen).sum() / (still * seen).sum().clamp(min=1),
            "hidden": (error * still * (1 - seen)).sum() / (still * (1 - seen)).sum().clamp(min=1),
        }
        return losses

    def predict(
        self, noisy: Tensor, sigmas: Tensor, references: Tensor, preceding: Tensor, memory: Tensor | None
    ) -> Tensor:
        """Flow (B, C, F, h, w) of the targets, with sigmas (B, F)."""
        sequence = torch.cat([references, noisy, preceding], dim=2)
        first, last = (
            sigmas.new_zeros(len(sigmas), references.shape[2]),
            sigmas.new_zeros(len(sigmas), preceding.shape[2]),
        )
        timesteps = torch.cat([first, sigmas, last], dim=1) * TRAIN_TIMESTEPS
        context = self.model.embed_text(
            no_text(len(noisy), self.preset.text_dim, self.preset.text_tokens, noisy.device)
        )
        flow = self.model(sequence, timesteps, context, memory, references=references.shape[2])
        return flow[:, :, references.shape[2] : references.shape[2] + noisy.shape[2]].float()

    def clean(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Clean targets, preceding frames and references, each (B, C, F, h, w), depth channels included."""
        parts = [batch["targets"], batch["preceding"], batch["references"]]
        if self.preset.depth_channels:
            packed = log_depth.pack(batch["depth"], self.preset.log_depth_mean, self.preset.log_depth_std)
            depths = packed.split([part.shape[1] for part in parts], dim=1)
            parts = [torch.cat([part, depth], dim=2) for part, depth in zip(parts, depths, strict=True)]
        targets, preceding, references = (part.transpose(1, 2).contiguous() for part in parts)
        return targets, preceding, references

    def read(self, batch: dict[str, Tensor]) -> Reading:
        """What the memory shows of targets and preceding frames."""
        height, width = batch["targets"].shape[-2:]
        sources = Camera(batch["source_intrinsics"], batch["source_cam2world"], height, width)
        views = Camera(batch["intrinsics"], batch["cam2world"], height, width)
        rule = self.preset.read_rule if self.preset.read_rule != "unfold" else "nearest"
        return read_sources(batch["source_latents"], batch["source_depth"], sources, views, self._frozen[0], rule)

    def memory(self, reading: Reading) -> Tensor:
        """(B, K, F, h, w) input of the memory branch."""
        if self.model.branch is None:
            raise ValueError("branch: expected a model with a memory branch")
        inputs = tuple(self.model.branch.config["inputs"])
        ones = None
        if "ones" in inputs:
            size = [reading.latents.shape[-2] * self._stride[0], reading.latents.shape[-1] * self._stride[1]]
            ones = self._autoencoder[0].encode(torch.ones(1, 1, 3, *size, device=reading.latents.device))[:, :, 0]
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
        moves = ~batch["still"] & (batch["depth"][:, :frames] < 0.95 * SKY_DEPTH)
        cells = torch.nn.functional.max_pool2d(moves.float().flatten(0, 1).unsqueeze(1), log_depth.FINE)
        return (cells.unflatten(0, moves.shape[:2]) > 0).transpose(1, 2)

    def save(self, folder: Path) -> None:
        """Write transformer/, and branch/ and lora/ as far as the stage has them."""
        if self.stage == "backbone":
            self.model.backbone.save_pretrained(folder / "transformer", max_shard_size=MAX_FILE)
        else:
            save_transformer(self.model, folder)

    def validate(self) -> tuple[dict[str, float], Rows]:
        """Imagined frames of held-out scenes; see `measure_imagination`."""
        from mirage_ros.training.imagination import measure_imagination

        return measure_imagination(self, self._held_out, self._autoencoder[0])

    @property
    def _stride(self) -> tuple[int, int]:
        return self._autoencoder[0].strides[1], self._autoencoder[0].strides[2]

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
