"""A clip: what a camera saw on a short walk, from whatever source."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera

# Classes of a pixel; the simulator's `Label`.
STATIC, MOVING, SKY = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Clip:
    """Frames of one walk, in order.

    Attributes:
        name: of the walk; unique within a data set.
        rgb: (T, H, W, 3) uint8.
        depth: (T, H, W) float32 metres along the optical axis, 0 where unknown.
        labels: (T, H, W) uint8: static, moving or sky. Where nothing is known of movement everything is static.
        camera: (T,) intrinsics (centre convention) and poses.
        fps: frames a second.
        prompt: what is to be seen, in words; for models that take text.

    Raises:
        ValueError: shapes or types differ from these; the message names the field.
    """

    name: str
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    camera: Camera
    fps: float
    prompt: str = ""

    def __post_init__(self) -> None:
        shape = self.rgb.shape[:3]
        if self.rgb.ndim != 4 or self.rgb.shape[3] != 3 or self.rgb.dtype != np.uint8:
            raise ValueError(f"rgb: expected (T, H, W, 3) uint8, got {self.rgb.shape} {self.rgb.dtype}")
        for name, dtype in (("depth", np.float32), ("labels", np.uint8)):
            value = getattr(self, name)
            if value.shape != shape or value.dtype != dtype:
                raise ValueError(f"{name}: expected {shape} {np.dtype(dtype)}, got {value.shape} {value.dtype}")
        if tuple(self.camera.batch_shape) != shape[:1] or (self.camera.height, self.camera.width) != shape[1:]:
            raise ValueError(
                f"camera: expected {shape[0]} of {shape[1]}x{shape[2]} pixels, got {tuple(self.camera.batch_shape)} "
                f"of {self.camera.height}x{self.camera.width}"
            )
        if not self.fps > 0:
            raise ValueError(f"fps: expected frames a second above zero, got {self.fps}")
        if self.labels.size and self.labels.max() > SKY:
            raise ValueError(f"labels: expected 0 static, 1 moving or 2 sky, got {self.labels.max()}")

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def keep(self) -> NDArray[np.bool_]:
        """(T, H, W) what may go into a memory: static, with a depth."""
        return (self.labels == STATIC) & np.isfinite(self.depth) & (self.depth > 0)

    @property
    def sensed(self) -> NDArray[np.float32]:
        """(T, H, W) depth as a camera tells it: metres, +inf in the sky (REP-118), 0 where unknown."""
        return np.where(self.labels == SKY, np.float32(np.inf), self.depth)

    def select(self, frames: NDArray[np.int64]) -> Clip:
        """These frames, in this order."""
        index = torch.from_numpy(np.asarray(frames, dtype=np.int64))
        rgb, depth, labels = self.rgb[frames], self.depth[frames], self.labels[frames]
        return replace(self, rgb=rgb, depth=depth, labels=labels, camera=self.camera[index])

    def mirrored(self) -> Clip:
        """The clip in a mirror: pictures flipped left to right, in the world whose x axis points the other way."""
        mirror = torch.diag(torch.tensor([-1.0, 1.0, 1.0, 1.0])).to(self.camera.cam2world)
        intrinsics = self.camera.intrinsics.clone()
        intrinsics[..., 0, 2] = self.camera.width - intrinsics[..., 0, 2]
        intrinsics[..., 0, 1] = -intrinsics[..., 0, 1]
        camera = Camera(intrinsics, mirror @ self.camera.cam2world @ mirror, self.camera.height, self.camera.width)
        rgb, labels = np.ascontiguousarray(self.rgb[:, :, ::-1]), np.ascontiguousarray(self.labels[:, :, ::-1])
        depth = np.ascontiguousarray(self.depth[:, :, ::-1])
        return replace(self, rgb=rgb, depth=depth, labels=labels, camera=camera)

    def cropped(self, top: int, left: int, height: int, width: int) -> Clip:
        """A window of every frame."""
        if not (0 <= top <= top + height <= self.rgb.shape[1] and 0 <= left <= left + width <= self.rgb.shape[2]):
            raise ValueError(f"window: expected inside {self.rgb.shape[1:3]}, got {(top, left, height, width)}")
        rows, columns = slice(top, top + height), slice(left, left + width)
        camera = self.camera.cropped(top, left, height, width)
        rgb, depth, labels = (
            self.rgb[:, rows, columns],
            self.depth[:, rows, columns],
            self.labels[:, rows, columns],
        )
        return replace(self, rgb=rgb, depth=depth, labels=labels, camera=camera)
