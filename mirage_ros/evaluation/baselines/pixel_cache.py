"""A pixel cache to compare with: coloured points, rasterised, filled and encoded anew for every read."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.point_store import PointStore
from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_judgement import tile_order
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.memory.zbuffer.culling import BLOCK
from mirage_ros.memory.zbuffer.reference import TOLERANCE

# A cell is visible if more than this share of its pixels is.
_SHARE = 0.3

Encoder = Callable[[Tensor], Tensor]


class RgbMemory:
    """Full-resolution coloured points with the write and read contract of `LatentMemory`.

    This is how Spatia and Gen3C condition a video model: the cache is drawn as an image, holes are filled, and the
    image goes through the encoder at every read. It uses the latent memory's own z-buffer, so that a comparison is
    about what is stored.

    A point holds 12 bytes of position, 2 of size and 3 of colour. At `max_bytes` the oldest points go.

    Attributes:
        first_camera: of the first frame that was written, None before.
    """

    first_camera: Camera | None

    def __init__(
        self,
        encode: Encoder,
        stride: int,
        device: torch.device | str = "cpu",
        max_bytes: int = 512 << 20,
        *,
        select: bool = True,
        tolerance: float = TOLERANCE,
    ) -> None:
        """An empty cache.

        Args:
            encode: images (T, 3, H, W) float32 in 0..1 to latents (T, C, H / stride, W / stride).
            stride: pixels of a latent cell.
            device: where the points are.
            max_bytes: cap on the buffers.
            select: do not store pixels whose place the cache shows already.
            tolerance: share of depth within which two depths are one surface.

        Raises:
            ValueError: an argument is out of range.
        """
        if stride < 1:
            raise ValueError(f"stride: expected pixels from 1, got {stride}")
        if not 0 <= tolerance < 1:
            raise ValueError(f"tolerance: expected a share of depth in [0, 1), got {tolerance}")
        self.encode, self.stride, self.max_bytes = encode, stride, max_bytes
        self.select, self.tolerance = select, tolerance
        self.device = torch.device(device)
        self.clear()
        if max_bytes < BLOCK * self._store.row_bytes:
            least = BLOCK * self._store.row_bytes
            raise ValueError(f"max_bytes: expected at least {least} for one block of points, got {max_bytes}")

    def __len__(self) -> int:
        return self._store.count

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._store.nbytes

    @torch.no_grad()
    def write(
        self, latents: Tensor | None, depth: Tensor, camera: Camera, keep: Tensor | None = None, *, colour: Tensor
    ) -> WriteReport:
        """Back-project frames pixel by pixel.

        Args:
            latents: not used; there so that callers can treat all caches alike.
            depth: (T, H, W) metres.
            camera: T cameras of any resolution.
            keep: (T, H, W) bool, false on what must not be remembered.
            colour: (T, H, W, 3) uint8.

        Returns:
            counts of pixels.

        Raises:
            ValueError: shapes differ; names the argument.
        """
        if depth.ndim != 3 or camera.batch_shape != depth.shape[:1]:
            raise ValueError(
                f"depth: expected (T, H, W) for {tuple(camera.batch_shape)} cameras, got {tuple(depth.shape)}"
            )
        if colour.shape != (*depth.shape, 3) or colour.dtype != torch.uint8:
            raise ValueError(f"colour: expected {(*depth.shape, 3)} uint8, got {tuple(colour.shape)} {colour.dtype}")
        if keep is not None and keep.shape != depth.shape:
            raise ValueError(f"keep: expected {tuple(depth.shape)} like depth, got {tuple(keep.shape)}")
        report = WriteReport()
        resized = camera.resized(*depth.shape[1:])
        if self.first_camera is None and len(depth):
            self.first_camera = resized[0]
        order = tile_order(depth.shape[1], depth.shape[2], depth.device)
        for t in range(len(depth)):
            report += self._write_frame(depth[t], resized[t], None if keep is None else keep[t], colour[t], order)
        return report

    def _write_frame(
        self, depth: Tensor, camera: Camera, keep: Tensor | None, colour: Tensor, order: Tensor
    ) -> WriteReport:
        valid = valid_depth(depth)
        kept = torch.ones_like(valid) if keep is None else keep
        new = valid & kept
        if self.select:
            _, seen = self._store.winners(camera, rule="strict")
            # The cache explains a pixel where it shows that surface; what is nearer or further than seen is new.
            new &= ~((seen[0] > 0) & ((seen[0] / depth - 1).abs() <= self.tolerance))
        rows = order[new.reshape(-1)[order]]
        points = camera.lift(depth).reshape(-1, 3)[rows]
        focal = torch.minimum(camera.intrinsics[0, 0], camera.intrinsics[1, 1])
        sizes = depth.reshape(-1)[rows] / focal
        most = self.max_bytes // self._store.row_bytes
        written, evicted = self._store.append(points, sizes, {"colour": colour.reshape(-1, 3)[rows]}, most)
        masked, invalid = int((~kept).sum()), int((kept & ~valid).sum())
        return WriteReport(
            masked=masked,
            invalid=invalid,
            explained=depth.numel() - masked - invalid - len(rows),
            dropped=len(rows) - written,
            written=written,
            evicted=evicted,
        )

    @torch.no_grad()
    def render(self, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
        """Draw the points.

        Args:
            camera: (T,) at the resolution of the wanted images.

        Returns:
            image (T, 3, H, W) float32 in 0..1 with holes filled from their surroundings, visible (T, 1, H, W) float32
            and depth (T, 1, H, W) float32 metres, 0 in holes.
        """
        index, depth = self._store.winners(camera, tolerance=self.tolerance)
        visible = (index >= 0).unsqueeze(1).float()
        if len(self):
            colour = self._store.columns["colour"][index.clamp(min=0)].permute(0, 3, 1, 2).float() / 255
        else:
            colour = visible.new_zeros(len(index), 3, camera.height, camera.width)
        return fill_holes(colour, visible), visible, depth.unsqueeze(1)

    @torch.no_grad()
    def read(self, camera: Camera) -> Readout:
        """Draw, fill and encode; see `read_fine`."""
        return self.read_fine(camera, 1)[0]

    @torch.no_grad()
    def read_fine(self, camera: Camera, factor: int) -> tuple[Readout, Tensor]:
        """Draw, fill and encode.

        Args:
            camera: (T,) at the latent resolution, h x w.
            factor: samples of depth along each side of a cell, a divisor of its pixels.

        Returns:
            a readout; offset and log_scale are zero, since drawing at full resolution has taken care of them,
            confidence is one where visible, and source and index are -1. And (T, h factor, w factor) metres, NaN where
            nothing is drawn. Depth is the median of what is drawn.
        """
        batched = camera if camera.batch_shape else camera.at(camera.cam2world.unsqueeze(0))
        image, visible, depth = self.render(batched.resized(camera.height * self.stride, camera.width * self.stride))
        latents = self.encode(image)
        share = F.avg_pool2d(visible, self.stride)
        seen = (share > _SHARE).float()
        near = _medians(depth, self.stride).nan_to_num(0.0) * seen
        none = torch.full_like(seen, -1, dtype=torch.int64)
        parts = {
            "latents": latents * seen.to(latents),
            "visible": seen,
            "depth": near,
            "offset": seen.new_zeros(len(seen), 2, *seen.shape[2:]),
            "log_scale": torch.zeros_like(seen),
            "confidence": seen.clone(),
            "source": none,
            "index": none.clone(),
        }
        readout = Readout(**parts)
        fine = _medians(depth, self.stride // factor).squeeze(1)
        return (readout, fine) if camera.batch_shape else (readout[0], fine[0])

    def fork(self) -> RgbMemory:
        """A cache with the same points that goes its own way."""
        fork = object.__new__(RgbMemory)
        fork.__dict__.update(self.__dict__)
        fork._store = self._store.fork()
        return fork

    def clear(self) -> None:
        """Forget everything and free the buffers."""
        self._store, self.first_camera = PointStore({"colour": ((3,), torch.uint8)}, self.device), None


def _medians(depth: Tensor, side: int) -> Tensor:
    """(T, 1, H / side, W / side) median of the depth in each block of an image (T, 1, H, W), NaN where it has none."""
    known = torch.where(depth > 0, depth, torch.nan)
    return F.pixel_unshuffle(known, side).nanmedian(dim=1, keepdim=True).values


def fill_holes(image: Tensor, visible: Tensor) -> Tensor:
    """Fill holes smoothly from their surroundings: means of what is visible at ever coarser scales (push-pull).

    Args:
        image: (T, C, H, W).
        visible: (T, 1, H, W) float, one where the image is known.
    """
    height, width = image.shape[-2:]
    if max(height, width) == 1:
        return image * visible
    weight = F.avg_pool2d(visible, 2, ceil_mode=True)
    coarse = F.avg_pool2d(image * visible, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    known = (weight > 0).float()
    coarse = fill_holes(coarse * known, known)
    fine = F.interpolate(coarse, size=(height, width), mode="bilinear", align_corners=False)
    return image * visible + fine * (1 - visible)
