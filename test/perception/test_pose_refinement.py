"""Refinement of cameras: wrong poses become better, right ones stay."""

from __future__ import annotations

import math

import pytest
import torch

from mirage_ros.bench.perception_clips import TrueClip
from mirage_ros.bench.perception_scores import mean_colours
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.motions import exp_motion, log_motion, pose_difference, turned
from mirage_ros.perception.pipeline import DecodedFrames, SensorDepth
from mirage_ros.perception.pose_refinement import RefinedCamera, RefineOptions, refine_cameras

PART = slice(9, 17)


def test_halves_a_wrong_pose(still: TrueClip, remembered: LatentMemory) -> None:
    true = still.camera[PART]
    given = true.at(turned(true.cam2world, 0.02, math.radians(1), torch.Generator().manual_seed(0)))
    features = mean_colours(still.rgb[PART], 4)
    found = refine_cameras(still.depth[PART], given, remembered, features=features)
    metres, radians = pose_difference(found.camera.cam2world, true.cam2world)
    assert metres.mean() < 0.01
    assert radians.mean() < math.radians(0.5)
    assert found.accepted.all()


def test_never_makes_a_right_pose_worse(still: TrueClip, remembered: LatentMemory) -> None:
    true = still.camera[PART]
    for features in (None, mean_colours(still.rgb[PART], 4)):
        found = refine_cameras(still.depth[PART], true, remembered, features=features)
        assert pose_difference(found.camera.cam2world, true.cam2world)[0].max() < 0.002


def test_refuses_large_corrections_and_says_so(still: TrueClip, remembered: LatentMemory) -> None:
    true = still.camera[PART]
    given = true.at(turned(true.cam2world, 0.02, math.radians(1), torch.Generator().manual_seed(0)))
    refined = RefinedCamera(SensorDepth(still.depth), options=RefineOptions(max_rotation=math.radians(0.2)))
    found = refined.estimate(DecodedFrames(still.rgb[PART], given, 9), remembered)
    _, turn = pose_difference(found.camera.cam2world, given.cam2world)
    assert turn.max() <= math.radians(0.2)
    assert "refused" in found.notes[0]


def test_keeps_poses_where_the_memory_knows_nothing(still: TrueClip) -> None:
    memory = LatentMemory(3)
    keep = torch.zeros(1, 128, 192, dtype=torch.bool)
    keep[:, :16, :16] = True
    memory.write(mean_colours(still.rgb[:1], 4), still.depth[:1], still.camera[:1], keep)
    found = RefinedCamera(SensorDepth(still.depth)).estimate(
        DecodedFrames(still.rgb[PART], still.camera[PART], 9), memory
    )
    assert torch.equal(found.camera.cam2world, still.camera[PART].cam2world)
    assert "too little" in found.notes[0]


def test_refuses_foreign_features(still: TrueClip, remembered: LatentMemory) -> None:
    with pytest.raises(ValueError, match="features"):
        refine_cameras(still.depth[PART], still.camera[PART], remembered, features=torch.zeros(8, 5, 32, 48))


def test_logarithm_undoes_exponential() -> None:
    twist = torch.randn(50, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5
    motion = exp_motion(twist)
    torch.testing.assert_close(log_motion(motion)[:, 3:], twist[:, 3:])
    assert (torch.linalg.det(motion[:, :3, :3]) - 1).abs().max() < 1e-9
