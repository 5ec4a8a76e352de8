"""Closed loop without diffusion: each hop reads what the hop before wrote, as latents or as pixels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.memory.frame_grids import splat
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.recordings.clips import STATIC
from mirage_ros.training.correspondence import shared_by
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.losses import psnr
from mirage_ros.training.pictures import as_images, as_pixels
from mirage_ros.training.sample_memory import lifted


@torch.no_grad()
def measure_hops(
    reader: UnfoldReader,
    autoencoder: FrameAutoencoder,
    data: LatentCache,
    clips: int = 24,
    hops: int = 8,
    step: int = 2,
) -> dict[str, list[float]]:
    """PSNR after each hop of a chain of views `step` frames apart, on static pixels that both caches show.

    Only pixels that the view before saw too count: what has come nearer into view since no cache can know of.

    What a hop does not show is filled in from the truth, so that only the error of reading piles up.

    Args:
        reader, autoencoder: in evaluation mode.
        data: scenes never trained on; clips of at least hops x step + 1 frames.
        clips: how many, evenly spread.
        hops: length of the chain.
        step: frames between two hops.

    Returns:
        'latent' (the reader; latents are written as they were read) and 'rgb' (splat, fill, encode, decode), and
        'bound' of decode(encode(truth)): a figure in dB for each hop.
    """
    errors: dict[str, list[list[Tensor]]] = {name: [[] for _ in range(hops)] for name in ("latent", "rgb", "bound")}
    truths: list[list[Tensor]] = [[] for _ in range(hops)]
    masks: list[list[Tensor]] = [[] for _ in range(hops)]
    for index in np.linspace(0, len(data) - 1, min(clips, len(data))).round().astype(int).tolist():
        frames = np.arange(0, hops * step + 1, step)
        if frames[-1] >= data.frames(index):
            raise ValueError(f"hops: expected a chain within {data.frames(index)} frames, got {frames[-1] + 1}")
        truth = data.latents(index, frames)
        depth = data.depth(index, frames, keep=True, factor=reader.source_factor)
        camera, clip = data.camera(index, frames), data.clips.clip(index, frames)
        images, metres, keep = as_images(clip.rgb), torch.from_numpy(clip.depth), torch.from_numpy(clip.keep)
        latents, image = truth[:1], images[:1]
        for hop in range(hops):
            now, then = slice(hop, hop + 1), slice(hop + 1, hop + 2)
            reading = reader(*lifted(latents, depth[now]), camera[now], camera[then], splat)
            cache = RgbMemory(autoencoder.encode_images, autoencoder.strides[1])
            colour = torch.from_numpy(as_pixels(image))
            cache.write(None, metres[now], clip.camera[now], keep[now], colour=colour)
            rgb = cache.read(camera[then])
            stacked = torch.cat([reading.latents, rgb.latents, truth[then]])
            decoded = autoencoder.decode_images(stacked)[0].float()
            size = images.shape[-2:]
            seen = F.interpolate(reading.visible * rgb.visible, size=size, mode="nearest")
            shared = shared_by(clip, [hop + 1], [hop]).float().unsqueeze(1)
            masks[hop].append(seen * shared * (torch.from_numpy(clip.labels[then]) == STATIC).float())
            truths[hop].append(images[then])
            for name, picture in zip(errors, decoded, strict=True):
                errors[name][hop].append(picture.unsqueeze(0))
            latents = torch.where(reading.visible > 0, reading.latents, truth[then])
            drawn = F.interpolate(rgb.visible, size=size, mode="nearest")
            image = torch.where(drawn > 0, decoded[1:2].clamp(0, 1), images[then])
    return {
        name: [psnr(torch.cat(pictures[hop]), torch.cat(truths[hop]), torch.cat(masks[hop])) for hop in range(hops)]
        for name, pictures in errors.items()
    }
