"""A view cache to compare with: surfels that remember which past views saw them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from typing_extensions import Self

from mirage_ros.evaluation.baselines.baseline import Baseline, PointStore
from mirage_ros.geometry import Camera
from mirage_ros.memory.cell_depth import EDGE, INVALID, MASKED, USABLE, depth_to_cells
from mirage_ros.memory.read import read_elements
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_judgement import tile_order
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.memory.zbuffer.reference import TOLERANCE

# Views that one read uses.
RETRIEVED = 4
# Views that one surfel remembers; the oldest is forgotten for a newer one.
_VIEWS = 8


@dataclass(frozen=True, eq=False)
class View:
    """A stored view.

    Attributes:
        latents: (C, h, w) as stored.
        depth: (h, w) float16 metres, NaN where the cell was not usable.
        camera: at latent resolution.
    """

    latents: Tensor
    depth: Tensor
    camera: Camera

    @property
    def nbytes(self) -> int:
        """Bytes of latents, depth and camera."""
        return self.latents.nbytes + self.depth.nbytes + self.camera.intrinsics.nbytes + self.camera.cam2world.nbytes


class ViewMemory(Baseline):
    """Whole past views, found again through a surfel map, with the write and read contract of `LatentMemory`.

    This is how VMem conditions a model: surfels vote for the views that saw what the target sees, and the best views
    are handed over whole. So that the same model can be conditioned, `read` projects the cells of these views into the
    target by the latent memory's own z-buffer; `retrieve` gives the views themselves.

    A view holds its latents and its depth on the latent grid (float16 each); a surfel 14 bytes and 2 for each of 8
    views, which it lists by their numbers plus one.

    Args:
        device: where everything is.
        dtype: of the stored latents.
    """

    def __init__(self, channels: int, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float16) -> None:
        self.channels, self.dtype, self.device = channels, dtype, torch.device(device)
        self._views: list[View] = []
        self._surfels = PointStore({"seen": ((_VIEWS,), torch.int16)}, self.device)

    def __len__(self) -> int:
        return len(self._views)

    @property
    def nbytes(self) -> int:
        """Bytes of the views and of the surfels' buffers."""
        return sum(view.nbytes for view in self._views) + self._surfels.nbytes

    def _write_frame(self, content: Tensor, depth: Tensor, camera: Camera, keep: Tensor) -> WriteReport:
        height, width = content.shape[1:]
        cells = depth_to_cells(depth, keep, height, width)
        own = camera.resized(height, width)
        usable = cells.state == USABLE
        index, seen = self._surfels.winners(own)
        known = usable & (seen[0] > 0) & ((seen[0] / cells.depth - 1).abs() <= TOLERANCE)
        self._surfels.own()
        order = tile_order(height, width, depth.device)
        new = order[(usable & ~known).reshape(-1)[order]]
        view = View(content.to(self.dtype).clone(), torch.where(usable, cells.depth, torch.nan).half(), own)
        self._views.append(view)
        rows = index[0][known].unique()
        column = self._surfels.columns["seen"]
        # The newest view is the first of a surfel's list; zero is none.
        column[rows, 1:] = column[rows, :-1].clone()
        column[rows, 0] = len(self._views)
        points = own.lift(cells.depth).reshape(-1, 3)[new]
        focal = torch.minimum(own.intrinsics[0, 0], own.intrinsics[1, 1])
        listed = torch.zeros(len(new), _VIEWS, dtype=torch.int16, device=self.device)
        listed[:, 0] = len(self._views)
        self._surfels.append(points, cells.depth.reshape(-1)[new] / focal, {"seen": listed})
        return WriteReport(
            masked=int((cells.state == MASKED).sum()),
            invalid=int((cells.state == INVALID).sum()),
            edge=int((cells.state == EDGE).sum()),
            explained=int(known.sum()),
            written=len(new),
        )

    @torch.no_grad()
    def retrieve(self, camera: Camera) -> list[tuple[int, int]]:
        """The views that saw most of what a camera sees.

        Args:
            camera: one camera at latent resolution.

        Returns:
            (view, votes) of at most `RETRIEVED` views, most votes first, then the newest.
        """
        index, _ = self._surfels.winners(camera)
        rows = index[index >= 0]
        names = self._surfels.columns["seen"][rows].reshape(-1).to(torch.int64) - 1
        votes = torch.bincount(names[names >= 0]).tolist()
        ranked = sorted(((count, name) for name, count in enumerate(votes) if count), reverse=True)
        return [(name, count) for count, name in ranked[:RETRIEVED]]

    @torch.no_grad()
    def read(self, camera: Camera, rule: str = "nearest", *, observed_first: bool = False) -> Readout:
        """Project the cells of the best views, chosen for each camera by itself; there is no other rule.

        Args:
            camera: (T,) or single, at latent resolution.
            rule, observed_first: not used.
        """
        if not camera.batch_shape:
            return self._read_one(camera)
        return Readout.stacked([self._read_one(single) for single in camera])

    def _read_one(self, camera: Camera) -> Readout:
        positions = [torch.zeros(0, 3, device=self.device)]
        sizes, features = [torch.zeros(0, device=self.device)], [torch.zeros(0, self.channels, device=self.device)]
        for name, _ in self.retrieve(camera):
            view = self._views[name]
            depth = view.depth.float()
            focal = torch.minimum(view.camera.intrinsics[0, 0], view.camera.intrinsics[1, 1]).float()
            positions.append(view.camera.lift(depth).reshape(-1, 3).float())
            sizes.append(depth.nan_to_num(0.0).reshape(-1) / focal)
            features.append(view.latents.float().flatten(1).T)
        return read_elements(torch.cat(positions), torch.cat(sizes), torch.cat(features), camera)

    def fork(self) -> Self:
        """A cache with the same views that goes its own way."""
        fork = super().fork()
        fork._views, fork._surfels = list(self._views), self._surfels.fork()
        return fork
