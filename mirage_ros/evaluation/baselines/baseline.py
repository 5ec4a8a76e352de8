"""What the caches that the latent memory is compared with have in common."""

from __future__ import annotations

import copy

import torch
from torch import Tensor
from typing_extensions import Self

from mirage_ros.geometry import Camera, same_view
from mirage_ros.images import enlarge


class Baseline:
    """A `SpatialMemory` that keeps no frames to be unfolded: of its views it knows the first one only.

    Attributes:
        first_camera: of the first frame that was written, None before.
    """

    colour = False
    sources = None
    first_camera: Camera | None = None

    def holds_view(self, camera: Camera) -> bool:
        """Whether the first frame had this camera."""
        first = self.first_camera
        return first is not None and same_view(first.resized(camera.height, camera.width), camera)

    def cameras_near(self, place: Tensor, count: int) -> Camera | None:
        """The camera of the first frame, (1,)."""
        first = self.first_camera
        return None if first is None else first.at(first.cam2world.unsqueeze(0))

    def fork(self) -> Self:
        """A memory with the same content that goes its own way."""
        return copy.copy(self)

    def _begin(self, camera: Camera) -> None:
        if self.first_camera is None and len(camera):
            self.first_camera = camera[0]


def kept(depth: Tensor, keep: Tensor | None, copied: Tensor | None) -> Tensor:
    """(T, H, W) bool, what of frames with this depth is neither masked nor in a cell that was copied."""
    mask = torch.ones_like(depth, dtype=torch.bool) if keep is None else keep
    return mask if copied is None else mask & ~enlarge(copied, *depth.shape[-2:])
