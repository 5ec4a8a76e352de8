"""Memories of a training sample, batched: source frames lifted, static part only, and read for the target cameras.

It gives what `mirage_ros.world.reading.read_views` gives in a rollout, for a batch of clips at once and with gradients.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.memory.depth_patches import resample_depth
from mirage_ros.memory.frame_grids import splat_in_order
from mirage_ros.memory.provenance import IMAGINATION, OBSERVATION, SourceFrame
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import PATCHED_KNOWN
from mirage_ros.models.log_depth import FINE, reduce
from mirage_ros.models.presets import Preset
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.world.networks import new_memory
from mirage_ros.world.reading import Reading, as_reading
from mirage_ros.world.room import Room, fit_room


@torch.no_grad()
def read_sources(
    latents: Tensor,
    depth: Tensor,
    sources: Camera,
    targets: Camera,
    reader: UnfoldReader | None,
    rule: str = "nearest",
    observed: int | None = None,
    *,
    held: Tensor | None = None,
    with_room: bool = False,
) -> Reading:
    """Read source frames.

    Args:
        latents: (B, S, C, h, w) of the source frames.
        depth: (B, S, h s, w s) metres, invalid where nothing shall be lifted; s is a multiple of the reader's, or the
            other way round.
        sources, targets: (B, S) and (B, T) cameras at latent resolution.
        reader: learned reader; None reads whole tokens by `rule`.
        rule: 'nearest' or 'strict'.
        observed: how many frames, the first ones, are never hidden by the others; all alike by default.
        held: (B, S, h, w) bool, cells that the memory holds, see `held_cells`; all that have depth by default.
        with_room: fit a room to the observed frames of each clip.

    Returns:
        a reading whose tensors have the batch in front.
    """
    samples = depth.shape[-1] // latents.shape[-1]
    coarse_depth = token_depth(depth, *latents.shape[-2:])
    first = depth.shape[-3] if observed is None else observed
    # In half precision poses would be no poses any more.
    with torch.autocast(latents.device.type, enabled=False):
        rooms = [
            fit_room(latents[i, :first].float(), coarse_depth[i, :first], sources[i][:first])
            for i in range(len(latents) if with_room else 0)
        ]
    if held is not None:
        # The room is seen from where a frame was taken, whichever frame holds it.
        latents, depth = held_only(latents, depth, held)
        coarse_depth = torch.where(held, coarse_depth, torch.nan)
    if reader is None:
        reading = as_reading(exact_splat(latents, coarse_depth, sources, targets, observed, rule), targets)
    else:
        fine_depth = resample_depth(depth, samples, reader.source_factor)
        read = reader(latents, fine_depth, sources, targets, partial(exact_splat, observed=observed), coarse_depth)
        reading = as_reading(read.coarse, targets, (read.latents, read.visible, read.fine))
    return replace(reading, room=tuple(rooms)) if with_room else reading


def held_cells(
    depth: Tensor, camera: Camera, preset: Preset, imagined: int = 0, copied: Tensor | None = None
) -> Tensor:
    """What a memory holds of source frames that were written to it one after the other.

    A frame keeps what those before it do not hold as finely, and some cells around; a rollout reads nothing else.

    Args:
        depth: (S, H, W) metres at any resolution, invalid where nothing shall be lifted.
        camera: (S,) at latent resolution, h x w.
        imagined: how many frames, the last ones, are no observations.
        copied: (S, h, w) bool cells that were read from the memory and say nothing.

    Returns:
        (S, h, w) bool, on the CPU, where so many small steps are done sooner.
    """
    depth, camera = depth.cpu().float(), camera.to("cpu")
    count, height, width = len(depth), camera.height, camera.width
    frames = [SourceFrame(i, kind=IMAGINATION if i >= count - imagined else OBSERVATION) for i in range(count)]
    held = torch.zeros(count, height, width, dtype=torch.bool)
    # What latents a cell has does not matter here.
    memory = new_memory(preset, 1)
    # In half precision poses would be no poses any more.
    with torch.autocast("cpu", enabled=False):
        latents = torch.zeros(count, 1, height, width)
        memory.write(latents, depth, camera, frame=frames, copied=None if copied is None else copied.cpu())
        if len(memory):
            grids = memory.frame_grids()
            held[grids.ids] = grids.present.squeeze(1) > 0
    return held


def held_only(latents: Tensor, depth: Tensor, held: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (..., C, h, w) and depth (..., h s, w s) of the cells that are held (..., h, w): else zero and NaN."""
    samples = depth.shape[-1] // latents.shape[-1]
    fine = held.repeat_interleave(samples, dim=-2).repeat_interleave(samples, dim=-1)
    return torch.where(held.unsqueeze(-3), latents, 0.0), torch.where(fine, depth, torch.nan)


def lifted(latents: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (..., C, h, w) and depth (..., h s, w s) of cells that have depth, as a memory of one frame has them."""
    return held_only(latents, depth, token_depth(depth, *latents.shape[-2:]).isfinite())


def token_depth(depth: Tensor, height: int, width: int) -> Tensor:
    """Depth (..., H, W) of whole tokens, (..., height, width), of cells that a memory for readers that unfold holds."""
    rows, columns = depth.shape[-2] // height, depth.shape[-1] // width
    known = F.avg_pool2d(valid_depth(depth).float().flatten(0, -3).unsqueeze(1), (rows, columns))
    enough = known.reshape(*depth.shape[:-2], height, width) >= PATCHED_KNOWN
    return torch.where(enough, reduce(depth, height, width), torch.nan)


def exact_splat(
    features: Tensor,
    depth: Tensor,
    sources: Camera,
    targets: Camera,
    observed: int | None = None,
    rule: str = "nearest",
) -> Readout:
    """`splat_in_order` in full precision: under autocast its matrix products would be off by pixels."""
    with torch.autocast(features.device.type, enabled=False):
        first = depth.shape[-3] if observed is None else observed
        return splat_in_order(features.float(), depth, sources, targets, first, rule)


def noisy_depth(depth: Tensor, deviation: float, rng: np.random.Generator) -> Tensor:
    """Depth (T, H, W) with a relative error that varies slowly over the picture, a quarter from pixel to pixel."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    coarse = torch.randn(len(depth), 1, 4, 6, generator=generator)
    slow = F.interpolate(coarse, size=depth.shape[-2:], mode="bicubic", align_corners=False).squeeze(1)
    fast = torch.randn(depth.shape, generator=generator)
    return depth * torch.exp(deviation * (0.75 * slow + 0.25 * fast))


def forget(reading: Reading, samples: Tensor) -> Reading:
    """A reading, with the batch in front, with nothing in it for some samples (B,) bool."""
    gone = samples[:, None, None, None, None]
    room = reading.room
    if isinstance(room, tuple):
        unknown = Room.unknown(reading.latents.shape[2], reading.latents.device)
        room = tuple(unknown if lost else own for own, lost in zip(room, samples.tolist(), strict=True))
    changed: dict[str, Any] = {
        name: torch.where(gone, 0.0, getattr(reading, name)) for name in ("latents", "visible", "offset", "log_scale")
    }
    for name in ("depth", "fine_depth"):
        changed[name] = torch.where(gone[:, 0], torch.nan, getattr(reading, name))
    return replace(reading, **changed, sharp=reading.sharp & ~gone, room=room)


def measured(reading: Reading) -> Tensor:
    """(B, T, 4, h, w) bool: which depth channels the memory gives."""
    return F.pixel_unshuffle(valid_depth(reading.fine_depth).unsqueeze(-3).float(), FINE) > 0
