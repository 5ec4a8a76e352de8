"""Growing buffers of points in blocks, for the caches that the latent memory is compared with."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.zbuffer.backends import winners
from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks
from mirage_ros.memory.zbuffer.projection import project, views_of
from mirage_ros.memory.zbuffer.reference import TOLERANCE

# Buffers grow by this factor, so that appending costs constant time a point.
_GROWTH = 1.25


class PointStore:
    """Positions, sizes and payloads of points, padded to whole blocks.

    Attributes:
        count: rows in use.
    """

    def __init__(self, payload: dict[str, tuple[tuple[int, ...], torch.dtype]], device: torch.device) -> None:
        """An empty store.

        Args:
            payload: name -> (shape of a row, type) of what comes with each point.
            device: where the buffers are.
        """
        self.device = device
        self._payload = payload
        self.count = 0
        self._shared = False
        self._blocks: Blocks | None = None
        self._allocate(0)

    def _allocate(self, capacity: int) -> None:
        self.positions = torch.full((3, capacity), torch.nan, device=self.device)
        self.sizes = torch.zeros(capacity, dtype=torch.float16, device=self.device)
        self.columns = {
            name: torch.zeros((capacity, *shape), dtype=dtype, device=self.device)
            for name, (shape, dtype) in self._payload.items()
        }

    @property
    def row_bytes(self) -> int:
        """Bytes of one point."""
        return 14 + sum(torch.Size(shape).numel() * dtype.itemsize for shape, dtype in self._payload.values())

    @property
    def nbytes(self) -> int:
        """Bytes of every buffer."""
        held = [self.positions, self.sizes, *self.columns.values()]
        return sum(buffer.untyped_storage().nbytes() for buffer in held)

    def fork(self) -> PointStore:
        """The same points; whoever writes first copies the buffers."""
        fork = object.__new__(PointStore)
        fork.__dict__.update(self.__dict__)
        self._shared = fork._shared = True
        return fork

    def own(self) -> None:
        """Make the buffers this store's alone."""
        if self._shared:
            self.positions, self.sizes = self.positions.clone(), self.sizes.clone()
            self.columns = {name: buffer.clone() for name, buffer in self.columns.items()}
            self._shared = False

    def append(self, positions: Tensor, sizes: Tensor, columns: dict[str, Tensor], most: int) -> tuple[int, int]:
        """Add points, at most up to `most` rows in all; the oldest go where there is no room.

        Args:
            positions: (N, 3) metres.
            sizes: (N,) metres.
            columns: (N, ...) payloads.
            most: rows that the buffers may have.

        Returns:
            how many points were added, the last ones where there is no room for all, and how many old ones went.
        """
        self.own()
        most = most // BLOCK * BLOCK
        added = min(len(positions), most)
        if added == 0:
            return 0, 0
        dropped = max(self.count + added - most, 0)
        if dropped:
            # A twentieth more at a time: moving everything for each write would cost more than the writing.
            dropped = min(self.count, max(dropped, most // 20))
            self._drop_oldest(dropped)
        self._reserve(self.count + added, most)
        rows = slice(self.count, self.count + added)
        self.positions[:, rows] = positions[-added:].T.to(self.positions)
        self.sizes[rows] = sizes[-added:].to(self.sizes)
        for name, buffer in self.columns.items():
            buffer[rows] = columns[name][-added:].to(buffer)
        self.count += added
        self._blocks = None
        return added, dropped

    def _drop_oldest(self, number: int) -> None:
        left = self.count - number
        self.positions[:, :left] = self.positions[:, number : self.count].clone()
        self.positions[:, left:] = torch.nan
        for buffer in (self.sizes, *self.columns.values()):
            buffer[:left] = buffer[number : self.count].clone()
        self.count = left

    def _reserve(self, rows: int, most: int) -> None:
        capacity = self.positions.shape[1]
        if rows <= capacity:
            return
        old = self.positions, self.sizes, self.columns
        wanted = min(max(rows, int(capacity * _GROWTH)), most)
        self._allocate(-(-wanted // BLOCK) * BLOCK)
        self.positions[:, : self.count] = old[0][:, : self.count]
        self.sizes[: self.count] = old[1][: self.count]
        for name, buffer in self.columns.items():
            buffer[: self.count] = old[2][name][: self.count]

    def blocks(self) -> Blocks:
        """Boxes of the blocks, made when first asked for after a change."""
        if self._blocks is None:
            self._blocks = Blocks(self.positions, self.sizes)
        return self._blocks

    def winners(self, camera: Camera, rule: str = "nearest", tolerance: float = TOLERANCE) -> tuple[Tensor, Tensor]:
        """What a camera sees.

        Args:
            camera: (T,) or single, at the resolution of the target.
            rule, tolerance: see `zbuffer`.

        Returns:
            index (V, H, W) int64 rows, -1 where nothing is seen, and depth (V, H, W) float32 metres, 0 there.
        """
        views = views_of(camera)
        shape = (len(views), camera.height, camera.width)
        if self.count == 0:
            return torch.full(shape, -1, device=self.device), torch.zeros(shape, device=self.device)
        index = winners(self.positions, self.sizes, views, self.blocks, rule=rule, tolerance=tolerance)
        index = index[:, 0]
        x, y, z = self.positions[:, index.clamp(min=0).reshape(-1)].reshape(3, *index.shape)
        depth = project(x, y, z, views.matrices)[2]
        return index.reshape(shape), torch.where(index >= 0, depth, 0.0).reshape(shape)
