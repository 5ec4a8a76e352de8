"""Latents of source frames back on their grids, for readers that unfold them.

A learned reader of models/ works in four steps:

    grids = memory.frame_grids(ids)                                   # latents as each frame had them, holes zero
    samples = unfold(grids.latents)                                   # (F, K, h s, w s), s on each side of a cell
    readout = splat(samples, grids.fine_depth(s), grids.camera.resized(h s, w s), target.resized(H r, W r))
    latents, visible = refold(readout, memory.read(target))

In training the same `splat` takes the latents, depth and cameras of a clip, batched, without a memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.memory.depth_patches import decode_patch, resample_depth
from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.provenance import FrameTable
from mirage_ros.memory.read import read_elements
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.zbuffer.projection import Convention


@dataclass(frozen=True, eq=False)
class FrameGrids:
    """Source frames as sparse latent images.

    Attributes:
        latents: (F, C, h, w) float32, zero in cells that the memory does not hold (any more).
        present: (F, 1, h, w) float32, one in cells that it holds.
        index: (F, h, w) int64 rows of the elements, -1 where there is none; valid until the memory is next written.
        depth: (F, h, w) float32 metres along the source camera's axis, NaN where there is no element.
        patches: (F, h p, w p) float32 fine depth, NaN where unknown; empty if the memory keeps none.
        camera: (F,) cameras at latent resolution, float64, at the poses that the frames have now.
        ids: (F,) int64 frame ids.
    """

    latents: Tensor
    present: Tensor
    index: Tensor
    depth: Tensor
    patches: Tensor
    camera: Camera
    ids: Tensor

    def fine_depth(self, factor: int) -> Tensor:
        """(F, h r, w r) float32 depth with r = `factor` sub-cells along each side, NaN where unknown.

        From the patches: of finer ones the middle one of each group, coarser ones repeated. Without patches, or where
        neither divides the other, the element's own depth.
        """
        height = self.depth.shape[1]
        if self.patches.numel():
            patch = self.patches.shape[1] // height
            if patch % factor == 0 or factor % patch == 0:
                return resample_depth(self.patches, patch, factor)
        return resample_depth(self.depth, 1, factor)


def grids_of(
    store: ElementStore, table: FrameTable, slots: NDArray[np.int64], origin: Tensor | None, convention: Convention
) -> FrameGrids:
    """The grids of the frames in these slots; see `LatentMemory.frame_grids`."""
    if len(slots) == 0:
        raise ValueError("frames: expected at least one source frame, got none")
    device = store.device
    camera = table.camera(slots).to(device)
    height, width = camera.height, camera.width
    place = torch.full((max(len(table.rows), 1),), -1, dtype=torch.int64)
    place[torch.from_numpy(slots)] = torch.arange(len(slots))
    at = place.to(device)[store.column("frame").to(torch.int64)]
    elements = (at >= 0).nonzero().squeeze(1)
    frame, rows = at[elements], store.rows_of(elements)
    cell_y, cell_x = store.columns["cell"][rows].to(torch.int64).unbind(-1)
    flat = (frame * height + cell_y) * width + cell_x
    cells = len(slots) * height * width

    index = torch.full((cells,), -1, dtype=torch.int64, device=device)
    index[flat] = elements
    latents = torch.zeros(cells, store.channels, device=device)
    latents[flat] = store.decode(elements)
    world = store.columns["positions"].index_select(1, rows).double()
    if origin is not None:
        world = world + origin.to(world).unsqueeze(-1)
    axis = camera.cam2world[:, :3, 2][frame]
    metres = ((world.T - camera.cam2world[:, :3, 3][frame]) * axis).sum(dim=-1).float()
    depth = torch.full((cells,), torch.nan, device=device)
    depth[flat] = metres
    patch = store.patch
    patches = torch.full((cells, patch, patch), torch.nan, device=device)
    if patch:
        patches[flat] = decode_patch(store.columns["patch"][rows], metres)
    shape = (len(slots), height, width)
    return FrameGrids(
        latents=latents.reshape(*shape, -1).permute(0, 3, 1, 2).contiguous(),
        present=(index >= 0).float().reshape(len(slots), 1, height, width),
        index=index.reshape(shape),
        depth=depth.reshape(shape),
        patches=patches.reshape(*shape, patch, patch)
        .transpose(2, 3)
        .reshape(len(slots), height * patch, width * patch),
        camera=_shifted(camera, convention),
        ids=table.ids(device)[torch.from_numpy(slots).to(device)],
    )


def _shifted(camera: Camera, convention: Convention) -> Camera:
    """The camera whose cell centres, at +0.5, are where the convention lifted them."""
    intrinsics = camera.intrinsics.clone()
    intrinsics[..., :2, 2] += 0.5 - convention.centre
    return Camera(intrinsics, camera.cam2world, camera.height, camera.width)


def splat(features: Tensor, depth: Tensor, sources: Camera, targets: Camera, rule: str = "nearest") -> Readout:
    """Project the pixels of source frames into target grids, as elements of one pixel each.

    A bin of the target is visible if a pixel's footprint covers it; of the pixels within the tolerance of the frontmost
    the one nearest to the bin's centre wins, among those up to a bin away. Differentiable with respect to the features.

    Args:
        features: (F, K, H, W) or (B, F, K, H, W) float.
        depth: (F, H, W) or (B, F, H, W) metres; pixels where it is invalid are left out.
        sources: (F) or (B, F) cameras at H x W.
        targets: (T) or (B, T) cameras at the resolution of the target grid.
        rule: see `read_elements`.

    Returns:
        readout with latents (T, K, H', W') or (B, T, K, H', W'), visible, offset, log_scale and depth. Its index is the
        flat place (b F + f) H W + pixel of the winner.

    Raises:
        ValueError: shapes do not fit.
    """
    if features.ndim not in (4, 5) or features.shape[:-3] + features.shape[-2:] != depth.shape:
        raise ValueError(
            "features: expected (F, K, H, W) or (B, F, K, H, W) with depth (..., H, W), "
            f"got {tuple(features.shape)} and {tuple(depth.shape)}"
        )
    if sources.batch_shape != depth.shape[:-2]:
        raise ValueError(f"sources: expected a batch {tuple(depth.shape[:-2])}, got {tuple(sources.batch_shape)}")
    batch = depth.shape[:-3]
    points = sources.lift(depth).float()
    focal = torch.minimum(sources.intrinsics[..., 0, 0], sources.intrinsics[..., 1, 1])
    focal = focal.expand(sources.batch_shape)[..., None, None]
    sizes = torch.where(valid_depth(depth), depth / focal, 0.0).float()
    return read_elements(
        points.reshape(*batch, -1, 3),
        sizes.reshape(*batch, -1),
        features.movedim(-3, -1).reshape(*batch, sizes[(0,) * len(batch)].numel(), -1),
        targets,
        rule,
    )


def splat_in_order(
    features: Tensor, depth: Tensor, sources: Camera, targets: Camera, first: int, rule: str = "nearest"
) -> Readout:
    """`splat`, where the first so many source frames are never hidden by the others, which fill in what they leave.

    Args:
        features, depth, sources, targets, rule: see `splat`.
        first: number of frames that come first.

    Returns:
        a readout as of `splat`; but the index of a pixel counts the first frames, or the others, by themselves.
    """
    if not 0 < first < depth.shape[-3]:
        return splat(features, depth, sources, targets, rule)
    # Where the first show nothing they have no pixel at all, so that the others can be splatted without them.
    before, behind = (
        splat(features[..., part, :, :, :], depth[..., part, :, :], frames_of(sources, part), targets, rule)
        for part in (slice(first), slice(first, None))
    )
    return before.over(behind)


def frames_of(cameras: Camera, part: slice) -> Camera:
    """Some of the frames, the last dimension, of cameras."""
    shape = cameras.batch_shape
    intrinsics, poses = cameras.intrinsics.expand(*shape, 3, 3), cameras.cam2world.expand(*shape, 4, 4)
    return Camera(intrinsics[..., part, :, :], poses[..., part, :, :], cameras.height, cameras.width)
