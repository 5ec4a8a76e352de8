"""Elements in one view, as the z-buffer on a CPU handles them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Elements:
    """Elements in one view, one row each.

    Attributes:
        depth: float32 metres.
        column, row: float32 cells of the bordered grid.
        own_x, own_y: the own cell, whole numbers in float32.
        reach_x, reach_y: float32 cells; the same tensor where pixels are square.
        index: int64 element.
    """

    depth: Tensor
    column: Tensor
    row: Tensor
    own_x: Tensor
    own_y: Tensor
    reach_x: Tensor
    reach_y: Tensor
    index: Tensor

    @property
    def reach(self) -> Tensor:
        """The larger reach."""
        return self.reach_x if self.reach_x is self.reach_y else torch.maximum(self.reach_x, self.reach_y)

    def at(self, rows: Tensor) -> Elements:
        """Some of the rows."""
        return self._map(lambda column: column.index_select(0, rows))

    def rows(self, rows: slice) -> Elements:
        """Some of the rows, without a copy."""
        return self._map(lambda column: column[rows])

    def _map(self, function: Callable[[Tensor], Tensor]) -> Elements:
        square = self.reach_x is self.reach_y
        columns = [function(getattr(self, name)) for name in _FIELDS if not (square and name == "reach_y")]
        if square:
            columns.insert(_FIELDS.index("reach_y"), columns[_FIELDS.index("reach_x")])
        return Elements(*columns)


_FIELDS = tuple(Elements.__dataclass_fields__)


@dataclass(frozen=True, eq=False)
class Near:
    """Elements that reach less than a cell, and the cells they may win: (k, n) for k of own, beside, below, diagonal.

    Attributes:
        cell: (k, n) int64 in the bordered grid. An element on a centre line has a cell twice.
        covers: (k, n) bool, the footprint covers the cell.
        squared: (k, n) float32 squared distance from the cell's centre.
        depth: (n,) float32 metres.
        index: (n,) int64 element.
    """

    cell: Tensor
    covers: Tensor
    squared: Tensor
    depth: Tensor
    index: Tensor

    def at_cells(self, chosen: slice) -> Near:
        """Some of the cells of each element."""
        return Near(self.cell[chosen], self.covers[chosen], self.squared[chosen], self.depth, self.index)

    def at(self, rows: Tensor) -> Near:
        """Some of the elements."""
        cell, covers, squared = (part.index_select(1, rows) for part in (self.cell, self.covers, self.squared))
        return Near(cell, covers, squared, self.depth.index_select(0, rows), self.index.index_select(0, rows))


def joined(parts: list[Elements]) -> Elements:
    """The rows of all parts, of which there is one at least."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in _FIELDS if name != "reach_y"}
    square = all(part.reach_x is part.reach_y for part in parts)
    reach_y = columns["reach_x"] if square else torch.cat([part.reach_y for part in parts])
    return Elements(**columns, reach_y=reach_y)


def rows_of(mask: Tensor) -> Tensor:
    """Indices (n,) int64 where a mask (N,) is true."""
    if mask.device.type == "cpu":
        # Several times as fast as torch for a few thousand rows.
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)
