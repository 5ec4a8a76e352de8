"""The geometric filter against the simulator's truth."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.bench.perception import TrueClip, count_cells, ghost_share, spoil_depth
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, NoFilter


def test_finds_what_moves(lively: TrueClip) -> None:
    figures = count_cells(lively, GeometricFilter(), 4, 9).figures()
    assert figures["cells_fast"] > 100
    assert figures["recall"] > 0.9
    assert figures["precision"] > 0.8


def test_finds_it_in_noisy_depth(lively: TrueClip) -> None:
    depth = spoil_depth(lively.depth, 0.02, torch.Generator().manual_seed(0))
    figures = count_cells(lively, GeometricFilter(), 4, 9, depth).figures()
    assert figures["recall"] > 0.8
    assert figures["precision"] > 0.7


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_keeps_what_stands_still(still: TrueClip, noise: float) -> None:
    depth = spoil_depth(still.depth, noise, torch.Generator().manual_seed(0))
    assert count_cells(still, GeometricFilter(), 4, 9, depth).figures()["lost"] < 0.03


def test_leaves_no_ghosts(lively: TrueClip) -> None:
    without, with_filter = ghost_share(lively, NoFilter(), 4, 9), ghost_share(lively, GeometricFilter(), 4, 9)
    assert with_filter < 0.05
    assert with_filter < without / 3


def test_leaves_out_sky_and_far_things(still: TrueClip) -> None:
    depth = still.depth[:3].clone()
    depth[:, :20], depth[:, 20:40], depth[:, 40:50] = 0, 80, torch.nan
    frames = DecodedFrames(still.rgb[:3], still.camera[:3])
    keep = GeometricFilter().filter(frames, DepthEstimate(depth, still.camera[:3]), LatentMemory(3)).keep
    assert not keep[:, :50].any()
    assert keep[:, 55:].float().mean() > 0.9


def test_judges_a_lone_frame_by_the_memory(still: TrueClip, remembered: LatentMemory) -> None:
    depth = still.depth[12:13].clone()
    # Something new stands in front of what the memory saw from elsewhere.
    depth[0, 40:90, 80:120] *= 0.5
    frames = DecodedFrames(still.rgb[12:13], still.camera[12:13])
    keep = GeometricFilter().filter(frames, DepthEstimate(depth, still.camera[12:13]), remembered).keep
    assert keep[0, 45:85, 85:115].float().mean() < 0.5
    outside = keep.clone()
    outside[0, 30:100, 70:130] = True
    assert outside.float().mean() > 0.95
