"""What errors of depth and filters of moving things cost pictures: readouts, and walks that are imagined back.

The world model that is measured here has its own depth; these studies give it another in its place. A walk is seen on
its way there, every `STEP`-th frame, and imagined on its way back from the last view, so that what was remembered is
what the pictures are made of.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mirage_ros.bench.perception_clips import TrueClip, spoil_depth
from mirage_ros.bench.perception_scores import mean_colours
from mirage_ros.evaluation.metrics import masked_psnr
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.pipeline import (
    DecodedFrames,
    DepthEstimate,
    DynamicFilter,
    JointDepth,
    KeepMask,
    NoFilter,
    Perception,
    SensorDepth,
)
from mirage_ros.sim.mjcf import Label
from mirage_ros.world.model import WorldModel

# Frames from one that is written to the next.
STEP = 4
# Standard deviation as a share of depth, and pixels by which edges bleed.
SPOILS: dict[str, tuple[float, int]] = {
    "exact": (0.0, 0),
    "2 %": (0.02, 0),
    "5 %": (0.05, 0),
    "10 %": (0.1, 0),
    "edges bleed 1 px": (0.0, 1),
    "edges bleed 2 px": (0.0, 2),
}


def load_world(weights: Path, preset: str) -> WorldModel | None:
    """The world model in a folder; None where the folder has none."""
    if not (weights / "transformer" / "config.json").is_file():
        return None
    return WorldModel.from_pretrained(weights, preset=preset)


def autoencoder(world: WorldModel | None, stride: int) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Encoder and decoder of single frames: the model's, or the mean colours of cells where there is no model."""
    if world is None:
        return (
            lambda rgb: mean_colours(rgb, stride),
            lambda latents: latents.repeat_interleave(stride, dim=-2).repeat_interleave(stride, dim=-1),
        )
    parts = world.parts
    return (
        lambda rgb: parts.encode(rgb.unsqueeze(1))[:, :, 0],
        lambda latents: parts.decode(latents.unsqueeze(2))[:, 0],
    )


def readout_score(
    clip: TrueClip, depth: Tensor, stride: int, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """PSNR in dB of visible pixels of readouts between the frames that were written, and the share of visible cells.

    Args:
        clip: what is seen.
        depth: (T, H, W) metres it is written with.
        stride: pixels along a cell.
        encode, decode: of single frames.
    """
    written = torch.arange(0, len(clip), STEP)
    read = written[:-1] + STEP // 2
    with torch.no_grad():
        latents = encode(clip.rgb[written])
        memory = LatentMemory(latents.shape[1])
        memory.write(latents, depth[written], clip.camera[written])
        readout = memory.read(clip.camera[read].resized(*latents.shape[-2:]))
        seen = readout.visible.repeat_interleave(stride, dim=-2).repeat_interleave(stride, dim=-1)
        error = ((decode(readout.latents) - clip.rgb[read]).square() * seen).sum() / (3 * seen.sum()).clamp(min=1)
    return -10 * math.log10(max(float(error), 1e-10)), float(readout.visible.mean())


class CountingFilter:
    """Another filter, and the share of pixels that it dropped.

    Attributes:
        dropped, judged: pixels.
    """

    def __init__(self, inner: DynamicFilter) -> None:
        self.inner, self.dropped, self.judged = inner, 0, 0

    def filter(self, frames: DecodedFrames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """What the other filter says."""
        mask = self.inner.filter(frames, depth, memory)
        self.dropped += int((~mask.keep).sum())
        self.judged += mask.keep.numel()
        return mask


def walk_back(world: WorldModel, clip: TrueClip, depth: Tensor, perception: Perception) -> tuple[float, float]:
    """Observe a walk, imagine the way back.

    Args:
        world: the model.
        clip: the walk.
        depth: (T, H, W) metres with which its frames are observed.
        perception: of imagined frames; the trajectory is that of the clip, backwards.

    Returns:
        PSNR in dB of the imagined frames, the first of which was given and does not count, and seconds a frame that
        perception took.
    """
    frames = (clip.rgb.permute(0, 2, 3, 1) * 255).round().byte().numpy()
    depth = torch.where(clip.labels == Label.SKY, torch.inf, depth)
    memory, history = world.new_memory(), world.new_history()
    for t in range(0, len(clip), STEP):
        world.observe(memory, frames[t], depth[t].numpy(), clip.camera[t], history=history)
    back = torch.arange(len(clip) - 1, -1, -1)
    rollout = world.imagine(
        memory,
        clip.camera[back],
        first=frames[-1],
        first_depth=depth[-1],
        perception=perception,
        history=history,
    )
    chunks = list(rollout)
    imagined = np.concatenate([chunk.rgb for chunk in chunks])
    seconds = sum(chunk.seconds["perceive"] for chunk in chunks) / len(clip)
    return masked_psnr(imagined[1:], np.ascontiguousarray(frames[::-1][1:])), seconds


def bench_noise(options: argparse.Namespace, clips: list[TrueClip], stride: int) -> dict[str, Any]:
    """PSNR of readouts and of imagined walks for depth with errors, against exact depth."""
    world = load_world(options.weights, options.preset)
    encode, decode = autoencoder(world, stride)
    print("weights:", options.weights if world else "none, the mean colour of each cell stands in; nothing is imagined")
    results: dict[str, Any] = {}
    print(f"{'depth':<18} {'readout':>8} {'coverage':>9} {'imagined':>9}")
    for name, (share, bleed) in SPOILS.items():
        rows = []
        for clip in clips:
            depth = spoil_depth(clip.depth, share, torch.Generator().manual_seed(0), bleed=bleed)
            psnr, coverage = readout_score(clip, depth, stride, encode, decode)
            imagined = math.nan
            if world is not None:
                # Errors of what is imagined have nothing to do with those of what was observed.
                later = spoil_depth(clip.depth.flip(0), share, torch.Generator().manual_seed(1), bleed=bleed)
                imagined, _ = walk_back(world, clip, depth, Perception(SensorDepth(later), NoFilter()))
            rows.append((psnr, coverage, imagined))
        readout, coverage, imagined = np.mean(rows, axis=0).tolist()
        results[name] = {"readout": readout, "coverage": coverage, "imagined": imagined}
        print(f"{name:<18} {readout:5.2f} dB {100 * coverage:7.1f} % {imagined:6.2f} dB")
    return results


def bench_cost(options: argparse.Namespace, clips: list[TrueClip]) -> dict[str, Any]:
    """What the geometric filter takes away from walks in which nothing moves, with the model's own depth."""
    world = load_world(options.weights, options.preset)
    if world is None or not world.preset.depth_channels:
        print("left out: needs weights of a preset that has depth of its own")
        return {}
    results: dict[str, Any] = {}
    makers: dict[str, Callable[[], DynamicFilter]] = {"none": NoFilter, "geometric": GeometricFilter}
    for name, make in makers.items():
        counting = CountingFilter(make())
        rows = [walk_back(world, clip, clip.depth, Perception(JointDepth(), counting)) for clip in clips]
        psnr, seconds = np.mean(rows, axis=0).tolist()
        dropped = counting.dropped / max(counting.judged, 1)
        results[name] = {"imagined": psnr, "dropped": dropped, "perceive_ms": 1000 * seconds}
        print(
            f"filter {name:<10} imagined {psnr:6.2f} dB, {100 * dropped:5.2f} % of the pixels dropped, "
            f"{1000 * seconds:.1f} ms a frame for perception"
        )
    return results
