"""What the rollout asks of depth estimators and of filters of moving things and sky."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent_memory import LatentMemory


@dataclass(frozen=True, eq=False)
class Frames:
    """Decoded frames in the order of their trajectory.

    Attributes:
        rgb: (T, 3, H, W) float32 0..1.
        camera: (T,) cameras at H x W, where the frames were meant to be seen from.
        first: place of the first of them in the trajectory, for estimators that were given depth beforehand.
        joint_depth: (T, H, W) float32 metres that the world model denoised together with the frames; None where the
            preset has no depth channels.
    """

    rgb: Tensor
    camera: Camera
    first: int = 0
    joint_depth: Tensor | None = None


@dataclass(frozen=True, eq=False)
class DepthEstimate:
    """Depth of frames, in the scale of the memory.

    Attributes:
        depth: (T, H, W) float32 metres along the optical axis; +inf where it is too far to tell, NaN or 0 where it is
            unknown.
        camera: (T,) cameras at H x W; those of the frames unless the estimator refined them.
        notes: what a user should know, such as a fallback and its reason; empty when all went as asked.
    """

    depth: Tensor
    camera: Camera
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class KeepMask:
    """What may be written.

    Attributes:
        keep: (T, H, W) bool, false on moving things and sky.
        notes: as in `DepthEstimate`.
    """

    keep: Tensor
    notes: tuple[str, ...] = ()


class DepthEstimator(Protocol):
    """Depth, and optionally refined cameras, of decoded frames."""

    def estimate(self, frames: Frames, memory: LatentMemory) -> DepthEstimate:
        """Estimate; the memory, as it was when the chunk was begun, is only read."""
        ...


class DynamicFilter(Protocol):
    """Keeps moving things and sky out of the memory."""

    def filter(self, frames: Frames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """Judge every pixel; the memory is only read."""
        ...
