"""The pixel cache of a training sample: source frames as coloured points, drawn, filled and encoded for every view.

Networks that are trained with it in place of the latent memory are what that memory is compared with.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.evaluation.baselines.pixel_cache import Encoder, RgbMemory
from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge
from mirage_ros.memory.readout import Readout
from mirage_ros.training.latent_windows import Windows
from mirage_ros.training.reader import noisy_depth
from mirage_ros.world.reading import Reading, as_reading
from mirage_ros.world.room import room_of


def pixel_sources(
    data: Windows, index: int, frames: NDArray[np.int64], noise: float = 0.0, rng: np.random.Generator | None = None
) -> dict[str, Tensor]:
    """Source frames at full resolution: 'source_images' (S, H, W, 3) uint8 and 'source_metres' (S, H, W), NaN where
    nothing shall be lifted.

    Args:
        data: clips.
        index: of the clip.
        frames: which.
        noise: relative error of depth, drawn from `rng`.
    """
    clip = data.clips.clip(index, frames)
    metres = torch.from_numpy(np.where(clip.keep, clip.depth, np.float32(np.nan)))
    if noise and rng is not None:
        metres = noisy_depth(metres, noise, rng)
    return {"source_images": torch.from_numpy(clip.rgb), "source_metres": metres}


def drawn_sources(pictures: Tensor, depth: Tensor) -> dict[str, Tensor]:
    """The same of imagined frames: pictures (B, S, 3, H, W) 0..1 and their depth (B, S, h', w') on a coarser grid."""
    images = (pictures.float() * 255).round().to(torch.uint8).permute(0, 1, 3, 4, 2)
    return {"source_images": images, "source_metres": enlarge(depth, *pictures.shape[-2:])}


@torch.no_grad()
def read_pixels(batch: dict[str, Tensor], targets: Camera, encode: Encoder, *, with_room: bool = False) -> Reading:
    """Write the sources of each sample to a pixel cache and read it, as a rollout does.

    Args:
        batch: with 'source_images', 'source_metres' (B, S, ...) and the sources' cameras at latent resolution.
        targets: (B, T) cameras at latent resolution.
        encode: images (T, 3, H, W) to latents (T, C, h, w).
        with_room: fit a room to what the cache shows to its first frame.

    Returns:
        a reading whose tensors have the batch in front.
    """
    images, metres = batch["source_images"], batch["source_metres"]
    sources = Camera(batch["source_intrinsics"], batch["source_cam2world"], targets.height, targets.width)
    stride = metres.shape[-1] // targets.width
    readouts: list[Readout] = []
    rooms: list[Any] = []
    # In half precision poses would be no poses any more.
    with torch.autocast(metres.device.type, enabled=False):
        for i in range(len(images)):
            memory = RgbMemory(encode, stride, metres.device)
            memory.write(None, metres[i].float(), sources[i], colour=images[i])
            readouts.append(memory.read(targets[i]))
            if with_room:
                rooms.append(room_of(memory, targets[i]))
        reading = as_reading(Readout.stacked(readouts), targets)
    return replace(reading, room=tuple(rooms)) if with_room else reading
