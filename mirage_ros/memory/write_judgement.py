"""Writing one frame: what the memory explains already, what it must forget, and what is new."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.memory.cell_depth import MAJORITY, USABLE, CellDepth, slope
from mirage_ros.memory.depth_patches import NOTHING
from mirage_ros.memory.elements import ElementStore
from mirage_ros.memory.write_rules import FINER, FREE_SPACE, WriteRules
from mirage_ros.memory.zbuffer.in_view import InView, in_view
from mirage_ros.memory.zbuffer.projection import Views
from mirage_ros.memory.zbuffer.reference import TOLERANCE

# Frames that hold one surface in a cell of the view that is written, about as fine as it, where context is written: the
# oldest ones and the new one. A cell about which two frames disagree is written at each of their visits, and would add
# its surroundings each time.
LAYERS = 3


@dataclass(frozen=True, eq=False)
class Verdict:
    """What a frame says about the memory and the memory about the frame.

    Attributes:
        explained: (h, w) bool cells whose surface the memory holds, as fine and as real.
        worse: (h, w) bool cells whose surface it holds, but coarser, or imagined where the frame is real.
        context: (h, w) bool explained cells around those that are not, which are written as well.
        confirmed: (n,) int64 elements that agree with the frame.
        seen_through: (n,) int64 elements that the frame sees through.
        superseded: (n,) int64 elements that are wholly covered by cells that will be written or are explained, and
            those that the context makes superfluous.
    """

    explained: Tensor
    worse: Tensor
    context: Tensor
    confirmed: Tensor
    seen_through: Tensor
    superseded: Tensor


def judge(
    store: ElementStore,
    imagined: Tensor,
    sequence: Tensor,
    frame_imagined: bool,
    views: Views,
    cells: CellDepth,
    skip: Tensor,
    rules: WriteRules,
) -> Verdict:
    """Compare a frame with the elements in its view.

    An element agrees if the depth measured at the very place it projects to is its own, within the tolerance. It is
    seen through if everything within a quarter of a cell of that place is further by FREE_SPACE, or, if it knows the
    greater part of its cell, if everything within half a cell is too far to measure. It explains the
    cells that it covers and whose depth is its own, within the tolerance and what the slope of the surface makes within
    a cell, if it knows the greater part of its own cell or no less than there is to know.

    Args:
        imagined: (S,) bool for each frame slot.
        sequence: (S,) int64 order in which the frames of the slots were written.
        frame_imagined: whether the new frame is; imagination says nothing about observed elements, except that they
            explain it.
        views: the one view of the frame at latent resolution.
        skip: (h, w) bool cells that say nothing, because they were copied from the memory.
    """
    height, width = views.height, views.width
    nothing = torch.zeros(height * width, dtype=torch.bool, device=store.device)
    none = torch.zeros(0, dtype=torch.int64, device=store.device)
    elements = in_view(store.columns["positions"], store.columns["size"], store.blocks(), views)
    if not len(elements.index):
        nowhere = nothing.reshape(height, width)
        return Verdict(nowhere, nowhere, nowhere, none, none, none)
    usable = ((cells.state == USABLE) & ~skip).reshape(-1)

    own, rows, cell = elements.own, elements.covering, elements.covered
    inside = own >= 0
    at_own = own.clamp(min=0)
    measured = _measured(elements, cells.samples, views)
    real_memory = ~imagined[store.columns["frame"].index_select(0, elements.index).to(torch.int64)]
    known = _known_share(store, elements.index)
    # A bar of a window is a small part of its cell, whose centre may well be sky.
    sky = measured.isposinf() & _measured(elements, _least_around(cells.samples, height, 2), views).isposinf()
    sky &= ~skip.reshape(-1)[at_own] & (known >= MAJORITY)
    # Imagination neither confirms nor removes what was observed.
    heard = inside & (usable[at_own] | sky) & ~(real_memory & frame_imagined)
    agrees = heard & ((elements.depth / measured - 1).abs() <= TOLERANCE)
    around = _measured(elements, _least_around(cells.samples, height, 4), views)
    further = measured.isfinite() & (elements.depth < around * (1 - FREE_SPACE))
    through = heard & ~agrees & (further | sky)

    size = elements.depth.reciprocal() * store.columns["size"].index_select(0, elements.index).float() * views.focal[0]
    good = size <= FINER
    if not frame_imagined:
        good &= real_memory
    logarithm = cells.depth.reshape(-1).log()
    allowed = TOLERANCE + slope(cells.depth).reshape(-1).nan_to_num(0.0)
    depths = elements.depth.log()
    # Of a cell that is mostly sky, or a hole of the sensor, little is known: it does not stand for more.
    asked = _share(cells.fine.isfinite()).reshape(-1)
    partial = (known < MAJORITY) & (known < asked[at_own])
    at = cell.clamp(min=0)
    hit = (cell >= 0) & ((depths[rows] - logarithm[at]).abs() <= allowed[at])
    own_hit = hit[: len(own)]
    serves = good[rows] & ((known[rows] >= MAJORITY) | (known[rows] >= asked[at]))
    explained, worse = nothing.clone(), nothing.clone()
    explained[cell[hit & serves]] = True
    worse[cell[hit & ~serves]] = True

    # A worse element goes once every cell that it covers is held by better ones.
    settled = (usable & (asked >= MAJORITY)) | explained
    open_cells = torch.zeros(len(own), dtype=torch.bool, device=own.device)
    open_cells[rows[(cell < 0) | ~settled[at]]] = True
    superseded = own_hit & (~good | partial) & ~open_cells & usable[at_own] & ~explained[at_own]
    if rules.context:
        new = (usable & ~explained).reshape(1, height, width).float()
        around = F.max_pool2d(new, 2 * rules.context + 1, stride=1, padding=rules.context)[0] > 0
        context = usable & explained & around.reshape(-1)
        # A finer element is worth more than the context that would take its place.
        alike = (own_hit & good & (size * FINER >= 1) & context[at_own]).nonzero().squeeze(1)
        frame = store.columns["frame"].index_select(0, elements.index[alike]).to(torch.int64)
        superseded[alike] |= _layer(at_own[alike], sequence[frame]) >= LAYERS - 1
    else:
        context = nothing
    if frame_imagined:
        superseded &= ~real_memory
    return Verdict(
        explained=explained.reshape(height, width),
        worse=worse.reshape(height, width),
        context=context.reshape(height, width),
        confirmed=elements.index[agrees & ~superseded],
        seen_through=elements.index[through & ~superseded],
        superseded=elements.index[superseded],
    )


def _known_share(store: ElementStore, rows: Tensor) -> Tensor:
    """(n,) share of each element's cell whose depth it knows; all of it without patches."""
    if not store.patch:
        return torch.ones(len(rows), device=store.device)
    return _share(store.columns["patch"].index_select(0, rows) != NOTHING)


def _share(patches: Tensor) -> Tensor:
    """Share of sub-cells (..., p, p) that are true; one where there are none."""
    if not patches.shape[-1]:
        return torch.ones(patches.shape[:-2], device=patches.device)
    return patches.float().mean(dim=(-2, -1))


def _layer(cell: Tensor, sequence: Tensor) -> Tensor:
    """(n,) how many older frames have elements in the cell of each, from their cells and their frames' sequence."""
    order = torch.argsort(sequence, stable=True)
    order = order[torch.argsort(cell[order], stable=True)]
    cell, sequence = cell[order], sequence[order]
    first = torch.ones_like(cell, dtype=torch.bool)
    first[1:] = cell[1:] != cell[:-1]
    other = first.clone()
    other[1:] |= sequence[1:] != sequence[:-1]
    count = other.to(torch.int64).cumsum(0)
    before = torch.where(first, count, 0).cummax(0).values if len(count) else count
    return torch.empty_like(count).index_copy_(0, order, count - before)


def _least_around(samples: Tensor, height: int, part: int) -> Tensor:
    """The least valid sample within a cell's n-th `part` along each axis; infinite where there is none."""
    radius = max(1, samples.shape[0] // height // part)
    negative = torch.where(samples.isnan(), -torch.inf, -samples)[None, None]
    negative = F.max_pool2d(negative, (2 * radius + 1, 1), stride=1, padding=(radius, 0))
    return -F.max_pool2d(negative, (1, 2 * radius + 1), stride=1, padding=(0, radius))[0, 0]


def _measured(elements: InView, samples: Tensor, views: Views) -> Tensor:
    """The depth sample at the very place of each element, NaN where there is none."""
    rows, columns = samples.shape
    # The public convention puts the centre of the first cell at zero.
    shift = 0.5 - views.convention.centre
    y = ((elements.row + shift) * (rows / views.height)).floor().to(torch.int64)
    x = ((elements.column + shift) * (columns / views.width)).floor().to(torch.int64)
    inside = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    sampled = samples.reshape(-1)[torch.where(inside, y * columns + x, 0)]
    return torch.where(inside, sampled, torch.nan)


def tile_order(height: int, width: int, device: torch.device) -> Tensor:
    """(h x w,) permutation of cells by tiles of 16 x 16, so that a block of elements is compact in space."""
    cell = torch.arange(height * width, device=device)
    row, column = torch.div(cell, width, rounding_mode="floor"), cell % width
    tile = torch.div(row, 16, rounding_mode="floor") * width + torch.div(column, 16, rounding_mode="floor")
    return torch.argsort(tile, stable=True)


def eviction_order(store: ElementStore, imagined: Tensor, sequence: Tensor) -> Tensor:
    """(count,) int64 rows of the elements in the order in which they are evicted.

    Imagined before observed, then those in doubt (confidence 1), then those of the oldest frame, of them the least
    confirmed.
    """
    frame, confidence = (store.column(name).to(torch.int64) for name in ("frame", "confidence"))
    standing = (~imagined[frame]).to(torch.int64) * 2 + (confidence > 1)
    rank = (standing << 60) | (sequence[frame].clamp(max=2**52 - 1) << 8) | confidence
    return store.rows_of(torch.argsort(rank, stable=True))
