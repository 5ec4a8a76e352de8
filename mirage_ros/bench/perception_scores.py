"""Scores of filters of moving things against the simulator's truth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields

from torch import Tensor
from torch.nn import functional as F

from mirage_ros.bench.perception_clips import TrueClip, to_cells
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.models.presets import DEFAULT
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DynamicFilter
from mirage_ros.sim.mjcf import Label
from mirage_ros.world.networks import new_memory


@dataclass
class Counts:
    """Cells of clips.

    Attributes:
        fast_found, fast: moving cells that were masked, and all, of what moves more than a cell from frame to frame.
        slow_found, slow: likewise of what moves less.
        lost, still: still cells that were masked, and all.
    """

    fast_found: int = 0
    fast: int = 0
    slow_found: int = 0
    slow: int = 0
    lost: int = 0
    still: int = 0

    def __iadd__(self, other: Counts) -> Counts:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))
        return self

    def figures(self) -> dict[str, float]:
        """Recall of fast and slow things, precision of all that was masked, and the share of still cells lost."""
        found = self.fast_found + self.slow_found
        return {
            "recall": self.fast_found / max(self.fast, 1),
            "recall_slow": self.slow_found / max(self.slow, 1),
            "precision": found / max(found + self.lost, 1),
            "lost": self.lost / max(self.still, 1),
            "cells_fast": self.fast,
            "cells_slow": self.slow,
        }


def mean_colours(rgb: Tensor, stride: int) -> Tensor:
    """A fixed linear autoencoder's latents (T, 3, h, w): the mean colour of each cell."""
    return F.avg_pool2d(rgb, stride)


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
    """Compare a filter with the truth; a cell moves, is sky or is masked if at least half of its pixels are."""
    counts = Counts()
    for part, keep, _ in walk(clip, dynamic_filter, stride, chunk, depth):
        masked = to_cells(~keep, stride) > 0.5
        moving = to_cells(clip.labels[part] == Label.MOVING, stride) >= 0.5
        sky = to_cells(clip.labels[part] == Label.SKY, stride) >= 0.5
        fast = moving & (F.max_pool2d(clip.speed[part].unsqueeze(1), stride).squeeze(1) > stride)
        slow, still = moving & ~fast, ~moving & ~sky
        counts += Counts(
            fast_found=int((fast & masked).sum()),
            fast=int(fast.sum()),
            slow_found=int((slow & masked).sum()),
            slow=int(slow.sum()),
            lost=int((still & masked).sum()),
            still=int(still.sum()),
        )
    return counts


def ghost_share(clip: TrueClip, dynamic_filter: DynamicFilter, stride: int, chunk: int) -> float:
    """Share of the memory's elements that were written from cells of moving things."""
    *_, (_, _, memory) = walk(clip, dynamic_filter, stride, chunk)
    elements = memory.elements()
    moving = to_cells(clip.labels == Label.MOVING, stride) >= 0.5
    ghosts = moving[elements.source, elements.cell[:, 0], elements.cell[:, 1]]
    return float(ghosts.float().mean())
