"""Depth images on the latent grid, by rules that never mix two surfaces."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import valid_depth

# States of a cell, in the order in which they are decided.
USABLE, MASKED, INVALID, EDGE = range(4)
# Samples along each side of a cell: more change nothing.
_SAMPLES = 8
# Share of a cell from which it counts as most of it.
MAJORITY = 0.5
# Relative difference of inverse depth that makes an edge.
_EDGE = 0.1


@dataclass(frozen=True, eq=False)
class CellDepth:
    """One depth image on a latent grid.

    Attributes:
        depth: (h, w) float32 metres at the cells' centres, NaN unless usable.
        state: (h, w) uint8 USABLE, MASKED, INVALID or EDGE.
        sure: (h, w) bool, most of the cell is known and all of that is one surface.
        fine: (h, w, p, p) float32 depth of sub-cells, NaN where none is valid; p may be zero.
        samples: (h x k, w x k) float32 the depth that all this was made from, NaN where invalid or masked; +inf, which
            nothing was made from, where it was too far to measure.
    """

    depth: Tensor
    state: Tensor
    sure: Tensor
    fine: Tensor
    samples: Tensor


def depth_to_cells(
    depth: Tensor,
    keep: Tensor | None,
    height: int,
    width: int,
    *,
    patch: int = 0,
    share: float = 0.6,
    known: float = 0.5,
) -> CellDepth:
    """Bring a depth image to the latent grid.

    A cell takes the lower median of its valid, kept pixels: a depth that was measured there, on the surface that fills
    most of what is known of it; on a plane that fills the cell it is the depth of the centre. Surfaces are told from
    slopes by inverse depth, which is linear on a plane: a cell is one surface if no pixel's inverse depth is further
    than a tenth from the plane that fits best. Otherwise it is still used, but not sure, if a `share` of its pixels is
    within a tenth of the median.

    Args:
        depth: (H, W) metres; invalid where not finite or not positive.
        keep: (H, W) bool, pixels to use; all by default. A cell is masked with less than half of those that have a
            depth, or with too few.
        height, width: cells.
        patch: sub-cells along each side of a cell whose depth is wanted.
        share: of the cell's valid pixels.
        known: least share of a cell's pixels that must be kept, and that must be valid.
    """
    rows, columns = _sampled(depth.shape[0], height, patch), _sampled(depth.shape[1], width, patch)
    picked = depth.float()[_picks(depth, 0, height * rows)][:, _picks(depth, 1, width * columns)]
    kept = torch.ones_like(picked, dtype=torch.bool)
    if keep is not None:
        kept = keep[_picks(keep, 0, height * rows)][:, _picks(keep, 1, width * columns)]
    samples = torch.where(valid_depth(picked) & kept, picked, torch.nan)
    cells = _split(samples, height, width)
    valid = ~cells.isnan()
    # The latent of a cell that is mostly something else, which moves, is that thing's; the sky has no depth.
    has_depth, of_those = _split(valid_depth(picked), height, width).sum(dim=-1), valid.sum(dim=-1)
    masked = _split(kept, height, width).float().mean(dim=-1) < known
    masked |= of_those < MAJORITY * has_depth
    invalid = valid.float().mean(dim=-1) < known
    median = cells.nanmedian(dim=-1).values
    residual = _off_plane(cells, median, rows, columns)
    one_surface = torch.where(valid, residual, 0.0).amax(dim=-1) <= _EDGE
    dominant = (cells - median.unsqueeze(-1)).abs() <= _EDGE * median.unsqueeze(-1)
    mixed = ~one_surface & (dominant.sum(dim=-1) < share * valid.sum(dim=-1))
    state = torch.where(masked, MASKED, torch.where(invalid, INVALID, torch.where(mixed, EDGE, USABLE)))
    fine = samples.new_zeros(height, width, 0, 0)
    if patch:
        sub_cells = _split(samples, height * patch, width * patch).nanmedian(dim=-1).values
        fine = sub_cells.reshape(height, patch, width, patch).transpose(1, 2)
    return CellDepth(
        depth=torch.where(state == USABLE, median, torch.nan),
        state=state.to(torch.uint8),
        sure=one_surface & (valid.float().mean(dim=-1) >= MAJORITY),
        fine=fine,
        samples=torch.where(picked.isposinf() & kept, torch.inf, samples),
    )


def bilinear_to_cells(depth: Tensor, keep: Tensor | None, height: int, width: int) -> CellDepth:
    """The public Mirage code's way: bilinear depth and the mask at the nearest pixel, without an edge test."""
    size = (height, width)
    averaged = F.interpolate(depth.float()[None, None], size=size, mode="bilinear", align_corners=False)[0, 0]
    kept = torch.ones_like(averaged, dtype=torch.bool)
    if keep is not None:
        kept = F.interpolate(keep.float()[None, None], size=size, mode="nearest")[0, 0] > 0
    valid = valid_depth(averaged)
    state = torch.where(~kept, MASKED, torch.where(~valid, INVALID, USABLE))
    usable = torch.where(state == USABLE, averaged, torch.nan)
    return CellDepth(
        depth=usable,
        state=state.to(torch.uint8),
        sure=torch.ones_like(kept),
        fine=averaged.new_zeros(height, width, 0, 0),
        samples=usable,
    )


def slope(depth: Tensor) -> Tensor:
    """(h, w) by how much the logarithm of depth changes within a cell, across no edge.

    Along each axis the smaller of the two differences to the neighbours counts, and only if both have one sign: at an
    edge and on a thin structure they do not.
    """
    logarithm = depth.log()
    total = torch.zeros_like(depth)
    for axis in (0, 1):
        difference = logarithm.diff(dim=axis)
        nothing = torch.zeros_like(difference.narrow(axis, 0, 1)) if difference.shape[axis] else None
        if nothing is None:
            continue
        before, after = torch.cat([nothing, difference], dim=axis), torch.cat([difference, nothing], dim=axis)
        smaller = torch.where(before * after > 0, torch.minimum(before.abs(), after.abs()), 0.0)
        total = total + smaller
    return total


def _sampled(pixels: int, cells: int, patch: int) -> int:
    """Samples along one side of a cell: a multiple of the patch, no more than pixels or `_SAMPLES` unless it must."""
    most = max(1, min(-(-pixels // cells), _SAMPLES))
    return most if not patch else max(patch, most // patch * patch)


def _picks(image: Tensor, axis: int, samples: int) -> Tensor:
    """Pixels nearest to the centres of evenly spread samples."""
    step = image.shape[axis] / samples
    return ((torch.arange(samples, device=image.device, dtype=torch.float64) + 0.5) * step).long()


def _split(samples: Tensor, height: int, width: int) -> Tensor:
    """(h, w, k) samples of each cell, row by row."""
    rows, columns = samples.shape[0] // height, samples.shape[1] // width
    return samples.reshape(height, rows, width, columns).transpose(1, 2).reshape(height, width, rows * columns)


def _off_plane(cells: Tensor, median: Tensor, rows: int, columns: int) -> Tensor:
    """(h, w, k) distances of inverse depths from the plane through each cell, relative to the median's inverse."""
    inverse = torch.where(cells.isnan(), 1.0, median.unsqueeze(-1) / cells)
    y = torch.arange(rows, dtype=cells.dtype, device=cells.device).repeat_interleave(columns) - (rows - 1) / 2
    x = torch.arange(columns, dtype=cells.dtype, device=cells.device).repeat(rows) - (columns - 1) / 2
    # On a full grid the axes are orthogonal, so each slope is a projection.
    along_y = (inverse @ y).unsqueeze(-1) / y.square().sum().clamp(min=1e-9) * y
    along_x = (inverse @ x).unsqueeze(-1) / x.square().sum().clamp(min=1e-9) * x
    return (inverse - inverse.mean(dim=-1, keepdim=True) - along_y - along_x).abs()
