"""Perception by name: choices, and what is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mirage_ros.bench.perception import TrueClip
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.models.network_files import MissingWeightsError
from mirage_ros.perception.memory_depth import MemoryDepth
from mirage_ros.perception.open_vocabulary import OpenVocabularyFilter
from mirage_ros.perception.pipeline import DecodedFrames, SensorDepth
from mirage_ros.perception.pretrained import MissingExtraError
from mirage_ros.perception.registry import DEPTHS, FILTERS, make_perception
from mirage_ros.perception.scale_alignment import AlignedDepth


def test_unknown_names_list_the_choices() -> None:
    with pytest.raises(ValueError, match="depth: expected one of sensor, joint, memory.*'lidar'"):
        make_perception("lidar")
    with pytest.raises(ValueError, match="dynamic_filter: expected one of none, geometric.*'magic'"):
        make_perception("memory", "magic")


def test_parts_that_must_be_given_are_asked_for() -> None:
    with pytest.raises(ValueError, match="sensor_depth"):
        make_perception("sensor")


@pytest.mark.parametrize(("name", "command"), [("map-anything", r"mirage_ros\[depth\]"), ("unidepth", "UniDepth")])
def test_missing_packages_are_named_with_what_installs_them(name: str, command: str) -> None:
    with pytest.raises(MissingExtraError, match=command):
        make_perception(name)


def test_missing_weights_are_an_error(offline: None) -> None:
    with pytest.raises(MissingWeightsError):
        make_perception("depth-anything", depth_source="nobody/nothing")
    with pytest.raises(MissingWeightsError):
        make_perception("memory", "open-vocabulary", segmenter_source="nobody/nothing")


def test_depth_of_networks_is_aligned_and_given_depth_is_not(still: TrueClip, depth_anything_folder: Any) -> None:
    assert isinstance(make_perception("sensor", sensor_depth=still.depth).depth, SensorDepth)
    assert isinstance(make_perception("memory").depth, MemoryDepth)
    for kind in ("metric", "relative"):
        aligned = make_perception("depth-anything", depth_source=depth_anything_folder(kind)).depth
        assert isinstance(aligned, AlignedDepth)
        assert aligned.metric == (kind == "metric")


def test_open_vocabulary_is_made_of_two_networks(qwen_folder: Path, sam_folder: Path) -> None:
    made = make_perception("memory", "open-vocabulary", namer_source=qwen_folder, segmenter_source=sam_folder)
    assert isinstance(made.dynamic_filter, OpenVocabularyFilter)


def test_every_name_without_a_network_can_be_made(still: TrueClip, remembered: LatentMemory) -> None:
    frames = DecodedFrames(still.rgb[9:12], still.camera[9:12], 9, joint_depth=still.depth[9:12])
    for depth in ("sensor", "joint", "memory"):
        for name in ("none", "geometric"):
            perceived = make_perception(depth, name, sensor_depth=still.depth).perceive(frames, remembered)
            assert (perceived.depth > 0).float().mean() > 0.9
            assert perceived.keep.float().mean() > 0.9
    assert {"sensor", "joint", "memory", "depth-anything", "map-anything", "unidepth"} == set(DEPTHS)
    assert {"none", "geometric", "open-vocabulary"} == set(FILTERS)
