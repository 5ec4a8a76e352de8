"""A clip: what a camera saw on a short walk, from whatever source, and clips cut out of recorded walks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.images import fit
from mirage_ros.rgbd import RgbdFrame, check_pixels

# Classes of a pixel.
STATIC, MOVING, SKY = 0, 1, 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Clip(RgbdFrame):
    """Frames (T,) of one walk, in order.

    Attributes:
        depth: (T, H, W) float32 metres along the optical axis, 0 where unknown and in the sky.
        name: of the walk; unique within a data set.
        labels: (T, H, W) uint8: static, moving or sky. Where nothing is known of movement everything is static.
        fps: frames a second.
        prompt: what is to be seen, in words; for models that take text.

    Raises:
        ValueError: shapes or types differ from these; the message names the field.
    """

    depth: NDArray[np.float32]
    name: str
    labels: NDArray[np.uint8]
    fps: float
    prompt: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pixels("labels", self.labels, self.rgb.shape[:-1], np.uint8)
        if not self.fps > 0:
            raise ValueError(f"fps: expected frames a second above zero, got {self.fps}")
        if self.labels.size and self.labels.max() > SKY:
            raise ValueError(f"labels: expected 0 static, 1 moving or 2 sky, got {self.labels.max()}")

    @property
    def keep(self) -> NDArray[np.bool_]:
        """(T, H, W) what may go into a memory: static, with a depth."""
        return (self.labels == STATIC) & np.isfinite(self.depth) & (self.depth > 0)

    @property
    def sensed(self) -> NDArray[np.float32]:
        """(T, H, W) depth as a camera tells it: metres, +inf in the sky (REP-118), 0 where unknown."""
        return np.where(self.labels == SKY, np.float32(np.inf), self.depth)

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
        if not (0 <= top <= top + height <= self.camera.height and 0 <= left <= left + width <= self.camera.width):
            raise ValueError(f"window: expected inside {self.rgb.shape[1:3]}, got {(top, left, height, width)}")
        window = np.s_[:, top : top + height, left : left + width]
        camera = self.camera.cropped(top, left, height, width)
        return replace(self, rgb=self.rgb[window], depth=self.depth[window], labels=self.labels[window], camera=camera)


def clips_of(
    frames: Iterator[RgbdFrame], name: str, count: int, height: int, width: int, skip: int = 1, prompt: str = ""
) -> Iterator[Clip]:
    """Cut a walk into clips of one length and size; a rest that is too short is left out.

    Args:
        frames: in order, with stamps.
        name: of the walk.
        count: frames of a clip.
        height, width: pixels that frames are fitted to.
        skip: only every so many-th frame is taken.
        prompt: of the clips.

    Raises:
        ValueError: an argument is out of range.
    """
    if count < 1 or skip < 1:
        raise ValueError(f"count, skip: expected whole numbers from 1, got {count} and {skip}")
    held: list[RgbdFrame] = []
    number = 0
    for index, frame in enumerate(frames):
        if index % skip:
            continue
        held.append(fit(frame, height, width))
        if len(held) < count:
            continue
        walk = RgbdFrame.stacked(held)
        depth = np.zeros(walk.rgb.shape[:3], np.float32) if walk.depth is None else walk.depth
        # Too far to measure (REP-118).
        sky = np.isposinf(depth)
        nanoseconds = int(held[-1].stamp) - int(held[0].stamp)
        yield Clip(
            rgb=walk.rgb,
            depth=np.where(sky, np.float32(0), depth),
            camera=walk.camera.to(dtype=torch.float32),
            name=f"{name}-{number:04d}",
            labels=np.where(sky, np.uint8(SKY), np.uint8(STATIC)),
            fps=(count - 1) * 1e9 / nanoseconds if nanoseconds > 0 else 1.0,
            prompt=prompt,
        )
        held, number = [], number + 1
