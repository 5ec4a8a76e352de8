"""Depth out of the memory: what is remembered, carried to every pixel along the frame's colours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.memory.frame_grids import splat
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate

# A difference of colour that costs as much as a pixel of way.
COLOUR_PER_PIXEL = 0.05
# Neighbours of one surface differ less in inverse depth, and a carried plane may leave its seed by this factor.
SAME_SURFACE = 0.1
BOUND = 1.4
# Cells over which a surface is continued.
REACH = 3.0


def token_grid(memory: LatentMemory, height: int, width: int) -> tuple[int, int]:
    """Cells of the memory's latent grid for frames of this size; a quarter of the pixels while nothing is written."""
    records = memory.frames()
    if not records:
        return max(1, height // 4), max(1, width // 4)
    return records[-1].camera.height, records[-1].camera.width


def read_depth(memory: LatentMemory, camera: Camera, height: int, width: int) -> Tensor:
    """What cameras see of the memory, as fine as it was kept.

    Args:
        memory: only read.
        camera: (T,) cameras of any resolution.
        height, width: the memory's latent grid for these cameras, see `token_grid`.

    Returns:
        (T, h p, w p) float32 metres with p sub-cells for memories that keep depth patches, else (T, h, w); zero where
        nothing is remembered.
    """
    grid = camera.resized(height, width)
    readout = memory.read(grid)
    if not memory.patch:
        return readout.depth.squeeze(-3)
    seen = readout.source[readout.source >= 0].unique().tolist()
    fine = grid.resized(height * memory.patch, width * memory.patch)
    if not seen:
        return torch.zeros((*fine.batch_shape, fine.height, fine.width), device=memory.device)
    grids = memory.frame_grids(seen)
    depth = grids.fine_depth(memory.patch)
    sources = grids.camera.resized(*depth.shape[-2:])
    return splat(torch.zeros_like(depth).unsqueeze(1), depth, sources, fine).depth.squeeze(-3)


class MemoryDepth:
    """The z-buffer depth of the memory, filled from cell to pixel and over small holes.

    Every pixel takes the surface of the remembered point from which the frame's colours change least along the way: it
    continues that point's plane, so surfaces are never mixed. What is further than `REACH` cells from anything
    remembered stays unknown.
    """

    @torch.no_grad()
    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Depth of the frames; all unknown while the memory is empty."""
        count, _, height, width = frames.rgb.shape
        if not len(memory):
            unknown = torch.zeros((count, height, width), device=frames.rgb.device)
            return DepthEstimate(unknown, frames.camera, ("depth: the memory is empty, nothing is known",))
        rows, columns = token_grid(memory, height, width)
        depth = read_depth(memory, frames.camera, rows, columns)
        # Four pixels for each cell are enough; larger frames are filled at that size.
        fill_height, fill_width = min(height, 4 * rows), min(width, 4 * columns)
        rgb = F.interpolate(frames.rgb, (fill_height, fill_width), mode="area")
        filled = guided_fill(depth, rgb, REACH * fill_height / rows)
        filled = F.interpolate(filled.unsqueeze(1), (height, width), mode="nearest-exact").squeeze(1)
        return DepthEstimate(filled, frames.camera)


def guided_fill(depth: Tensor, rgb: Tensor, reach: float) -> Tensor:
    """Carry sparse or coarse depth to every pixel along ways of little change of colour.

    Args:
        depth: (T, h, w) metres, zero where unknown, at or below the resolution of the colours.
        rgb: (T, 3, H, W) 0..1.
        reach: pixels over which a depth is carried.

    Returns:
        (T, H, W) metres, zero where unknown.
    """
    count, _, height, width = rgb.shape
    rows, columns = depth.shape[-2:]
    value, slope_x, slope_y = _planes(depth)
    # Seeds: the pixel in the middle of each known cell.
    y = ((torch.arange(rows, device=depth.device) + 0.5) * height / rows).long()
    x = ((torch.arange(columns, device=depth.device) + 0.5) * width / columns).long()
    cost = torch.full((count, height, width), torch.inf, device=depth.device)
    seed = torch.zeros((count, height, width), dtype=torch.int64, device=depth.device)
    known = value > 0
    cost[:, y[:, None], x] = torch.where(known, 0.0, torch.inf)
    seed[:, y[:, None], x] = torch.arange(rows * columns, device=depth.device).reshape(rows, columns)
    own = cost == 0
    steps = {}
    for axis in (1, 2):
        change = rgb.diff(dim=axis + 1).abs().amax(dim=1)
        steps[axis] = 1 + change / COLOUR_PER_PIXEL
    # Half a cell is always reached, whatever its colours.
    for _ in range(max(1, round(reach + max(height / rows, width / columns) / 2))):
        for axis, step in steps.items():
            size = cost.shape[axis]
            for source, target in ((slice(0, size - 1), slice(1, size)), (slice(1, size), slice(0, size - 1))):
                index = (slice(None),) * axis
                offered = cost[(*index, source)] + step
                better = offered < cost[(*index, target)]
                cost[(*index, target)] = torch.where(better, offered, cost[(*index, target)])
                seed[(*index, target)] = torch.where(better, seed[(*index, source)], seed[(*index, target)])
    flat = seed.flatten(1)
    inverse = value.flatten(1).gather(1, flat).reshape(cost.shape)
    own_y, own_x = y.repeat_interleave(columns)[flat], x.repeat(rows)[flat]
    along_x = torch.arange(width, device=depth.device) - own_x.reshape(cost.shape)
    along_y = torch.arange(height, device=depth.device).unsqueeze(-1) - own_y.reshape(cost.shape)
    per_x, per_y = columns / width, rows / height
    carried = (
        inverse
        + slope_x.flatten(1).gather(1, flat).reshape(cost.shape) * along_x * per_x
        + slope_y.flatten(1).gather(1, flat).reshape(cost.shape) * along_y * per_y
    )
    carried = torch.minimum(torch.maximum(carried, inverse / BOUND), inverse * BOUND)
    reached = cost.isfinite() & (own | (carried > 0))
    return torch.where(reached, 1 / carried.clamp(min=1e-6), 0.0)


def _planes(depth: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(T, h, w) inverse depth, zero where unknown, and its change along x and y a cell; no change across edges."""
    inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
    slopes = []
    for axis in (2, 1):
        size = inverse.shape[axis]
        low, high = inverse.narrow(axis, 0, size - 1), inverse.narrow(axis, 1, size - 1)
        least = torch.minimum(low, high)
        change = torch.where(least > 0, high - low, torch.nan)
        alone = torch.where((high - low).abs() < SAME_SURFACE * least, high - low, 0.0)
        nothing = torch.full_like(inverse.narrow(axis, 0, 1), torch.nan)
        before, after = torch.cat([nothing, change], dim=axis), torch.cat([change, nothing], dim=axis)
        zero = torch.zeros_like(nothing)
        one_sided = torch.cat([zero, alone], dim=axis) + torch.cat([alone, zero], dim=axis)
        # Of two neighbours the one that changes less is of the same surface, whatever the slope; an only one must be
        # near. Changes of opposite signs are noise or the top of an edge.
        smaller = torch.where(before * after > 0, torch.where(before.abs() < after.abs(), before, after), 0.0)
        both = before.isfinite() & after.isfinite()
        slopes.append(torch.where(both, smaller, one_sided))
    return inverse, slopes[0], slopes[1]
