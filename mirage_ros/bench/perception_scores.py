"""Scores of filters of moving things against the simulator's truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from torch import Tensor
from torch.nn import functional as F

from mirage_ros.bench.perception_clips import TrueClip
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.models.presets import DEFAULT
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DynamicFilter
from mirage_ros.sim.mjcf import Label
from mirage_ros.world.networks import new_memory


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
        moving, sky = (cells_of(clip.labels[part] == label, stride) for label in (Label.MOVING, Label.SKY))
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
    moving = cells_of(clip.labels == Label.MOVING, stride)
    return float(moving[elements.source, elements.cell[:, 0], elements.cell[:, 1]].float().mean())
