"""Perception by name: choices, what is missing, and fallbacks that keep a rollout going."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.bench.perception_clips import TrueClip
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.given import JointDepth, SensorDepth
from mirage_ros.perception.memory_depth import MemoryDepth
from mirage_ros.perception.pipeline import Perception
from mirage_ros.perception.pose_refinement import RefinedCamera
from mirage_ros.perception.pretrained import MissingExtraError, MissingWeightsError
from mirage_ros.perception.protocols import DepthEstimate, Frames, KeepMask
from mirage_ros.perception.registry import DEPTHS, FILTERS, make_perception
from mirage_ros.perception.scale_alignment import AlignedDepth


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ValueError, match="depth: expected one of sensor, joint, memory.*'lidar'"):
        make_perception("lidar")
    with pytest.raises(ValueError, match="dynamic_filter: expected one of none, geometric.*'magic'"):
        make_perception("memory", "magic")
    with pytest.raises(ValueError, match="align: expected one of auto"):
        make_perception("memory", align="rotation")


def test_parts_that_must_be_given_are_asked_for() -> None:
    with pytest.raises(ValueError, match="sensor_depth"):
        make_perception("sensor")
    with pytest.raises(ValueError, match="labels"):
        make_perception("memory", "segmentation")


@pytest.mark.parametrize(("name", "command"), [("map-anything", r"mirage_ros\[depth\]"), ("unidepth", "UniDepth")])
def test_missing_packages_are_named_with_what_installs_them(name: str, command: str) -> None:
    with pytest.raises(MissingExtraError, match=command):
        make_perception(name)


def test_missing_parts_fall_back_and_say_so(still: TrueClip, remembered: LatentMemory) -> None:
    with pytest.raises(MissingWeightsError):
        make_perception("depth-anything", depth_source="nobody/nothing", local_files_only=True)
    perception = make_perception(
        "depth-anything",
        "open-vocabulary",
        depth_source="nobody/nothing",
        segmenter_source="nobody/nothing",
        local_files_only=True,
        fallback=True,
    )
    perceived = perception.perceive(Frames(still.rgb[9:12], still.camera[9:12], 9), remembered)
    assert (perceived.depth > 0).float().mean() > 0.9
    assert perceived.keep.float().mean() > 0.9
    assert "depth-anything is not usable here, memory is used instead" in perceived.notes[0]
    assert "open-vocabulary is not usable here, geometric is used instead" in perceived.notes[1]
    assert set(perceived.seconds) == {"depth", "filter"}


def test_chains_alignment_and_refinement(still: TrueClip, remembered: LatentMemory) -> None:
    perception = make_perception("sensor", "none", sensor_depth=still.depth * 0.5, align="scale", refine=True)
    assert isinstance(perception.depth, RefinedCamera)
    assert isinstance(perception.depth.estimator, AlignedDepth)
    perceived = perception.perceive(Frames(still.rgb[9:12], still.camera[9:12], 9), remembered)
    torch.testing.assert_close(perceived.depth, still.depth[9:12], rtol=0.02, atol=0)


def test_every_name_without_a_network_can_be_made(still: TrueClip) -> None:
    for depth in ("sensor", "joint", "memory"):
        for name in ("none", "geometric", "segmentation"):
            made = make_perception(
                depth, name, sensor_depth=still.depth, labels=torch.zeros(17, 128, 192, dtype=torch.uint8)
            )
            assert isinstance(made, Perception)
    assert {"sensor", "joint", "memory", "depth-anything", "map-anything", "unidepth"} == set(DEPTHS)
    assert {"none", "geometric", "segmentation", "open-vocabulary"} == set(FILTERS)


class Exhausted:
    """Networks for which there is no room."""

    def estimate(self, frames: Frames, memory: LatentMemory) -> DepthEstimate:
        raise torch.OutOfMemoryError("CUDA out of memory")

    def filter(self, frames: Frames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_out_of_memory_takes_the_fallback_for_the_chunk(still: TrueClip, remembered: LatentMemory) -> None:
    frames = Frames(still.rgb[9:11], still.camera[9:11], 9, joint_depth=still.depth[9:11])
    perception = Perception(Exhausted(), Exhausted(), fallback_depth=JointDepth(), fallback_filter=GeometricFilter())
    perceived = perception.perceive(frames, remembered)
    assert torch.equal(perceived.depth, still.depth[9:11])
    assert sum("out of memory" in note for note in perceived.notes) == 2
    with pytest.raises(torch.OutOfMemoryError):
        Perception(Exhausted(), Exhausted()).perceive(frames, remembered)


def test_given_depth_and_memory_depth_are_not_aligned_unless_asked(still: TrueClip) -> None:
    assert isinstance(make_perception("sensor", sensor_depth=still.depth).depth, SensorDepth)
    assert isinstance(make_perception("memory").depth, MemoryDepth)
