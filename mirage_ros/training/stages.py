"""The stages of training the transformer: backbone, then memory branch, then branch and LoRA, or all of it together.

The last, for presets that sample in many steps, makes few of them enough: the branch and LoRA learn the straight flow
from noise to what the model as it was makes of this noise in its whole schedule (reflow, Liu et al., arXiv 2209.03003;
for large models InstaFlow, arXiv 2309.06380). On straight paths one step of Euler's method goes as far as twenty.

A sample is a chunk with the context that it has in a rollout: its first frame known, perhaps the frame before it and
past references, and a memory made of one frame, as in the paper, or of several. What is minimised: `stage_losses`.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.lora import add_lora, has_lora
from mirage_ros.models.network_files import save_part
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.schedule import FEW_STEPS
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import save_transformer
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.chunk_samples import StageSettings, draw_chunk
from mirage_ros.training.latent_cache import ClipLatents
from mirage_ros.training.measure_chunks import measure_imagination
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.rollout_memory import OWN_SOURCES, applies, own_memory
from mirage_ros.training.sample_memory import forget
from mirage_ros.training.stage_losses import NoisyChunk, draw_sigmas, few_step_sigmas, stage_losses
from mirage_ros.training.task import Rows, TrainingTask

Stage = Literal["backbone", "branch", "lora", "all", "distil"]


class StageTask(TrainingTask):
    """The transformer with its loss.

    Args:
        stage: what is trained: 'backbone' without memory; 'branch', the backbone frozen; 'lora', branch and LoRA;
            'all', backbone and branch, and the decoder as far as `StageSettings.decoder` says; 'distil', branch and
            LoRA, to do in few steps what the model as it is given does in the preset's.
        model: branch and LoRA are set up as the stage needs them.
        reader, autoencoder: finished, frozen but for the decoder in the joint stage; see `StageSettings.decoder`.
        prompts: features of the clips' prompts; for presets with text.

    Raises:
        ValueError: a preset with text has no prompts, or a clip one that its file of features does not hold, or one
            of a single step is to be distilled.
    """

    def __init__(
        self,
        stage: Stage,
        model: MirageTransformer,
        preset: Preset,
        data: ClipLatents,
        held_out: ClipLatents,
        reader: UnfoldReader | None,
        autoencoder: Autoencoder,
        settings: StageSettings | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        super().__init__()
        self.stage, self.model, self._data, self._held_out = stage, model, data, held_out
        self.settings = settings or StageSettings()
        if stage != "all" or not applies(preset, data, self.settings.chunks):
            # A model that cannot imagine yet has nothing to remember.
            self.settings = replace(self.settings, own_outputs=0.0)
        # No module, so that what is frozen is no part of the task; see `held`.
        remembers = stage != "backbone"
        self.chunks = ChunkModel(model, preset, reader, autoencoder, prompts or Prompts(preset), remembers)
        if self._images is None or not preset.predicts_clean or data.time_stride != 1:
            self.settings = replace(self.settings, picture_weight=0.0)
        if stage != "all" or not self.settings.picture_weight:
            self.settings = replace(self.settings, decoder=False)
        if self.settings.decoder and self._images is not None:
            self.decoder = self._images.decoder.requires_grad_(True)
        model.set_gradient_checkpointing(self.settings.gradient_checkpointing)
        model.requires_grad_(False)
        if stage in ("backbone", "all"):
            model.backbone.requires_grad_(True)
        if stage != "backbone" and model.branch is not None:
            model.branch.requires_grad_(True)
        if stage in ("lora", "distil"):
            named = [parameter for name, parameter in model.backbone.named_parameters() if "lora_" in name]
            for parameter in named if has_lora(model) else add_lora(model):
                parameter.requires_grad_(True)
        self.teacher: ChunkModel | None = None
        if stage == "distil":
            if preset.schedule.steps == 1:
                raise ValueError(f"preset: expected one of several steps to distil, {preset.name!r} takes one already")
            # What is frozen is shared with the student, and so is in memory once.
            shared = {id(parameter): parameter for parameter in model.parameters() if not parameter.requires_grad}
            before = copy.deepcopy(model, shared).eval().requires_grad_(False)
            self.teacher = ChunkModel(before, preset, reader, autoencoder, self.chunks.prompts)
            self.chunks.preset = replace(preset, schedule=FEW_STEPS)
        self._learn_prompts()

    @property
    def _images(self) -> FrameAutoencoder | None:
        """The autoencoder, if it is one of single frames."""
        autoencoder = self.chunks.autoencoder
        return autoencoder if isinstance(autoencoder, FrameAutoencoder) else None

    def held(self) -> Sequence[nn.Module]:
        """Autoencoder and reader, and the teacher."""
        teacher = None if self.teacher is None else self.teacher.model
        return [part for part in (self.chunks.autoencoder, self.chunks.reader, teacher) if part is not None]

    def refresh(self) -> None:
        """Take in clips that were rendered since, but none whose prompt is not in a file of features."""
        self._data.refresh(self.chunks.prompts.takes)
        self._learn_prompts()

    def _learn_prompts(self) -> None:
        clips = (self._data.clips, self._held_out.clips)
        self.chunks.prompts.learn(["", *(part.prompt(index) for part in clips for index in range(len(part)))])

    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """A chunk, its context and the source frames of its memory."""
        return draw_chunk(self._data, self.chunks.preset, self.settings, rng, shared)

    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """See `stage_losses`."""
        chunks, own_frames = self.chunks, None
        if "earlier" in batch:
            batch, own_frames = own_memory(chunks, batch, generator)
        remembered = 0 if own_frames is None else OWN_SOURCES
        reading = forget(chunks.read(batch, remembered), batch["forget"]) if chunks.remembers else None
        targets, preceding, references = chunks.clean(batch)
        if own_frames is not None:
            targets = torch.cat([own_frames[:, :, -1:], targets[:, :, 1:]], dim=2)
            preceding = own_frames[:, :, own_frames.shape[2] - 1 - preceding.shape[2] : -1]
        shape = (len(targets), targets.shape[2])
        if self.teacher is None:
            sigmas = draw_sigmas(*shape, self.settings, generator)
        else:
            sigmas = few_step_sigmas(*shape, generator)
        noise = torch.randn(targets.shape, generator=generator, device=targets.device)
        prompts = ["" if clip < 0 else self._data.clips.prompt(clip) for clip in batch["clip"].tolist()]
        if self.teacher is not None:
            targets = self.teacher.imagine(batch, prompts=prompts, reading=reading, noise=noise)
            # Whatever it imagines can be foreseen.
            batch = {**batch, "still": torch.ones_like(batch["still"])}
        start, fixed = targets, torch.zeros_like(targets, dtype=torch.bool)
        memory, seen = None, torch.zeros_like(targets[:, :1, 1:])
        if reading is not None:
            memory = chunks.memory(reading)
            seen = reading.visible.transpose(1, 2)[:, :, 1 : targets.shape[2]]
            if chunks.preset.keep_known:
                # In a rollout what the memory shows sharply follows the readout through the noise levels.
                known, fixed = chunks.known(reading, targets.shape[2])
                start = torch.where(fixed, known, targets)
        chunk = NoisyChunk(targets, start, fixed, noise, sigmas[:, None, :, None, None])
        flow = chunks.predict(chunk.noisy, sigmas, references, preceding, memory, chunks.context(prompts))
        corrects = self.model.estimates_clean
        return stage_losses(flow, chunk, seen, batch, self.settings, corrects=corrects, autoencoder=self._images)

    def save(self, folder: Path) -> None:
        """Write transformer/, and branch/, lora/ and vae/ as far as the stage trains them."""
        if self.stage == "backbone":
            save_part(self.model.backbone, folder / "transformer")
        else:
            save_transformer(self.model, folder)
        if self.settings.decoder and self._images is not None:
            self._images.save_pretrained(folder / "vae")
        if self.teacher is not None:
            self.chunks.preset.schedule.save(folder)

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the parts; the joint stage leaves no LoRA, which is in the backbone now."""
        self.save(folder)
        if self.stage == "all":
            shutil.rmtree(folder / "lora", ignore_errors=True)
        return {}

    def validate(self) -> tuple[dict[str, float], Rows]:
        """Imagined frames of held-out scenes; see `measure_imagination`."""
        return measure_imagination(self.chunks, self._held_out)
