"""What is refused at the border of the world model, before any work and before anything goes to its device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import as_tensor, check_depth, check_shape
from mirage_ros.memory.provenance import IMAGINATION, SourceFrame
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.world.networks import Networks


def check_cameras(trajectory: Camera) -> None:
    """Refuse anything but one batch of cameras.

    Raises:
        TypeError, ValueError: see above.
    """
    if not isinstance(trajectory, Camera):
        raise TypeError(f"trajectory: expected a geometry.Camera of (T,) views, got {type(trajectory).__name__}")
    if len(trajectory.batch_shape) != 1 or not len(trajectory):
        raise ValueError(f"trajectory: expected (T,) cameras, T >= 1, got batch {tuple(trajectory.batch_shape)}")


def check_memory(networks: Networks, memory: object) -> None:
    """Refuse a memory that this model cannot read.

    Raises:
        TypeError: it cannot be read at all.
        ValueError: its tokens have another number of channels, or it is on another device.
    """
    if not callable(getattr(memory, "read", None)):
        raise TypeError(f"memory: expected a LatentMemory, got {type(memory).__name__}")
    # A cache of pixels has no channels of its own.
    channels = getattr(memory, "channels", networks.autoencoder.channels)
    if channels != networks.autoencoder.channels:
        raise ValueError(f"memory: expected {networks.autoencoder.channels} channels, got {channels}")
    place = torch.device(getattr(memory, "device", networks.device))
    if place.type != networks.device.type or (place.index or 0) != (networks.device.index or 0):
        raise ValueError(f"memory: expected it on {networks.device} like the model, got {place}")


def check_frame(networks: Networks, frame: RgbdFrame, name: str) -> tuple[Tensor, Tensor | None]:
    """Image (H, W, 3) uint8 and depth (H, W) float32, if there is any, of a frame that is to be encoded.

    Raises:
        TypeError: it is no frame.
        ValueError: it is a batch, smaller than a cell of the latent grid, or its depth says nothing.
    """
    if not isinstance(frame, RgbdFrame):
        raise TypeError(f"{name}: expected an RgbdFrame, got {type(frame).__name__}")
    if frame.camera.batch_shape:
        raise ValueError(f"{name}.camera: expected a single one, got batch {tuple(frame.camera.batch_shape)}")
    rows, columns = networks.autoencoder.strides[1:]
    if frame.camera.height < rows or frame.camera.width < columns:
        raise ValueError(
            f"{name}.rgb: expected at least {rows}x{columns} pixels, one cell of the latent grid, "
            f"got {frame.camera.height}x{frame.camera.width}"
        )
    return as_tensor(frame.rgb), None if frame.depth is None else check_depth(f"{name}.depth", frame.depth)


def check_first(networks: Networks, first: RgbdFrame, trajectory: Camera) -> tuple[Tensor, Tensor | None]:
    """Image and depth of the view of the first camera, as of `check_frame`.

    Raises:
        TypeError, ValueError: see there, or its shape is not that of the cameras.
    """
    image, metres = check_frame(networks, first, "first")
    check_shape("first", trajectory, first.camera.height, first.camera.width)
    return image, metres


def imagined_frames(stamps: Sequence[int] | None, count: int) -> list[SourceFrame]:
    """What the memory is told of each frame of a trajectory; without stamps they are zero.

    Raises:
        ValueError: their number is not that of the cameras, or one is no stamp.
    """
    if stamps is not None and len(stamps) != count:
        raise ValueError(f"stamps: expected {count}, one for each camera, got {len(stamps)}")
    return [SourceFrame(stamp=stamp, kind=IMAGINATION) for stamp in (stamps or [0] * count)]
