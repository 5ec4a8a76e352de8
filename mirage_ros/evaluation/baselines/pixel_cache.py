"""A pixel cache to compare with: coloured points, rasterised, filled and encoded anew for every read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from mirage_ros.evaluation.baselines.baseline import Baseline, PointStore
from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_judgement import tile_order
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.memory.zbuffer.reference import TOLERANCE
from mirage_ros.models.branch_input import fill_smoothly
from mirage_ros.models.log_depth import FINE

# A cell is visible if more than this share of its pixels is.
_SHARE = 0.3

Encoder = Callable[[Tensor], Tensor]


class RgbMemory(Baseline):
    """Full-resolution coloured points with the write and read contract of `LatentMemory`.

    This is how Spatia and Gen3C condition a video model: the cache is drawn as an image, holes are filled, and the
    image goes through the encoder at every read. It uses the latent memory's own z-buffer, so that a comparison is
    about what is stored.

    A point holds 12 bytes of position, 2 of size and 3 of colour.

    Args:
        encode: images (T, 3, H, W) float32 in 0..1 to latents (T, C, H / stride, W / stride).
        stride: pixels of a latent cell.
        device: where the points are.
    """

    colour = True

    def __init__(self, encode: Encoder, stride: int, device: torch.device | str = "cpu") -> None:
        self.encode, self.stride, self.device = encode, stride, torch.device(device)
        self._store = PointStore({"colour": ((3,), torch.uint8)}, self.device)

    def __len__(self) -> int:
        return self._store.count

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._store.nbytes

    def _write_frame(self, content: Tensor, depth: Tensor, camera: Camera, keep: Tensor) -> WriteReport:
        camera = camera.resized(*depth.shape)
        valid, order = valid_depth(depth), tile_order(depth.shape[0], depth.shape[1], depth.device)
        _, seen = self._store.winners(camera, rule="strict")
        # The cache explains a pixel where it shows that surface; what is nearer or further than seen is new.
        new = valid & keep & ~((seen[0] > 0) & ((seen[0] / depth - 1).abs() <= TOLERANCE))
        rows = order[new.reshape(-1)[order]]
        points = camera.lift(depth).reshape(-1, 3)[rows]
        focal = torch.minimum(camera.intrinsics[0, 0], camera.intrinsics[1, 1])
        sizes = depth.reshape(-1)[rows] / focal
        self._store.append(points, sizes, {"colour": content.reshape(-1, 3)[rows]})
        report = WriteReport(masked=int((~keep).sum()), invalid=int((keep & ~valid).sum()), written=len(rows))
        report.explained = depth.numel() - report.cells
        return report

    @torch.no_grad()
    def render(self, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the points.

        Args:
            camera: (T,) at the resolution of the wanted images.

        Returns:
            image (T, 3, H, W) float32 in 0..1 with holes filled from their surroundings, visible (T, 1, H, W) float32
            and depth (T, 1, H, W) float32 metres, 0 in holes.
        """
        index, depth = self._store.winners(camera)
        visible = (index >= 0).unsqueeze(1).float()
        if len(self):
            colour = self._store.columns["colour"][index.clamp(min=0)].permute(0, 3, 1, 2).float() / 255
        else:
            colour = visible.new_zeros(len(index), 3, camera.height, camera.width)
        return fill_smoothly(colour, visible), visible, depth.unsqueeze(1)

    @torch.no_grad()
    def read(self, camera: Camera, rule: str = "nearest", *, observed_first: bool = False) -> Readout:
        """Draw, fill and encode.

        Args:
            camera: (T,) or single, at the latent resolution, h x w.
            rule, observed_first: not used.

        Returns:
            a readout; offset and log_scale are zero, since drawing at full resolution has taken care of them,
            confidence is one where visible, and source and index are -1. Depth is the median of what is drawn, where a
            cell can be divided also with `log_depth.FINE` samples along its sides.
        """
        batched = camera if camera.batch_shape else camera.at(camera.cam2world.unsqueeze(0))
        image, visible, depth = self.render(batched.resized(camera.height * self.stride, camera.width * self.stride))
        latents = self.encode(image)
        seen = (F.avg_pool2d(visible, self.stride) > _SHARE).float()
        none = torch.full_like(seen, -1, dtype=torch.int64)
        readout = Readout(
            latents=latents * seen.to(latents),
            visible=seen,
            depth=_medians(depth, self.stride).nan_to_num(0.0) * seen,
            offset=seen.new_zeros(len(seen), 2, *seen.shape[2:]),
            log_scale=torch.zeros_like(seen),
            confidence=seen.clone(),
            source=none,
            index=none.clone(),
            fine_depth=None if self.stride % FINE else _medians(depth, self.stride // FINE).squeeze(1),
        )
        return readout if camera.batch_shape else readout[0]

    def fork(self) -> Self:
        """A cache with the same points that goes its own way."""
        fork = super().fork()
        fork._store = self._store.fork()
        return fork


def _medians(depth: Tensor, side: int) -> Tensor:
    """(T, 1, H / side, W / side) median of the depth in each block of an image (T, 1, H, W), NaN where it has none."""
    known = torch.where(depth > 0, depth, torch.nan)
    return F.pixel_unshuffle(known, side).nanmedian(dim=1, keepdim=True).values
