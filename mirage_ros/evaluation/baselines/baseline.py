"""What the caches that the latent memory is compared with have in common."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from mirage_ros.geometry import Camera, same_view
from mirage_ros.images import enlarge
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.memory.zbuffer.backends import winners
from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks
from mirage_ros.memory.zbuffer.projection import project, views_of

# Buffers grow by this factor, so that appending costs constant time a point.
_GROWTH = 1.25


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


class PointStore:
    """Growing buffers of points: positions, sizes and payloads, padded to whole blocks.

    Args:
        payload: name -> (shape of a row, type) of what comes with each point.
        device: where the buffers are.

    Attributes:
        count: rows in use.
        positions: (3, N) float32 metres, NaN in rows that are not in use.
        columns: (N, ...) of the payload, and 'size' (N,) float16 metres.
    """

    def __init__(self, payload: dict[str, tuple[tuple[int, ...], torch.dtype]], device: torch.device) -> None:
        self.device, self.count = device, 0
        self.positions = torch.zeros(3, 0, device=device)
        rows = {"size": ((), torch.float16), **payload}
        self.columns = {
            name: torch.zeros((0, *shape), dtype=dtype, device=device) for name, (shape, dtype) in rows.items()
        }
        self._shared = False
        self._blocks: Blocks | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of every buffer."""
        return sum(buffer.untyped_storage().nbytes() for buffer in (self.positions, *self.columns.values()))

    def fork(self) -> PointStore:
        """The same points; whoever writes first copies the buffers."""
        self._shared = True
        return copy.copy(self)

    def own(self) -> None:
        """Make the buffers this store's alone."""
        if self._shared:
            self.positions = self.positions.clone()
            self.columns = {name: column.clone() for name, column in self.columns.items()}
            self._shared = False

    def append(self, positions: Tensor, sizes: Tensor, columns: dict[str, Tensor]) -> None:
        """Add points at positions (N, 3), of sizes (N,) in metres, with payloads (N, ...)."""
        self.own()
        rows, capacity = slice(self.count, self.count + len(positions)), self.positions.shape[1]
        if rows.stop > capacity:
            missing = -(-max(rows.stop, int(capacity * _GROWTH)) // BLOCK) * BLOCK - capacity
            self.positions = F.pad(self.positions, (0, missing), value=torch.nan)
            for name, column in self.columns.items():
                self.columns[name] = torch.cat([column, column.new_zeros(missing, *column.shape[1:])])
        self.positions[:, rows] = positions.T.to(self.positions)
        for name, values in (("size", sizes), *columns.items()):
            self.columns[name][rows] = values.to(self.columns[name])
        self.count, self._blocks = rows.stop, None

    def blocks(self) -> Blocks:
        """Boxes of the blocks, made when first asked for after a change."""
        if self._blocks is None:
            self._blocks = Blocks(self.positions, self.columns["size"])
        return self._blocks

    def winners(self, camera: Camera, rule: str = "nearest") -> tuple[Tensor, Tensor]:
        """What a camera sees.

        Args:
            camera: (T,) or single, at the resolution of the target.
            rule: see `zbuffer`.

        Returns:
            index (V, H, W) int64 rows, -1 where nothing is seen, and depth (V, H, W) float32 metres, 0 there.
        """
        views = views_of(camera)
        shape = (len(views), camera.height, camera.width)
        if self.count == 0:
            return torch.full(shape, -1, device=self.device), torch.zeros(shape, device=self.device)
        index = winners(self.positions, self.columns["size"], views, self.blocks, rule)
        x, y, z = self.positions[:, index.clamp(min=0).reshape(-1)].reshape(3, *index.shape)
        depth = project(x, y, z, views.matrices)[2]
        return index.reshape(shape), torch.where(index >= 0, depth, 0.0).reshape(shape)
