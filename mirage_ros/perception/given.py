"""Perception that is told rather than estimated: depth of a sensor or simulator, the model's own depth, no filter."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.protocols import DepthEstimate, Frames, KeepMask


class SensorDepth:
    """Depth that is known beforehand for every frame of the trajectory.

    Args:
        depth: (N, H, W) float metres of the whole trajectory.
    """

    def __init__(self, depth: Tensor) -> None:
        if depth.ndim != 3 or not depth.is_floating_point():
            raise ValueError(f"depth: expected (N, H, W) floating-point metres, got {tuple(depth.shape)} {depth.dtype}")
        self._depth = depth

    def estimate(self, frames: Frames, memory: LatentMemory) -> DepthEstimate:
        """The depth of these frames.

        Raises:
            ValueError: there is none for some of them, or it has another size than the frames.
        """
        count, _, height, width = frames.rgb.shape
        depth = self._depth[frames.first : frames.first + count]
        if tuple(depth.shape) != (count, height, width):
            raise ValueError(
                f"depth: expected {height}x{width} for frames {frames.first} to {frames.first + count - 1}, "
                f"got {tuple(self._depth.shape)} for the whole trajectory"
            )
        return DepthEstimate(depth.to(frames.rgb.device, torch.float32), frames.camera)


# Metres: what the default model says to be further is sky, or may be.
FAR = 25.0


class JointDepth:
    """Depth that the world model denoised together with the frames.

    Args:
        far: metres; what is further is too far to tell. Models are trained with sky at `log_depth.SKY_DEPTH`.
    """

    def __init__(self, far: float = FAR) -> None:
        if not far > 0:
            raise ValueError(f"far: expected positive metres, got {far}")
        self._far = far

    def estimate(self, frames: Frames, memory: LatentMemory) -> DepthEstimate:
        """The frames' joint depth, +inf beyond `far`; of frames that have none, NaN.

        Raises:
            ValueError: the preset has no depth channels.
        """
        if frames.joint_depth is None:
            raise ValueError("depth: expected a preset with depth channels for the estimator 'joint', choose another")
        depth = torch.where(frames.joint_depth > self._far, torch.inf, frames.joint_depth)
        return DepthEstimate(depth, frames.camera)


class NoFilter:
    """Everything may be remembered."""

    def filter(self, frames: Frames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """All true."""
        return KeepMask(torch.ones_like(depth.depth, dtype=torch.bool))
