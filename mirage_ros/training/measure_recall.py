"""A place that several frames show: what a memory of all of them tells of views in between."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.recordings.clips import STATIC
from mirage_ros.training.correspondence import shared_by
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.losses import psnr
from mirage_ros.training.pictures import as_images
from mirage_ros.world.networks import new_memory
from mirage_ros.world.reading import read_views
from mirage_ros.world.unfolding import Unfolder


@torch.no_grad()
def measure_recall(
    reader: UnfoldReader,
    autoencoder: FrameAutoencoder,
    data: LatentCache,
    preset: Preset,
    clips: int = 24,
    every: int = 4,
) -> dict[str, float]:
    """Write every few frames of a walk, as a camera would, and read a frame between each two of them.

    Args:
        reader, autoencoder: in evaluation mode.
        data: scenes never trained on; clips of more than `every` frames.
        preset: how a memory is written and read.
        clips: how many, evenly spread.
        every: frames from one that is written to the next, at least two.

    Returns:
        PSNR in dB on static pixels that a written frame sees too and both caches show: 'latent', 'rgb' of coloured
        points (splat, fill, encode, decode) and 'bound' of decode(encode(truth)); 'latent_kib' and 'rgb_kib', buffers
        of the caches, each of which keeps of a frame what it does not hold yet.

    Raises:
        ValueError: no frame lies between two that are written.
    """
    if every < 2:
        raise ValueError(f"every: expected at least 2 frames, got {every}")
    device = reader.output.weight.device
    unfolder = Unfolder(reader)
    drawn: dict[str, list[Tensor]] = {name: [] for name in ("latent", "rgb", "bound")}
    held: dict[str, list[int]] = {"latent_kib": [], "rgb_kib": []}
    truth: list[Tensor] = []
    masks: list[Tensor] = []
    for index in np.linspace(0, len(data) - 1, min(clips, len(data))).round().astype(int).tolist():
        written = np.arange(0, data.frames(index), every)
        asked = written[:-1] + every // 2
        if not len(asked):
            raise ValueError(f"every: expected less than the {data.frames(index)} frames of a clip, got {every}")
        walk = data.clips.clip(index, np.concatenate([asked, written]))
        clip, shown = walk[: len(asked)], walk[len(asked) :]
        metres, keep, rgb = (torch.from_numpy(part).to(device) for part in (shown.depth, shown.keep, shown.rgb))
        memory = new_memory(preset, autoencoder.channels, device)
        depth = data.depth(index, written, keep=True, factor=preset.depth_samples).to(device)
        memory.write(data.latents(index, written).to(device), depth, data.camera(index, written).to(device))
        points = RgbMemory(autoencoder.encode_images, autoencoder.strides[1], device)
        points.write(None, metres, shown.camera.to(device), keep, colour=rgb)
        views = data.camera(index, asked).to(device)
        # View by view, since each has a limit of source frames.
        readings = [read_views(memory, views[i : i + 1], preset, unfolder) for i in range(len(asked))]
        cached = points.read(views)
        parts = {
            "latent": torch.cat([reading.latents for reading in readings]),
            "rgb": cached.latents,
            "bound": data.latents(index, asked).to(device),
        }
        for name, latents in parts.items():
            drawn[name].append(autoencoder.decode_images(latents)[0].float().cpu())
        truth.append(as_images(clip.rgb))
        both = torch.cat([reading.visible for reading in readings]) * cached.visible
        both = F.interpolate(both.cpu(), size=truth[-1].shape[-2:], mode="nearest")
        seen = shared_by(walk, range(len(asked)), range(len(asked), len(walk))).unsqueeze(1)
        masks.append(both * seen * torch.from_numpy(clip.labels == STATIC).unsqueeze(1))
        held["latent_kib"].append(memory.nbytes)
        held["rgb_kib"].append(points.nbytes)
    mask, target = torch.cat(masks), torch.cat(truth)
    figures = {name: psnr(torch.cat(pictures), target, mask) for name, pictures in drawn.items()}
    return figures | {name: float(np.mean(sizes)) / 1024 for name, sizes in held.items()}
