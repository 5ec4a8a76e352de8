"""Perception by name, as parameters of the node and options of the command line ask for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.given import JointDepth, NoFilter, SensorDepth
from mirage_ros.perception.mask_filter import MaskSource, SegmentationFilter
from mirage_ros.perception.memory_depth import MemoryDepth
from mirage_ros.perception.pipeline import Perception
from mirage_ros.perception.pose_refinement import Encode, RefinedCamera, RefineOptions
from mirage_ros.perception.pretrained import Loading, PerceptionUnavailableError
from mirage_ros.perception.protocols import DepthEstimator, DynamicFilter
from mirage_ros.perception.scale_alignment import MODES, AlignedDepth

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
    "segmentation": "masks that are given, by a simulator or another node",
    "open-vocabulary": "Qwen3-VL names what moves, SAM3 marks it",
}
ALIGNMENTS = ("auto", "none", *MODES)


def make_perception(
    depth: str = "memory",
    dynamic_filter: str = "geometric",
    *,
    device: torch.device | str = "cpu",
    align: str = "auto",
    refine: bool = False,
    refine_options: RefineOptions | None = None,
    encode: Encode | None = None,
    sensor_depth: Tensor | None = None,
    labels: Tensor | MaskSource | None = None,
    entities: Sequence[str] = (),
    depth_source: str | Path | None = None,
    namer_source: str | Path | None = None,
    segmenter_source: str | Path | None = None,
    dtype: torch.dtype | None = None,
    local_files_only: bool = False,
    joint: bool = False,
    fallback: bool = False,
) -> Perception:
    """Perception out of named parts; what a part needs is imported and loaded here, and only for the chosen ones.

    Args:
        depth: one of `DEPTHS`.
        dynamic_filter: one of `FILTERS`.
        device: where networks run.
        align: 'scale' or 'scale-shift' fits depth to the memory, 'none' leaves it; 'auto' takes 'scale' for metric
            estimators and 'scale-shift' for relative ones, and leaves sensor, joint and memory depth as they are.
        refine: correct cameras by alignment with the memory; for estimated poses.
        refine_options: bounds of the correction.
        encode: makes latents of frames, so that features are aligned too.
        sensor_depth: (N, H, W) metres of the trajectory, for 'sensor'.
        labels: masks of the trajectory or a callable, for 'segmentation'; see `SegmentationFilter`.
        entities: kinds of things that move, for 'open-vocabulary'; then no language model is loaded.
        depth_source, namer_source, segmenter_source: folders or hub repositories instead of the published ones.
        dtype: of networks' weights; half precision on CUDA by default.
        local_files_only: do not ask the hub.
        joint: whether the world model has depth channels; then they are the fallback of an estimator.
        fallback: where a network is not usable here, take 'joint' or 'memory' depth, or the geometric filter, and say
            so in every note, instead of raising. The same happens when memory runs out while a network works.

    Raises:
        ValueError: a name is unknown, or what a part must be given is missing; names the choices.
        PerceptionUnavailableError: a package or weights are missing, unless `fallback`.
    """
    _check(depth, DEPTHS, "depth")
    _check(dynamic_filter, FILTERS, "dynamic_filter")
    if align not in ALIGNMENTS:
        raise ValueError(f"align: expected one of {', '.join(ALIGNMENTS)}, got {align!r}")
    loading = Loading(device, dtype, local_files_only)
    notes: list[str] = []
    spare: DepthEstimator = JointDepth() if joint else MemoryDepth()
    spare_name = "joint" if joint else "memory"

    estimator: DepthEstimator
    try:
        estimator = _depth(depth, sensor_depth, depth_source, loading)
    except PerceptionUnavailableError as error:
        if not fallback:
            raise
        notes.append(f"depth: {depth} is not usable here, {spare_name} is used instead: {error}")
        estimator = spare
    metric = bool(getattr(estimator, "metric", True))
    own = isinstance(estimator, SensorDepth | JointDepth | MemoryDepth)
    mode = ("none" if own else "scale" if metric else "scale-shift") if align == "auto" else align
    if mode == "none" and not metric:
        raise ValueError(f"align: expected scale or scale-shift for {depth}, whose depth is relative, got 'none'")
    if mode != "none":
        estimator = AlignedDepth(estimator, mode, metric=metric)  # type: ignore[arg-type]
    if refine:
        estimator = RefinedCamera(estimator, encode, refine_options)

    try:
        chosen = _filter(dynamic_filter, labels, entities, namer_source, segmenter_source, loading)
    except PerceptionUnavailableError as error:
        if not fallback:
            raise
        notes.append(f"filter: {dynamic_filter} is not usable here, geometric is used instead: {error}")
        chosen = GeometricFilter()
    return Perception(
        estimator,
        chosen,
        notes=tuple(notes),
        fallback_depth=spare if fallback and depth != "sensor" else None,
        fallback_filter=GeometricFilter() if fallback else None,
    )


def _check(name: str, known: dict[str, str], field: str) -> None:
    if name not in known:
        raise ValueError(f"{field}: expected one of {', '.join(known)}, got {name!r}")


def _depth(
    name: str,
    given: Tensor | None,
    source: str | Path | None,
    loading: Loading,
) -> DepthEstimator:
    if name == "sensor":
        if given is None:
            raise ValueError("sensor_depth: expected (N, H, W) metres for the estimator 'sensor', got None")
        return SensorDepth(given)
    if name == "depth-anything":
        from mirage_ros.perception.depth_anything import INDOOR, DepthAnything

        return DepthAnything(source or INDOOR, loading)
    if name == "map-anything":
        from mirage_ros.perception.map_anything import MapAnythingDepth

        return MapAnythingDepth(source, loading)
    if name == "unidepth":
        from mirage_ros.perception.unidepth import UniDepth

        return UniDepth(source, loading)
    plain: dict[str, Callable[[], DepthEstimator]] = {"joint": JointDepth, "memory": MemoryDepth}
    return plain[name]()


def _filter(
    name: str,
    labels: Tensor | MaskSource | None,
    entities: Sequence[str],
    namer_source: str | Path | None,
    segmenter_source: str | Path | None,
    loading: Loading,
) -> DynamicFilter:
    if name == "none":
        return NoFilter()
    if name == "geometric":
        return GeometricFilter()
    if name == "segmentation":
        if labels is None:
            raise ValueError("labels: expected masks or a callable for the filter 'segmentation', got None")
        return SegmentationFilter(labels, fallback=GeometricFilter())
    from mirage_ros.perception.entities import QWEN, EntityNamer
    from mirage_ros.perception.open_vocabulary import FixedEntities, Namer, OpenVocabularyFilter
    from mirage_ros.perception.video_segmenter import SAM3, VideoSegmenter

    segmenter = VideoSegmenter(segmenter_source or SAM3, loading)
    namer: Namer = FixedEntities(entities) if entities else EntityNamer(namer_source or QWEN, loading)
    return OpenVocabularyFilter(namer, segmenter, GeometricFilter())
