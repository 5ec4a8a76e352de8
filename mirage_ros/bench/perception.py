"""`mirage bench perception`: what is found of moving things, against the simulator's truth, on scenes never trained on.

Studies:
  filter   recall and precision of the geometric filter, and what static clips lose
  ghosts   share of the memory on places where something moved, with and without filter
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.evaluation.protocols.sim import FPS, draw_walk
from mirage_ros.geometry import Camera
from mirage_ros.images import as_images
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.models.presets import DEFAULT
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DynamicFilter, NoFilter
from mirage_ros.recordings.clips import MOVING, SKY, STATIC
from mirage_ros.sim.movers import Mover
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.sim.splits import scene_seeds
from mirage_ros.world.networks import new_memory

# Pixels along a cell, and frames of a chunk, of the default preset.
STRIDE, CHUNK = 4, 9
# Standard deviation of depth as a share of it, and pixels by which its edges bleed.
SPOILS = {"exact depth": (0.0, 0), "2 % noise": (0.02, 0), "5 % noise, bleeding edges": (0.05, 1)}


@dataclass(frozen=True, eq=False)
class TrueClip:
    """A walk as a simulator knows it.

    Attributes:
        rgb: (T, 3, H, W) float32 0..1.
        depth: (T, H, W) float32 metres, 0 for sky.
        labels: (T, H, W) uint8, STATIC, MOVING or SKY.
        speed: (T, H, W) float32 pixels by which a moving pixel moves to the next frame beside what the camera does;
            zero where nothing moves.
        camera: (T,) cameras.
    """

    rgb: Tensor
    depth: Tensor
    labels: Tensor
    speed: Tensor
    camera: Camera

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def still(self) -> Tensor:
        """(T, H, W) bool, where there is something that does not move."""
        return self.labels == STATIC


def draw_clip(seed: int, family: str, *, moving: int, frames: int) -> TrueClip:
    """Walk at half a metre a second through a simulated scene, ten frames of 192x128 pixels a second.

    Args:
        seed, family, moving: of the scene.
        frames: of the clip.

    Raises:
        ValueError: the scene has no room for such a walk.
    """
    scene = build_scene(seed, family, moving=moving)
    path = plan_path(scene, frames, 0, step=0.5 / FPS)
    with Renderer(scene, 128, 192) as renderer:
        clip = draw_walk(f"{family}-{seed}", renderer, path)
    depth, labels = torch.from_numpy(clip.depth), torch.from_numpy(clip.labels)
    return TrueClip(
        as_images(clip.rgb), depth, labels, image_speed(scene.movers, depth, labels, clip.camera), clip.camera
    )


def image_speed(movers: tuple[Mover, ...], depth: Tensor, labels: Tensor, camera: Camera) -> Tensor:
    """(T, H, W) pixels by which each moving pixel moves to the next frame, the camera's own motion apart."""
    speed = torch.zeros_like(depth)
    if not movers:
        return speed
    for t in range(len(depth)):
        # The last frame is compared with the one before.
        other = t + 1 if t + 1 < len(depth) else t - 1
        here, there = (torch.tensor([mover.pose(time / FPS)[0] for mover in movers]) for time in (t, other))
        at = labels[t] == MOVING
        points = camera[t].lift(depth[t])[at]
        if not len(points):
            continue
        # Courses do not overlap, so the nearest is the one.
        own = torch.cdist(points[:, :2], here[:, :2]).argmin(dim=1)
        before, _ = camera[other].project(points)
        after, _ = camera[other].project(points + (there - here)[own])
        # What leaves through the plane of the camera is fast.
        speed[t][at] = (after - before).norm(dim=-1).nan_to_num(torch.inf)
    return speed


def spoil_depth(depth: Tensor, share: float, generator: torch.Generator, *, bleed: int = 0) -> Tensor:
    """Depth as an estimator might give it.

    Args:
        depth: (T, H, W) metres.
        share: standard deviation of the multiplicative noise; half of its variance is of each pixel, half is smooth,
            with bumps of an eighth of the image, as estimators err.
        bleed: pixels by which edges are blurred, so that they hold depths between their two sides.
    """
    rough = torch.randn(depth.shape, generator=generator)
    smooth = F.interpolate(torch.randn((len(depth), 1, 10, 10), generator=generator), depth.shape[1:], mode="bicubic")
    smooth = smooth[:, 0] / smooth.std()
    spoiled = depth
    if bleed:
        inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
        padded = F.pad(inverse.unsqueeze(1), (bleed,) * 4, mode="replicate")
        blurred = F.avg_pool2d(padded, 2 * bleed + 1, stride=1).squeeze(1)
        spoiled = torch.where(depth > 0, 1 / blurred.clamp(min=1e-6), 0.0)
    return spoiled * (1 + share * (rough + smooth) / 2**0.5).clamp(min=0.2)


class Counts(Counter[str]):
    """Cells of clips: `fast` of what moves more than a cell from frame to frame, `slow` of what moves less, `still`.

    Of these were masked `fast_found`, `slow_found` and `lost`. Counts of clips add up.
    """

    def figures(self) -> dict[str, float]:
        """Recall of fast and slow things, precision of all that was masked, share of still cells lost, fast cells."""
        found = self["fast_found"] + self["slow_found"]
        return {
            "recall": self["fast_found"] / max(self["fast"], 1),
            "recall_slow": self["slow_found"] / max(self["slow"], 1),
            "precision": found / max(found + self["lost"], 1),
            "lost": self["lost"] / max(self["still"], 1),
            "cells_fast": self["fast"],
        }


def mean_colours(rgb: Tensor, stride: int) -> Tensor:
    """A fixed linear autoencoder's latents (T, 3, h, w): the mean colour of each cell."""
    return F.avg_pool2d(rgb, stride)


def cells_of(mask: Tensor, stride: int) -> Tensor:
    """(T, H / stride, W / stride) bool, cells of which at least half of the pixels are true."""
    return F.avg_pool2d(mask.float().unsqueeze(1), stride).squeeze(1) >= 0.5


def walk(
    clip: TrueClip, dynamic_filter: DynamicFilter, stride: int, chunk: int, depth: Tensor | None = None
) -> Iterator[tuple[slice, Tensor, LatentMemory]]:
    """Filter and write a clip as a rollout does: chunk after chunk, each sharing its first frame with the one before.

    The very first frame is written without what moves in it.

    Args:
        clip: what is seen.
        dynamic_filter: judges each chunk.
        stride: pixels along a cell.
        chunk: frames.
        depth: (T, H, W) metres instead of the true depth.

    Yields:
        frames of the chunk, (T, H, W) bool what was kept, and the memory after writing.
    """
    depth = clip.depth if depth is None else depth
    memory = new_memory(DEFAULT, 3)
    latents = mean_colours(clip.rgb, stride)
    memory.write(latents[:1], depth[:1], clip.camera[:1], clip.still[:1], SourceFrame(id=0))
    for first in range(0, len(clip) - chunk + 1, chunk - 1):
        part = slice(first, first + chunk)
        frames = DecodedFrames(clip.rgb[part], clip.camera[part], first)
        keep = dynamic_filter.filter(frames, DepthEstimate(depth[part], clip.camera[part]), memory).keep
        new = slice(first + 1, first + chunk)
        ids = [SourceFrame(id=t, kind="imagination") for t in range(new.start, new.stop)]
        memory.write(latents[new], depth[new], clip.camera[new], keep[1:], ids)
        yield part, keep, memory


def count_cells(
    clip: TrueClip, dynamic_filter: DynamicFilter, stride: int, chunk: int, depth: Tensor | None = None
) -> Counts:
    """Compare a filter with the truth; a cell moves, is sky or is kept if at least half of its pixels are."""
    counts = Counts()
    for part, keep, _ in walk(clip, dynamic_filter, stride, chunk, depth):
        masked = ~cells_of(keep, stride)
        moving, sky = (cells_of(clip.labels[part] == label, stride) for label in (MOVING, SKY))
        fast = moving & (F.max_pool2d(clip.speed[part].unsqueeze(1), stride).squeeze(1) > stride)
        kinds = {
            "fast": ("fast_found", fast),
            "slow": ("slow_found", moving & ~fast),
            "still": ("lost", ~moving & ~sky),
        }
        for kind, (found, cells) in kinds.items():
            counts[kind] += int(cells.sum())
            counts[found] += int((cells & masked).sum())
    return counts


def ghost_share(clip: TrueClip, dynamic_filter: DynamicFilter, stride: int, chunk: int) -> float:
    """Share of the memory's elements that were written from cells of moving things."""
    *_, (_, _, memory) = walk(clip, dynamic_filter, stride, chunk)
    elements = memory.elements()
    moving = cells_of(clip.labels == MOVING, stride)
    return float(moving[elements.source, elements.cell[:, 0], elements.cell[:, 1]].float().mean())


def clips(options: argparse.Namespace, moving: tuple[int, ...]) -> Iterator[tuple[int, TrueClip]]:
    """Held-out clips with their numbers of moving things; scenes without room for such a walk are left out."""
    seeds = scene_seeds("held-out", 0, options.seeds)
    jobs = [(number, family, seed) for number in moving for family in ("rooms", "halls") for seed in seeds]
    for number, family, seed in tqdm(jobs, unit="clip", leave=False):
        try:
            clip = draw_clip(seed, family, moving=number, frames=options.frames)
        except ValueError as error:
            print(f"left out: {error}")
        else:
            yield number, clip


def bench_filter(options: argparse.Namespace) -> None:
    """Recall, precision and loss for depth without and with errors."""
    totals = {(name, lively): Counts() for name in SPOILS for lively in (True, False)}
    for moving, clip in clips(options, (0, 1, 2, 3)):
        for name, (share, bleed) in SPOILS.items():
            depth = spoil_depth(clip.depth, share, torch.Generator().manual_seed(0), bleed=bleed)
            totals[name, moving > 0] += count_cells(clip, GeometricFilter(), STRIDE, CHUNK, depth)
    print(f"{'':<28} {'recall':>7} {'slower':>7} {'precision':>10} {'static clips lose':>18}")
    for name in SPOILS:
        lively, static = totals[name, True].figures(), totals[name, False].figures()
        print(
            f"{name:<28} {lively['recall']:7.3f} {lively['recall_slow']:7.3f} {lively['precision']:10.3f} "
            f"{100 * static['lost']:16.2f} %"
        )


def bench_ghosts(options: argparse.Namespace) -> None:
    """Ghost elements with and without the filter."""
    filters: dict[str, Callable[[], DynamicFilter]] = {"none": NoFilter, "geometric": GeometricFilter}
    shares = [
        [ghost_share(clip, make(), STRIDE, CHUNK) for make in filters.values()] for _, clip in clips(options, (1, 2, 3))
    ]
    for name, values in zip(filters, np.transpose(shares), strict=True):
        print(f"filter {name:<10} ghosts {100 * values.mean():6.2f} %, worst clip {100 * values.max():6.2f} %")


STUDIES: dict[str, Callable[[argparse.Namespace], None]] = {"filter": bench_filter, "ghosts": bench_ghosts}


def main() -> None:
    """Run the studies asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"{', '.join(STUDIES)}; all by default")
    parser.add_argument("--seeds", type=int, default=2, help="held-out scenes of each family and number of movers")
    parser.add_argument("--frames", type=int, default=25, help="frames of a clip")
    options = parser.parse_args()
    studies = options.studies or list(STUDIES)
    if set(studies) - set(STUDIES):
        parser.error(f"STUDY: expected {', '.join(STUDIES)}, got {' '.join(options.studies)}")
    if options.seeds < 1 or options.frames < 17:
        parser.error(f"--seeds, --frames: expected from 1 and from 17, got {options.seeds} and {options.frames}")
    for name in studies:
        print(f"{name}: held-out scenes, {options.seeds} seeds, {options.frames} frames, sizes of default")
        STUDIES[name](options)
