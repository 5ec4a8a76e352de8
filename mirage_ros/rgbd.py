"""A picture with depth and camera: the one thing that cameras, recordings, simulator and imagination all give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mirage_ros.geometry import Camera

FrameType = TypeVar("FrameType", bound="RgbdFrame")


@dataclass(frozen=True, eq=False)
class RgbdFrame:
    """One frame, or a batch of them; `...` stands for the batch dimensions of the camera, mostly none or (T,).

    Attributes:
        rgb: (..., H, W, 3) uint8.
        depth: (..., H, W) float32 metres along the optical axis, +inf where it is too far to measure (REP-118), 0 or
            NaN where it is unknown; None where there is no depth at all.
        camera: (...) cameras of these pixels, with their poses.
        stamp: (...) int64 nanoseconds, or one for all.

    Raises:
        ValueError: a shape or type differs from these; the message names the field.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32] | None
    camera: Camera
    stamp: int | NDArray[np.int64] = 0

    def __post_init__(self) -> None:
        if not isinstance(self.camera, Camera):
            raise ValueError(f"camera: expected a Camera, got {type(self.camera).__name__}")
        size = (*self.camera.batch_shape, self.camera.height, self.camera.width)
        check_pixels("rgb", self.rgb, (*size, 3), np.uint8)
        if self.depth is not None:
            check_pixels("depth", self.depth, size, np.float32)
        if not np.issubdtype(np.asarray(self.stamp).dtype, np.integer):
            raise ValueError(f"stamp: expected whole nanoseconds, got {self.stamp!r}")
        if np.ndim(self.stamp) and np.shape(self.stamp) != tuple(self.camera.batch_shape):
            raise ValueError(f"stamp: expected {tuple(self.camera.batch_shape)} numbers, got {np.shape(self.stamp)}")

    def __len__(self) -> int:
        return len(self.camera)

    def __bool__(self) -> bool:
        # A single frame has no length, and is there.
        return True

    def __getitem__(self: FrameType, index: int | slice) -> FrameType:
        """Frames chosen along the first batch dimension."""
        if not self.camera.batch_shape:
            raise IndexError("a single frame cannot be indexed")
        chosen: dict[str, Any] = {}
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            if isinstance(value, Camera) or (isinstance(value, np.ndarray) and value.ndim):
                chosen[name] = value[index]
        if isinstance(chosen.get("stamp"), np.integer):
            chosen["stamp"] = int(chosen["stamp"])
        return replace(self, **chosen)

    def __iter__(self: FrameType) -> Iterator[FrameType]:
        return (self[index] for index in range(len(self)))

    @staticmethod
    def stacked(frames: Sequence[RgbdFrame]) -> RgbdFrame:
        """Single frames of one size as a batch (T,).

        Raises:
            ValueError: there is no frame, sizes differ, or only some have depth.
        """
        if not frames:
            raise ValueError("frames: expected at least one, got none")
        sizes = {(frame.camera.height, frame.camera.width) for frame in frames}
        if len(sizes) > 1:
            raise ValueError(f"frames: expected one size, got {sorted(sizes)}")
        depths = [frame.depth for frame in frames if frame.depth is not None]
        if len(depths) not in (0, len(frames)):
            raise ValueError(f"frames: expected depth in all or none, got {len(depths)} of {len(frames)}")
        return RgbdFrame(
            np.stack([frame.rgb for frame in frames]),
            np.stack(depths) if depths else None,
            Camera.stacked([frame.camera for frame in frames]),
            np.array([frame.stamp for frame in frames], np.int64),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class ImaginedFrame(RgbdFrame):
    """A frame that was imagined, or read out of a memory, and how much of it was known.

    Attributes:
        visible: (..., H, W) float32, 0 where it was invented or nothing is known, 1 where the memory showed something
            before the trajectory: what a camera saw, or what was invented and remembered before.
        coverage: (...) float32 share of the view that the memory knew.
        uncertainty: (..., H, W) float32 metres, standard deviation of depth; +inf where depth is, NaN where there is
            none. None where nobody estimated it.

    There is always depth.
    """

    depth: NDArray[np.float32] = field(kw_only=False)

    visible: NDArray[np.float32]
    coverage: NDArray[np.float32]
    uncertainty: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        size = (*self.camera.batch_shape, self.camera.height, self.camera.width)
        check_pixels("visible", self.visible, size, np.float32)
        if self.uncertainty is not None:
            check_pixels("uncertainty", self.uncertainty, size, np.float32)
        if np.shape(self.coverage) != tuple(self.camera.batch_shape):
            raise ValueError(
                f"coverage: expected {tuple(self.camera.batch_shape)} numbers, got {np.shape(self.coverage)}"
            )

    @staticmethod
    def joined(parts: Sequence[ImaginedFrame]) -> ImaginedFrame:
        """Batches (T,) of one size, one after the other; uncertainty where all of them have it."""
        names = ["rgb", "depth", "visible", "coverage"]
        names += ["uncertainty"] if all(part.uncertainty is not None for part in parts) else []
        values = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return ImaginedFrame(**values, camera=Camera.joined([part.camera for part in parts]))


def check_pixels(name: str, values: NDArray[np.generic], shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Refuse an array of another shape or type.

    Raises:
        ValueError: it differs; names the field.
    """
    if not isinstance(values, np.ndarray):
        raise ValueError(f"{name}: expected a numpy array {shape} {np.dtype(dtype)}, got {type(values).__name__}")
    if values.shape != shape or values.dtype != dtype:
        raise ValueError(f"{name}: expected {shape} {np.dtype(dtype)}, got {values.shape} {values.dtype}")
