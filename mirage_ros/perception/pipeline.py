"""Step three of the method: depth and camera of decoded frames, then what of them may be remembered."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.protocols import DepthEstimator, DynamicFilter, Frames


@dataclass(frozen=True, eq=False)
class Perceived:
    """What the memory is told of decoded frames.

    Attributes:
        depth: (T, H, W) float32 metres; NaN or 0 where unknown.
        camera: (T,) cameras at H x W.
        keep: (T, H, W) bool.
        notes: fallbacks and their reasons.
    """

    depth: Tensor
    camera: Camera
    keep: Tensor
    notes: tuple[str, ...] = ()


class Perception:
    """A depth estimator and a filter, used in the paper's order.

    Args:
        depth: estimates depth and, if it can, cameras.
        dynamic_filter: masks moving things and sky.
    """

    def __init__(self, depth: DepthEstimator, dynamic_filter: DynamicFilter) -> None:
        self.depth, self.dynamic_filter = depth, dynamic_filter

    def perceive(self, frames: Frames, memory: LatentMemory) -> Perceived:
        """Depth, cameras and keep mask of frames; the memory is only read."""
        estimate = self.depth.estimate(frames, memory)
        mask = self.dynamic_filter.filter(frames, estimate, memory)
        return Perceived(estimate.depth, estimate.camera, mask.keep, estimate.notes + mask.notes)
