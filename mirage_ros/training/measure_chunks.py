"""How well chunks of held-out scenes are imagined, in what the memory shows and in what it does not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import default_collate

from mirage_ros.images import as_images, as_pixels
from mirage_ros.media import Pixels
from mirage_ros.models import log_depth
from mirage_ros.models.presets import Preset
from mirage_ros.recordings.clips import MOVING
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.chunk_samples import chunk_sample
from mirage_ros.training.correspondence import shared_by
from mirage_ros.training.latent_cache import ClipLatents
from mirage_ros.training.losses import psnr
from mirage_ros.training.task import Rows


@torch.no_grad()
def measure_imagination(
    chunks: ChunkModel, data: ClipLatents, clips: int = 12, steps: int | None = None
) -> tuple[dict[str, float], Rows]:
    """Imagine the first chunk of clips out of their first frame.

    Returns:
        PSNR in dB over the frames after the first, without what moves: 'whole', 'visible' and 'hidden' of imagined
        frames, by true depth what the first frame saw and what not (neither is sky); 'readout' and 'readout_visible' of
        the readout decoded without a model, 'copied' of the first frame copied, 'bound' of the autoencoder;
        'hidden_share' of pixels; 'depth_visible' and 'depth_hidden' AbsRel, by what the memory shows.
    """
    autoencoder, preset = chunks.autoencoder, chunks.preset
    channels, stride = autoencoder.channels, data.time_stride
    kept: dict[str, list[Tensor]] = {
        name: [] for name in ("truth", "imagined", "readout", "copied", "bound", "still", "seen", "known")
    }
    errors: dict[str, list[float]] = {"visible": [], "hidden": []}
    rows: list[list[list[Pixels]]] = []
    for index in data.clips.evenly(clips):
        collated = default_collate([chunk_sample(data, index, (preset.chunk_frames - 1) // stride + 1, preset)])
        batch = {name: value.to(chunks.model.device) for name, value in collated.items()}
        latents = chunks.imagine(batch, steps, prompts=[data.clips.prompt(index)])
        reading, targets = chunks.read(batch), batch["targets"].transpose(1, 2)
        clip = data.clips.clip(index, collated["frames"][0].numpy())
        images = as_images(clip.rgb)
        truth = images[1:]
        readout = torch.cat([targets[:, :, :1], reading.latents.transpose(1, 2)[:, :, 1:]], 2)
        imagined, decoded, bound = (
            autoencoder.decode(part)[0, 1:].cpu() for part in (latents[:, :channels], readout, targets)
        )
        cells = F.interpolate(reading.visible[0], size=truth.shape[-2:], mode="nearest")
        # Of latent frames for each frame after the first.
        shown = cells[1:].repeat_interleave(stride, dim=0).cpu()
        values = {
            "truth": truth,
            "imagined": imagined,
            # Nothing is drawn where the memory shows nothing.
            "readout": torch.where(shown > 0, decoded, 0.5),
            "copied": images[:1].expand_as(truth),
            "bound": bound,
            "still": torch.from_numpy(clip.labels[1:] != MOVING).float().unsqueeze(1),
            "seen": shared_by(clip, range(1, len(clip)), [0]).float().unsqueeze(1),
            "known": torch.from_numpy(clip.keep[1:]).float().unsqueeze(1),
        }
        for name, value in values.items():
            kept[name].append(value)
        if preset.depth_channels:
            for name, error in _depth_errors(preset, latents[:, channels:], batch, reading.visible[0]).items():
                errors[name].append(error)
        if len(rows) < 4:
            picks = (len(truth) // 2 - 1, len(truth) - 1)
            rows.append([[as_pixels(values[name][i]) for i in picks] for name in ("truth", "readout", "imagined")])
    all_of = {name: torch.cat(parts) for name, parts in kept.items()}
    still, seen, known = all_of["still"], all_of["seen"], all_of["known"]

    def figure(name: str, mask: Tensor) -> float:
        return psnr(all_of[name], all_of["truth"], mask)

    figures = {
        "whole": figure("imagined", still),
        "visible": figure("imagined", still * seen),
        "hidden": figure("imagined", known * (1 - seen)),
        "readout": figure("readout", still),
        "readout_visible": figure("readout", still * seen),
        "copied": figure("copied", still),
        "bound": figure("bound", still),
        "hidden_share": float(1 - seen.sum() / known.sum()),
    }
    figures |= {f"depth_{name}": float(np.mean(values)) for name, values in errors.items() if values}
    captions = ("truth", "readout, grey where the memory shows nothing", "imagined")
    return figures, [(caption, [picture for row in rows for picture in row[i]]) for i, caption in enumerate(captions)]


def _depth_errors(preset: Preset, channels: Tensor, batch: dict[str, Tensor], visible: Tensor) -> dict[str, float]:
    """AbsRel of imagined depth where the memory shows something and where not, as far as there is such a place."""
    depth = log_depth.unpack(channels[0].transpose(0, 1), preset.log_depth_mean, preset.log_depth_std)[1:]
    truth = batch["depth"][0, 1 : 1 + len(depth)]
    known = batch["still"][0, 1:] & (truth > 0) & (truth < log_depth.SKY_FROM)
    seen = F.interpolate(visible[1:], size=depth.shape[-2:], mode="nearest").squeeze(1) > 0
    relative = (depth / truth.clamp(min=1e-3) - 1).abs()
    places = {"visible": known & seen, "hidden": known & ~seen}
    return {name: float(relative[where].mean()) for name, where in places.items() if where.any()}
