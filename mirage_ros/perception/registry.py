"""Perception by name, as parameters of the node and options of the command line ask for it."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.memory_depth import MemoryDepth
from mirage_ros.perception.pipeline import (
    DepthEstimator,
    DynamicFilter,
    JointDepth,
    NoFilter,
    Perception,
    SensorDepth,
)
from mirage_ros.perception.scale_alignment import AlignedDepth

DEPTHS: dict[str, str] = {
    "sensor": "depth that was given for every frame",
    "joint": "depth that the world model denoises with the frames",
    "memory": "depth of the memory, filled along the frames' colours",
    "depth-anything": "Depth Anything V2 of transformers, relative or metric",
    "map-anything": "MapAnything, from its package mapanything",
    "unidepth": "UniDepth V2, from its package unidepth",
}
FILTERS: dict[str, str] = {
    "none": "everything is remembered",
    "geometric": "what other frames and the memory see through; needs no network",
    "open-vocabulary": "Qwen3-VL names what moves, SAM3 marks it",
}


def make_perception(
    depth: str = "memory",
    dynamic_filter: str = "geometric",
    *,
    device: torch.device | str = "cpu",
    sensor_depth: Tensor | None = None,
    depth_source: str | Path | None = None,
    namer_source: str | Path | None = None,
    segmenter_source: str | Path | None = None,
) -> Perception:
    """Perception out of named parts; what a part needs is imported and loaded here, and only for the chosen ones.

    Depth of a network is fitted to the memory: its scale, and its shift too where it is relative.

    Args:
        depth: one of `DEPTHS`.
        dynamic_filter: one of `FILTERS`.
        device: where networks run.
        sensor_depth: (N, H, W) metres of the trajectory, for 'sensor'.
        depth_source, namer_source, segmenter_source: folders or hub repositories instead of the published ones.

    Raises:
        ValueError: a name is unknown, or what a part must be given is missing; names the choices.
        MissingWeightsError: a network's weights are missing.
        PerceptionUnavailableError: a package is missing, or the weights are those of another network.
    """
    for field, name, known in (("depth", depth, DEPTHS), ("dynamic_filter", dynamic_filter, FILTERS)):
        if name not in known:
            raise ValueError(f"{field}: expected one of {', '.join(known)}, got {name!r}")
    estimator = _depth(depth, sensor_depth, depth_source, device)
    return Perception(estimator, _filter(dynamic_filter, namer_source, segmenter_source, device))


def _depth(name: str, given: Tensor | None, source: str | Path | None, device: torch.device | str) -> DepthEstimator:
    if name == "sensor":
        if given is None:
            raise ValueError("sensor_depth: expected (N, H, W) metres for the estimator 'sensor', got None")
        return SensorDepth(given)
    if name == "joint":
        return JointDepth()
    if name == "memory":
        return MemoryDepth()
    if name == "depth-anything":
        from mirage_ros.perception.depth_anything import INDOOR, DepthAnything

        estimator = DepthAnything(source or INDOOR, device)
        return AlignedDepth(estimator, metric=estimator.metric)
    if name == "map-anything":
        from mirage_ros.perception.packaged_depth import MapAnythingDepth

        return AlignedDepth(MapAnythingDepth(source, device))
    from mirage_ros.perception.packaged_depth import UniDepth

    return AlignedDepth(UniDepth(source, device))


def _filter(
    name: str, namer_source: str | Path | None, segmenter_source: str | Path | None, device: torch.device | str
) -> DynamicFilter:
    if name == "none":
        return NoFilter()
    if name == "geometric":
        return GeometricFilter()
    from mirage_ros.perception.open_vocabulary import QWEN, EntityNamer, OpenVocabularyFilter
    from mirage_ros.perception.video_segmenter import SAM3, VideoSegmenter

    segmenter = VideoSegmenter(segmenter_source or SAM3, device)
    return OpenVocabularyFilter(EntityNamer(namer_source or QWEN, device), segmenter, GeometricFilter())
