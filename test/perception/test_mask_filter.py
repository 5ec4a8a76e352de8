"""Masks that are given."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.bench.perception_clips import TrueClip
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.mask_filter import SegmentationFilter
from mirage_ros.perception.protocols import DepthEstimate, Frames


def judged(clip: TrueClip, chosen: SegmentationFilter) -> tuple[torch.Tensor, tuple[str, ...]]:
    part = slice(4, 8)
    frames = Frames(clip.rgb[part], clip.camera[part], 4)
    mask = chosen.filter(frames, DepthEstimate(clip.depth[part], clip.camera[part]), LatentMemory(3))
    return mask.keep, mask.notes


def test_labels_of_a_trajectory_are_cut_to_the_chunk(lively: TrueClip) -> None:
    keep, notes = judged(lively, SegmentationFilter(lively.labels))
    assert torch.equal(keep, lively.still[4:8] & (lively.depth[4:8] > 0))
    assert not notes


def test_a_source_of_another_size_is_brought_to_the_frames(lively: TrueClip) -> None:
    half = lively.labels[4:8, ::2, ::2]
    keep, _ = judged(lively, SegmentationFilter(lambda frames: half))
    same = keep == (lively.still[4:8] & (lively.depth[4:8] > 0))
    assert same.float().mean() > 0.98


def test_missing_masks_are_noted(lively: TrueClip) -> None:
    keep, notes = judged(lively, SegmentationFilter(lambda frames: None))
    assert torch.equal(keep, lively.depth[4:8] > 0)
    assert "everything is kept" in notes[0]
    keep, notes = judged(lively, SegmentationFilter(lambda frames: None, GeometricFilter()))
    assert not torch.equal(keep, lively.depth[4:8] > 0)
    assert "fallback" in notes[0]


def test_refuses_other_masks(lively: TrueClip) -> None:
    with pytest.raises(ValueError, match="labels"):
        SegmentationFilter(torch.zeros(4, 8, 8))
    with pytest.raises(ValueError, match="4 frames"):
        judged(lively, SegmentationFilter(lambda frames: torch.zeros(2, 8, 8, dtype=torch.bool)))
