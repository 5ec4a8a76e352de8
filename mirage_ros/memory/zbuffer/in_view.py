"""Elements in one view and the cells that their patches cover, for the rule of writing."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks, visible_blocks
from mirage_ros.memory.zbuffer.projection import BORDER, MAX_FOOTPRINT, Views, own_cell, project, reaches

# An element covers a cell other than its own only if its reach and its offset add up to one; with some slack, because
# the exact test follows.
_NEARLY_ONE = 0.999


@dataclass(frozen=True, eq=False)
class InView:
    """Elements in one view, one row each.

    Attributes:
        index: (n,) int64 rows of the elements' buffers.
        depth: (n,) float32 metres.
        column, row: (n,) float32 cells of the image, whose first cell has its corner at zero.
        own: (n,) int64 flat cell of the image that holds the element, -1 outside.
        covering: (m,) int64 places of elements in these columns, and
        covered: (m,) int64 a cell that each covers, -1 outside; the first n pairs are the elements and their own cells.
    """

    index: Tensor
    depth: Tensor
    column: Tensor
    row: Tensor
    own: Tensor
    covering: Tensor
    covered: Tensor


def in_view(positions: Tensor, sizes: Tensor, blocks: Blocks, view: Views) -> InView:
    """What is in a view.

    Args:
        positions: (3, B x BLOCK) float32 metres, NaN where there is no element.
        sizes: (B x BLOCK,) metres.
        blocks: the boxes of these elements.
    """
    held = visible_blocks(blocks, view)[0]
    x, y, z = positions.reshape(3, -1, BLOCK).index_select(1, held).reshape(3, -1).unbind(0)
    column, row, depth = project(x, y, z, view.matrices[0])
    rows = view.in_reach(column, row, depth).nonzero().squeeze(1)
    column, row, depth = (part.index_select(0, rows) for part in (column, row, depth))
    index = held[torch.div(rows, BLOCK, rounding_mode="floor")] * BLOCK + rows % BLOCK
    own_x, own_y = own_cell(column, view.convention), own_cell(row, view.convention)
    own = _image_cell(own_x, own_y, view)
    covering, covered = [torch.arange(len(rows), device=rows.device)], [own]
    if view.convention.footprints:
        reach_x, reach_y = reaches(sizes.index_select(0, index).float(), depth, view.half_focal[0])
        reach, centre = torch.maximum(reach_x, reach_y), view.convention.centre
        off = torch.maximum((column - (own_x + centre)).abs(), (row - (own_y + centre)).abs())
        # The cell k steps away has its centre at least k - 1/2 from the element.
        furthest = torch.where(off + reach >= _NEARLY_ONE, (reach + 0.501).to(torch.int32), 0)
        for ring in range(1, MAX_FOOTPRINT + 1):
            wide = (furthest >= ring).nonzero().squeeze(1)
            if not len(wide):
                break
            # All cells of the ring at once: (cells, elements).
            side = torch.arange(-ring, ring + 1, dtype=torch.float32, device=rows.device)
            steps = torch.cartesian_prod(side, side)
            steps = steps[steps.abs().amax(dim=1) == ring].mT.unsqueeze(-1)
            cell_x, cell_y = own_x[wide] + steps[0], own_y[wide] + steps[1]
            hit = (column[wide] - (cell_x + centre)).abs() <= reach_x[wide]
            hit &= (row[wide] - (cell_y + centre)).abs() <= reach_y[wide]
            covering.append(wide.expand_as(hit)[hit])
            covered.append(_image_cell(cell_x[hit], cell_y[hit], view))
    return InView(index, depth, column - BORDER, row - BORDER, own, torch.cat(covering), torch.cat(covered))


def _image_cell(column: Tensor, row: Tensor, view: Views) -> Tensor:
    """(n,) int64 flat image cells of whole columns and rows of the bordered grid, -1 outside."""
    column, row = column - BORDER, row - BORDER
    inside = (row >= 0) & (row < view.height) & (column >= 0) & (column < view.width)
    return torch.where(inside, row * view.width + column, -1).to(torch.int64)
