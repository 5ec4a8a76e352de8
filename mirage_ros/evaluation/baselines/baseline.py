"""What the caches that the latent memory is compared with have in common."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from typing_extensions import Self

from mirage_ros.geometry import Camera, same_view
from mirage_ros.images import enlarge
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.memory.write_rules import WriteReport


class Baseline:
    """A `SpatialMemory` that keeps no frames to be unfolded: of its views it knows the first one only.

    Attributes:
        first_camera: of the first frame that was written, None before.
    """

    colour = False
    sources = None
    first_camera: Camera | None = None

    @torch.no_grad()
    def write(
        self,
        latents: Tensor | None,
        depth: Tensor,
        camera: Camera,
        keep: Tensor | None = None,
        frame: Sequence[SourceFrame] | None = None,
        *,
        copied: Tensor | None = None,
        colour: Tensor | None = None,
    ) -> WriteReport:
        """Write frames one by one, as `LatentMemory.write`; but keep (T, H, W) is as large as depth (T, H, W).

        Caches of colours need no latents, others no colours; `frame` is not used.
        """
        mask = torch.ones_like(depth, dtype=torch.bool) if keep is None else keep
        if copied is not None:
            mask = mask & ~enlarge(copied, *depth.shape[1:])
        if self.first_camera is None and len(depth):
            self.first_camera = camera[0]
        report = WriteReport()
        content = colour if self.colour else latents
        assert content is not None
        for t in range(len(depth)):
            report += self._write_frame(content[t], depth[t], camera[t], mask[t])
        return report

    def _write_frame(self, content: Tensor, depth: Tensor, camera: Camera, keep: Tensor) -> WriteReport:
        """Write one frame: its latents (C, h, w), or (H, W, 3) in a cache of colours."""
        raise NotImplementedError

    def fork(self) -> Self:
        """A memory with the same content that goes its own way."""
        return copy.copy(self)

    def holds_view(self, camera: Camera) -> bool:
        """Whether the first frame had this camera."""
        first = self.first_camera
        return first is not None and same_view(first.resized(camera.height, camera.width), camera)

    def cameras_near(self, place: Tensor, count: int) -> Camera | None:
        """The camera of the first frame, (1,)."""
        return None if self.first_camera is None else Camera.stacked([self.first_camera])
