"""A place that several frames show: what a memory of all of them tells of views in between."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.rgb import RgbMemory
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.training.clips import STATIC
from mirage_ros.training.correspondence import shared_by
from mirage_ros.training.latents import LatentCache
from mirage_ros.training.losses import psnr
from mirage_ros.training.pictures import as_images
from mirage_ros.world.parts import write_rules
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
    """Write every few frames of a walk, as a camera would, and read the frames half-way between them.

    A latent memory writes of each frame what it does not hold yet; a pixel cache keeps every pixel of all.

    Args:
        reader, autoencoder: in evaluation mode.
        data: scenes never trained on.
        preset: how a memory is written and read.
        clips: how many, evenly spread.
        every: frames from one that is written to the next.

    Returns:
        PSNR in dB on static pixels that a written frame sees too and both caches show: 'latent', 'rgb' (splat, fill,
        encode, decode) and 'bound' of decode(encode(truth)); 'latent_kib' and 'rgb_kib', what the caches hold.
    """
    device = reader.output.weight.device
    unfolder = Unfolder(reader)
    drawn: dict[str, list[Tensor]] = {name: [] for name in ("latent", "rgb", "bound")}
    held: dict[str, list[int]] = {"latent_kib": [], "rgb_kib": []}
    truth: list[Tensor] = []
    masks: list[Tensor] = []
    for index in np.linspace(0, len(data) - 1, min(clips, len(data))).round().astype(int).tolist():
        written = np.arange(0, data.frames(index), every)
        asked = written[:-1] + every // 2
        clip, colour = data.clips.clip(index, asked), data.clips.clip(index, written)
        memory = LatentMemory(autoencoder.channels, device, patch=preset.memory_patch, rules=write_rules(preset))
        depth = data.depth(index, written, keep=True, factor=preset.depth_samples)
        memory.write(data.latents(index, written).to(device), depth.to(device), data.camera(index, written).to(device))
        pixels = RgbMemory(autoencoder.encode_images, autoencoder.strides[1], device)
        metres, keep, rgb = (torch.from_numpy(part).to(device) for part in (colour.depth, colour.keep, colour.rgb))
        pixels.write(None, metres, colour.camera.to(device), keep, colour=rgb)
        cells = data.camera(index, asked).to(device)
        latent, cached = read_views(memory, cells, preset, unfolder), pixels.read(cells)
        for name, latents in (
            ("latent", latent.latents),
            ("rgb", cached.latents),
            ("bound", data.latents(index, asked).to(device)),
        ):
            drawn[name].append(autoencoder.decode_images(latents)[0].float().cpu())
        truth.append(as_images(clip.rgb))
        both = F.interpolate((latent.visible * cached.visible).cpu(), size=truth[-1].shape[-2:], mode="nearest")
        walk = data.clips.clip(index, np.concatenate([asked, written]))
        seen = shared_by(walk, range(len(asked)), range(len(asked), len(walk))).unsqueeze(1)
        masks.append(both * seen * torch.from_numpy(clip.labels == STATIC).unsqueeze(1))
        held["latent_kib"].append(memory.nbytes)
        held["rgb_kib"].append(pixels.nbytes)
    mask, target = torch.cat(masks), torch.cat(truth)
    figures = {name: psnr(torch.cat(pictures), target, mask) for name, pictures in drawn.items()}
    return figures | {name: float(np.mean(bytes)) / 1024 for name, bytes in held.items()}
