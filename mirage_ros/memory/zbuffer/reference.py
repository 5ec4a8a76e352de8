"""Which element wins each cell: the rules, packed keys and the dense z-buffer.

Semantics, shared by every path. An element at (column, row, depth) with reach (a, b), see `projection`:

- takes part only if its depth is finite and beyond the near plane, and its position at most MAX_FOOTPRINT + 1/2 cells
  outside the image;
- covers its own cell and every cell whose centre is within a along columns and within b along rows.

Rule ``strict``: among the elements that cover a cell the one of least depth wins; of equals the lowest index.

Rule ``nearest``: a cell is visible if an element covers it; the least depth of those is its surface. Candidates are the
elements no deeper than surface x (1 + TOLERANCE), and what the surface's slope adds (`depth_limit`), that cover the
cell or whose position is less than one cell from its centre along both axes. The candidate nearest to the centre wins;
of equals the lowest index.

A winner is found by packing (float32 bits of the measure, index) into one int64 and an amin reduction: the bits of
non-negative floats sort like the floats, so the result is exact and independent of the order of the elements.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.memory.zbuffer.projection import MAX_FOOTPRINT, Views, own_cell, project, reaches

RULES = ("nearest", "strict")
# Share of depth within which elements count as one surface.
TOLERANCE = 0.05
# Larger than any packed key: the key of a cell that no element covers.
EMPTY = torch.iinfo(torch.int64).max
_INDEX_BITS = 32


def pack(measure: Tensor, index: Tensor) -> Tensor:
    """int64 keys that sort by a non-negative float32 measure, then by an index below 2^32."""
    # Adding zero turns -0.0, whose bits are negative, into 0.0.
    bits = (measure + 0.0).view(torch.int32).to(torch.int64)
    return bits.bitwise_left_shift_(_INDEX_BITS).bitwise_or_(index)


def unpack_index(keys: Tensor) -> Tensor:
    """Indices of packed keys, int64, -1 where the key is EMPTY."""
    return torch.where(keys == EMPTY, -1, keys & ((1 << _INDEX_BITS) - 1))


def depth_limit(surface: Tensor) -> Tensor:
    """Greatest depth that counts as visible with `nearest`, from the surface of each cell.

    Depths within a cell differ by the slope of the surface; without an allowance for it, only the near side of a
    slanted surface would count as visible, the more so the more elements there are. Along each axis the depth may rise
    by the smaller of its two ratios to the neighbours, if both rise in one direction: at an edge and on a thin
    structure they do not. A neighbour without a surface leaves the word to the other. No limit exceeds what the deepest
    of the cell and its eight neighbours allows.

    Args:
        surface: (..., h, w) float32 metres, infinite where there is none.

    Returns:
        (..., h, w) float32 metres, minus infinity where there is no surface, so that one comparison decides.
    """
    rise = _rise(surface, -2) * _rise(surface, -1)
    flat = surface.reshape(-1, 1, *surface.shape[-2:])
    deepest = F.max_pool2d(F.pad(flat, (1, 1, 1, 1), value=torch.inf), 3, stride=1).reshape(surface.shape)
    limit = torch.minimum(surface * rise, deepest) * (1 + TOLERANCE)
    return torch.where(surface == torch.inf, -torch.inf, limit)


def _rise(surface: Tensor, axis: int) -> Tensor:
    """(..., h, w) factor of at least one by which depth rises within a cell along an axis, across no edge."""
    length = surface.shape[axis]
    ratio = surface.narrow(axis, 1, length - 1) / surface.narrow(axis, 0, length - 1)
    outside = torch.zeros_like(surface.narrow(axis, 0, 1))
    ahead, behind = torch.cat([ratio, outside], dim=axis), torch.cat([outside, ratio], dim=axis)
    # Where a neighbour has no surface the ratio is zero, infinite or not a number.
    ahead_known, behind_known = (ahead > 0) & (ahead < torch.inf), (behind > 0) & (behind < torch.inf)
    ahead = torch.where(ahead_known, ahead, torch.where(behind_known, behind, 1.0))
    behind = torch.where(behind_known, behind, ahead)
    return torch.minimum(ahead, behind).clamp(min=1) / torch.maximum(ahead, behind).clamp(max=1)


def winners_dense(positions: Tensor, sizes: Tensor, views: Views, rule: str) -> Tensor:
    """Winners by static loops over the cells around each element: no host synchronisation, any device.

    Args:
        positions: (3, N) float32 metres, or (V, 3, N) for views that have their own elements.
        sizes: (N,) or (V, N) metres.
        rule: 'nearest' or 'strict'.

    Returns:
        (V, cells) int64 indices into the elements, -1 where there is none.
    """
    x, y, z = positions.float().unbind(-2)
    column, row, depth = project(x, y, z, views.matrices)
    reach_x, reach_y = reaches(sizes.float(), depth, views.half_focal)
    usable = views.in_reach(column, row, depth)
    # What cannot take part lands in the corner, which is outside the image.
    column, row = torch.where(usable, column, 0.5), torch.where(usable, row, 0.5)
    own_x, own_y = own_cell(column, views.convention), own_cell(row, views.convention)
    first = (torch.arange(len(views), device=depth.device) * views.slots).unsqueeze(-1)
    own = (own_y * views.pitch + own_x).to(torch.int64) + first
    index = torch.arange(depth.shape[-1], device=depth.device).expand_as(depth)
    centre = views.convention.centre
    radius = MAX_FOOTPRINT if views.convention.footprints else 0

    def around(radius: int) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        for step_y in range(-radius, radius + 1):
            dy = row - (own_y + step_y + centre)
            for step_x in range(-radius, radius + 1):
                dx = column - (own_x + step_x + centre)
                covers = usable
                if step_x or step_y:
                    covers = usable & (dx.abs() <= reach_x) & (dy.abs() <= reach_y)
                yield (own + (step_y * views.pitch + step_x)).clamp_(0, slots - 1), covers, dx, dy

    slots = len(views) * views.slots
    surface = torch.full((slots,), torch.inf, device=depth.device)
    for cell, covers, _, _ in around(radius):
        _amin(surface, cell, torch.where(covers, depth, torch.inf))
    # Frontmost is what lies no deeper than the surface, where all that is visible is equally near.
    limit = surface
    if rule == "nearest":
        image = views.image(surface.reshape(len(views), -1)).reshape(-1, views.height, views.width)
        limit = views.bordered(depth_limit(image), -torch.inf).reshape(-1)
    keys = torch.full((slots,), EMPTY, device=depth.device)
    for cell, covers, dx, dy in around(radius if rule == "strict" else max(radius, 1)):
        taken = covers if rule == "strict" else covers | (usable & (dx.abs() < 1) & (dy.abs() < 1))
        measure = torch.zeros_like(dx) if rule == "strict" else dx * dx + dy * dy
        _amin(keys, cell, torch.where(taken & (depth <= limit[cell]), pack(measure, index), EMPTY))
    return unpack_index(views.image(keys.reshape(len(views), -1)))


def _amin(target: Tensor, cell: Tensor, values: Tensor) -> None:
    target.scatter_reduce_(0, cell.reshape(-1), values.reshape(-1), "amin")
