"""Step three of the method: depth and camera of decoded frames, then what of them may be remembered."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from time import perf_counter

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.pretrained import PerceptionUnavailableError
from mirage_ros.perception.protocols import DepthEstimate, DepthEstimator, DynamicFilter, Frames, KeepMask

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Perceived:
    """What the memory is told of decoded frames.

    Attributes:
        depth: (T, H, W) float32 metres; +inf where it is too far to tell, NaN or 0 where unknown.
        camera: (T,) cameras at H x W.
        keep: (T, H, W) bool.
        notes: fallbacks and their reasons.
        seconds: wall time of 'depth' (with alignment and cameras) and 'filter'.
    """

    depth: Tensor
    camera: Camera
    keep: Tensor
    notes: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


class Perception:
    """A depth estimator and a filter, used in the paper's order.

    Args:
        depth: estimates depth and, if it can, cameras.
        dynamic_filter: masks moving things and sky.
        notes: added to those of every chunk, such as which part was replaced when this was made.
        fallback_depth, fallback_filter: used for chunks for which a network finds no memory on its device, or is not
            usable after all; without, the error goes to the caller.
    """

    def __init__(
        self,
        depth: DepthEstimator,
        dynamic_filter: DynamicFilter,
        *,
        notes: tuple[str, ...] = (),
        fallback_depth: DepthEstimator | None = None,
        fallback_filter: DynamicFilter | None = None,
    ) -> None:
        self.depth, self.dynamic_filter, self.notes = depth, dynamic_filter, notes
        self.fallback_depth, self.fallback_filter = fallback_depth, fallback_filter
        for note in notes:
            logger.warning("%s", note)

    def perceive(self, frames: Frames, memory: LatentMemory) -> Perceived:
        """Depth, cameras and keep mask of frames; the memory is only read."""
        start = perf_counter()
        estimate = self._estimate(frames, memory)
        middle = _now(frames.rgb)
        mask = self._filter(frames, estimate, memory)
        seconds = {"depth": middle - start, "filter": _now(frames.rgb) - middle}
        return Perceived(
            estimate.depth, estimate.camera, mask.keep, (*self.notes, *estimate.notes, *mask.notes), seconds
        )

    def _estimate(self, frames: Frames, memory: LatentMemory) -> DepthEstimate:
        try:
            return self.depth.estimate(frames, memory)
        except (torch.OutOfMemoryError, PerceptionUnavailableError) as error:
            if self.fallback_depth is None:
                raise
            note = f"depth: {_reason(error)}; {type(self.fallback_depth).__name__} is used for this chunk"
        # Outside of the except clause, whose traceback holds on to the memory that was lacking.
        _release(frames.rgb)
        instead = self.fallback_depth.estimate(frames, memory)
        return DepthEstimate(instead.depth, instead.camera, (*instead.notes, note))

    def _filter(self, frames: Frames, estimate: DepthEstimate, memory: LatentMemory) -> KeepMask:
        try:
            return self.dynamic_filter.filter(frames, estimate, memory)
        except (torch.OutOfMemoryError, PerceptionUnavailableError) as error:
            if self.fallback_filter is None:
                raise
            note = f"filter: {_reason(error)}; {type(self.fallback_filter).__name__} is used for this chunk"
        _release(frames.rgb)
        instead = self.fallback_filter.filter(frames, estimate, memory)
        return KeepMask(instead.keep, (*instead.notes, note))


def _reason(error: Exception) -> str:
    return "out of memory on the device" if isinstance(error, torch.OutOfMemoryError) else str(error)


def _release(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.empty_cache()


def _now(tensor: Tensor) -> float:
    """The time when all work on the tensor's device is done."""
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
    return perf_counter()
