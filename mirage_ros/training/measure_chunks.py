"""How well chunks of held-out scenes are imagined, in what the memory shows and in what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from mirage_ros.media import Pixels
from mirage_ros.models import log_depth
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.schedule import make_scheduler
from mirage_ros.training.chunk_samples import chunk_sample
from mirage_ros.training.correspondence import shared_by
from mirage_ros.training.latent_windows import Windows
from mirage_ros.training.losses import psnr
from mirage_ros.training.pictures import as_images, as_pixels
from mirage_ros.training.task import Rows
from mirage_ros.world.denoise import Conditions, denoise, draw_noise
from mirage_ros.world.reading import Reading

if TYPE_CHECKING:
    from mirage_ros.training.stages import StageTask


@torch.no_grad()
def imagine_chunk(
    task: StageTask,
    batch: dict[str, Tensor],
    steps: int | None = None,
    seed: int = 0,
    prompts: Sequence[str] | None = None,
    reading: Reading | None = None,
) -> Tensor:
    """Clean latents (B, C, F, h, w) of a batch from `chunk_sample`, sampled as in a rollout.

    Args:
        task: with the model.
        batch: chunks, whose first frame is known.
        steps: of the sampler; the preset's by default.
        seed: of the noise.
        prompts: one for each chunk; none by default.
        reading: of the memory; the batch's sources are read by default.
    """
    targets, preceding, references = task.clean(batch)
    memory = None
    known, fixed = targets, torch.zeros_like(targets, dtype=torch.bool)
    if task.stage != "backbone":
        reading = task.read(batch) if reading is None else reading
        memory = task.memory(reading)
        if task.preset.keep_known:
            known, fixed = task.known(reading, targets.shape[2])
    known = torch.cat([targets[:, :, :1], known[:, :, 1:]], dim=2)
    fixed = torch.cat([torch.ones_like(fixed[:, :, :1]), fixed[:, :, 1:]], dim=2)
    context = task.context(prompts or [""] * len(targets))
    noise = draw_noise(tuple(targets.shape), seed, 0, targets.device)
    conditions = Conditions(references, preceding, memory, known, fixed, context, 1)
    return denoise(task.model, make_scheduler(task.preset.schedule, steps), noise, conditions)


@torch.no_grad()
def measure_imagination(
    task: StageTask, data: Windows, autoencoder: Autoencoder, clips: int = 12, steps: int | None = None
) -> tuple[dict[str, float], Rows]:
    """Imagine the first chunk of clips out of their first frame.

    Args:
        task: with the weights to measure.
        data: scenes never trained on.
        autoencoder: that draws the latents.
        clips: how many, evenly spread.
        steps: of the sampler; the preset's by default.

    Returns:
        PSNR in dB over the frames after the first, without what moves: 'whole', 'visible' and 'hidden' of imagined
        frames, by true depth what the first frame saw and what not (neither is sky); 'readout' and 'readout_visible' of
        the readout decoded without a model, 'copied' of the first frame copied, 'bound' of the autoencoder;
        'hidden_share' of pixels; 'depth_visible' and 'depth_hidden' AbsRel, by what the memory shows.
    """
    channels = autoencoder.channels
    chunk = (task.preset.chunk_frames - 1) // data.time_stride + 1
    kept: dict[str, list[Tensor]] = {name: [] for name in ("truth", "imagined", "readout", "copied", "bound")}
    seen_masks: list[Tensor] = []
    still_masks: list[Tensor] = []
    known_masks: list[Tensor] = []
    errors: dict[str, list[float]] = {"visible": [], "hidden": []}
    rows: list[list[list[Pixels]]] = []
    for index in np.linspace(0, len(data) - 1, min(clips, len(data))).round().astype(int).tolist():
        pixels = task.settings.cache == "rgb"
        collated = default_collate([chunk_sample(data, index, chunk, task.preset, pixels=pixels)])
        batch = {name: value.to(task.model.device) for name, value in collated.items()}
        latents = imagine_chunk(task, batch, steps, prompts=[data.clips.prompt(index)])
        reading = task.read(batch)
        clip = data.clips.clip(index, collated["frames"][0].numpy())
        truth = as_images(clip.rgb)[1:]
        size = truth.shape[-2:]
        readout = torch.cat([batch["targets"].transpose(1, 2)[:, :, :1], reading.latents.transpose(1, 2)[:, :, 1:]], 2)
        decoded = [autoencoder.decode(part)[0, 1:].cpu() for part in (latents[:, :channels], readout)]
        shown = _per_frame(F.interpolate(reading.visible[0], size=size, mode="nearest"), data.time_stride).cpu()
        # Nothing is drawn where the memory shows nothing.
        drawn = torch.where(shown > 0, decoded[1], 0.5)
        kept["truth"].append(truth)
        kept["imagined"].append(decoded[0])
        kept["readout"].append(drawn)
        kept["copied"].append(as_images(clip.rgb)[:1].expand_as(truth))
        kept["bound"].append(autoencoder.decode(batch["targets"].transpose(1, 2))[0, 1:].cpu())
        known_masks.append(torch.from_numpy(clip.keep[1:]).float().unsqueeze(1))
        seen_masks.append(shared_by(clip, range(1, len(clip)), [0]).float().unsqueeze(1))
        still_masks.append(torch.from_numpy(clip.labels[1:] != 1).float().unsqueeze(1))
        if task.preset.depth_channels:
            _depth_errors(task, latents[:, channels:], batch, reading.visible[0], errors)
        if len(rows) < 4:
            picks = (len(truth) // 2 - 1, len(truth) - 1)
            rows.append([[as_pixels(kept[name][-1][i]) for i in picks] for name in ("truth", "readout", "imagined")])
    still, seen, known = torch.cat(still_masks), torch.cat(seen_masks), torch.cat(known_masks)
    stacked = {name: torch.cat(parts) for name, parts in kept.items()}
    figures = {
        "whole": psnr(stacked["imagined"], stacked["truth"], still),
        "visible": psnr(stacked["imagined"], stacked["truth"], still * seen),
        "hidden": psnr(stacked["imagined"], stacked["truth"], known * (1 - seen)),
        "readout": psnr(stacked["readout"], stacked["truth"], still),
        "readout_visible": psnr(stacked["readout"], stacked["truth"], still * seen),
        "copied": psnr(stacked["copied"], stacked["truth"], still),
        "bound": psnr(stacked["bound"], stacked["truth"], still),
        "hidden_share": float(1 - seen.sum() / known.sum()),
    }
    figures |= {f"depth_{name}": float(np.mean(values)) for name, values in errors.items() if values}
    captions = ("truth", "readout, grey where the memory shows nothing", "imagined")
    return figures, [(caption, [picture for row in rows for picture in row[i]]) for i, caption in enumerate(captions)]


def _per_frame(values: Tensor, stride: int) -> Tensor:
    """Values of latent frames for each frame after the first."""
    return values[1:].repeat_interleave(stride, dim=0)


def _depth_errors(
    task: StageTask, channels: Tensor, batch: dict[str, Tensor], visible: Tensor, errors: dict[str, list[float]]
) -> None:
    preset = task.preset
    depth = log_depth.unpack(channels[0].transpose(0, 1), preset.log_depth_mean, preset.log_depth_std)[1:]
    truth = batch["depth"][0, 1 : 1 + len(depth)]
    known = batch["still"][0, 1:] & (truth > 0) & (truth < log_depth.SKY_FROM)
    seen = F.interpolate(visible[1:], size=depth.shape[-2:], mode="nearest").squeeze(1) > 0
    relative = (depth / truth.clamp(min=1e-3) - 1).abs()
    for name, where in (("visible", known & seen), ("hidden", known & ~seen)):
        if where.any():
            errors[name].append(float(relative[where].mean()))
