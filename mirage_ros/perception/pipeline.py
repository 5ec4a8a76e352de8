"""Step three of the method: depth and camera of decoded frames, then what of them may be remembered.

What is asked of depth estimators and of filters of moving things and sky; those that are told rather than estimate;
and the order in which they are used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory

# Metres: what a model says to be further is too far to tell. Models are trained with sky at `log_depth.SKY_DEPTH`.
FAR = 25.0


@dataclass(frozen=True, eq=False)
class DecodedFrames:
    """Decoded frames in the order of their trajectory.

    Attributes:
        rgb: (T, 3, H, W) float32 0..1.
        camera: (T,) cameras at H x W, where the frames were meant to be seen from.
        first: place of the first of them in the trajectory, for estimators that were given depth beforehand.
        joint_depth: (T, H, W) float32 metres that the world model denoised together with the frames; None where the
            preset has no depth channels.
        step: places from each of them to the next.
    """

    rgb: Tensor
    camera: Camera
    first: int = 0
    joint_depth: Tensor | None = None
    step: int = 1


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

    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Estimate; the memory, as it was when the chunk was begun, is only read."""
        ...


class DynamicFilter(Protocol):
    """Keeps moving things and sky out of the memory."""

    def filter(self, frames: DecodedFrames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """Judge every pixel; the memory is only read."""
        ...


class SensorDepth:
    """Depth that is known beforehand for every frame of the trajectory, from a sensor or a simulator.

    Args:
        depth: (N, H, W) float metres of the whole trajectory.
    """

    def __init__(self, depth: Tensor) -> None:
        if depth.ndim != 3 or not depth.is_floating_point():
            raise ValueError(f"depth: expected (N, H, W) floating-point metres, got {tuple(depth.shape)} {depth.dtype}")
        self._depth = depth

    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """The depth of these frames.

        Raises:
            ValueError: there is none for some of them, or it has another size than the frames.
        """
        count, _, height, width = frames.rgb.shape
        depth = self._depth[frames.first :: frames.step][:count]
        if tuple(depth.shape) != (count, height, width):
            raise ValueError(
                f"depth: expected {height}x{width} for {count} frames from {frames.first} on, "
                f"got {tuple(self._depth.shape)} for the whole trajectory"
            )
        return DepthEstimate(depth.to(frames.rgb.device, torch.float32), frames.camera)


class JointDepth:
    """Depth that the world model denoised together with the frames."""

    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """The frames' joint depth, +inf beyond `FAR`; of frames that have none, NaN.

        Raises:
            ValueError: the preset has no depth channels.
        """
        if frames.joint_depth is None:
            raise ValueError("depth: expected a preset with depth channels for the estimator 'joint', choose another")
        depth = torch.where(frames.joint_depth > FAR, torch.inf, frames.joint_depth)
        return DepthEstimate(depth, frames.camera)


class NoFilter:
    """Everything may be remembered."""

    def filter(self, frames: DecodedFrames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """All true."""
        return KeepMask(torch.ones_like(depth.depth, dtype=torch.bool))


@dataclass(frozen=True, eq=False)
class Perceived:
    """What the memory is told of decoded frames.

    Attributes:
        depth: (T, H, W) float32 metres; +inf where it is too far to tell, NaN or 0 where unknown.
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

    def perceive(self, frames: DecodedFrames, memory: LatentMemory) -> Perceived:
        """Depth, cameras and keep mask of frames; the memory is only read."""
        estimate = self.depth.estimate(frames, memory)
        mask = self.dynamic_filter.filter(frames, estimate, memory)
        return Perceived(estimate.depth, estimate.camera, mask.keep, (*estimate.notes, *mask.notes))
