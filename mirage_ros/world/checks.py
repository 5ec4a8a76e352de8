"""What is refused at the border of the world model, before any work and before anything goes to its device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import Depth, Image, check_depth, check_image
from mirage_ros.world.chunk_plan import Span, plan_chunks
from mirage_ros.world.networks import Parts
from mirage_ros.world.reading import ReadableMemory

# Share by which the shapes of the first view and of the trajectory's cameras may differ.
SHAPE_TOLERANCE = 0.02


def check_cameras(trajectory: Camera) -> None:
    """Refuse anything but one batch of cameras.

    Raises:
        TypeError, ValueError: see above.
    """
    if not isinstance(trajectory, Camera):
        raise TypeError(f"trajectory: expected a geometry.Camera of (T,) views, got {type(trajectory).__name__}")
    if len(trajectory.batch_shape) != 1 or not len(trajectory):
        raise ValueError(f"trajectory: expected (T,) cameras, T >= 1, got batch {tuple(trajectory.batch_shape)}")


def check_trajectory(parts: Parts, trajectory: Camera) -> list[Span]:
    """The chunks of a trajectory.

    Raises:
        ValueError: it is not one batch of cameras, or no rollout has its length.
    """
    check_cameras(trajectory)
    return plan_chunks(len(trajectory), parts.preset.chunk_frames, parts.autoencoder.strides[0])


def check_memory(parts: Parts, memory: ReadableMemory) -> None:
    """Refuse a memory that this model cannot read.

    Raises:
        TypeError: it cannot be read at all.
        ValueError: its tokens have another number of channels, or it is on another device.
    """
    if not callable(getattr(memory, "read", None)):
        raise TypeError(f"memory: expected a LatentMemory, got {type(memory).__name__}")
    # A cache of pixels has no channels of its own.
    channels = getattr(memory, "channels", parts.autoencoder.channels)
    if channels != parts.autoencoder.channels:
        raise ValueError(f"memory: expected {parts.autoencoder.channels} channels, got {channels}")
    place = torch.device(getattr(memory, "device", parts.device))
    if place.type != parts.device.type or (place.index or 0) != (parts.device.index or 0):
        raise ValueError(f"memory: expected it on {parts.device} like the model, got {place}")


def check_not_empty(memory: ReadableMemory, first: Image | None) -> None:
    """Refuse to imagine out of nothing.

    Raises:
        ValueError: the memory is empty and no first view is given.
    """
    if not len(memory) and first is None:
        raise ValueError("memory: expected at least one observation, or the first view, got an empty memory")


def check_first(
    parts: Parts, first: Image | None, depth: Depth | None, trajectory: Camera
) -> tuple[Tensor | None, Tensor | None]:
    """The view of the first camera, (H, W, 3) uint8, and its depth (H', W') float32, where they are given.

    Raises:
        ValueError: one is no such image, its shape is not that of the cameras, or there is depth alone.
    """
    if first is None:
        if depth is not None:
            raise ValueError("first_depth: expected with first, the view that it belongs to, got it alone")
        return None, None
    metres = None if depth is None else check_depth("first_depth", depth)
    if metres is not None:
        check_shape("first_depth", metres, trajectory)
    image = check_image("first", first, parts.autoencoder.strides[1:])
    if abs(image.shape[1] / image.shape[0] * trajectory.height / trajectory.width - 1) > SHAPE_TOLERANCE:
        raise ValueError(
            f"first: expected the shape of the trajectory's cameras, {trajectory.height}x{trajectory.width}, "
            f"got {image.shape[0]}x{image.shape[1]}"
        )
    return image, metres


def check_stamps(stamps: Sequence[int] | None, trajectory: Camera) -> list[int]:
    """Nanoseconds of each frame; zeros where none are given.

    Raises:
        ValueError: their number is not that of the cameras, or one is no stamp.
    """
    if stamps is None:
        return [0] * len(trajectory)
    if len(stamps) != len(trajectory):
        raise ValueError(f"stamps: expected {len(trajectory)}, one for each camera, got {len(stamps)}")
    for stamp in stamps:
        check_stamp("stamps", stamp)
    return [int(stamp) for stamp in stamps]


def check_stamp(name: str, stamp: int) -> None:
    """Refuse anything but nanoseconds that a memory can keep.

    Raises:
        ValueError: see above.
    """
    if isinstance(stamp, bool) or not isinstance(stamp, int | np.integer) or not 0 <= stamp < 2**63:
        raise ValueError(f"{name}: expected whole nanoseconds from 0, below 2^63, got {stamp!r}")


def check_shape(name: str, image: Tensor, camera: Camera) -> None:
    """Refuse an image (H, W, ...) whose shape is not that of its camera, whatever its resolution.

    Raises:
        ValueError: see above.
    """
    rows, columns = image.shape[:2]
    # A pixel more or less is the rounding of small images.
    slack = max(SHAPE_TOLERANCE, 1 / min(rows, columns))
    if abs(columns / rows * camera.height / camera.width - 1) > slack:
        raise ValueError(
            f"{name}: expected the shape of the camera, {camera.height}x{camera.width}, at any resolution, "
            f"got {rows}x{columns}"
        )
