"""Grids of occupancy for a client: the newest of each topic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirage_ros.client.link import Link, wait_for
from mirage_ros.ros.conversions import grid_to_cells


@dataclass(frozen=True, eq=False)
class Grid:
    """Occupancy of the ground in the world frame.

    Attributes:
        cells: (rows, columns) int8, rows along y, columns along x: 0 free to 100 occupied, -1 where it says nothing.
        resolution: metres, side of a cell.
        corner: (2,) metres, x and y of the corner of cell (0, 0).
    """

    cells: NDArray[np.int8]
    resolution: float
    corner: NDArray[np.float64]

    def at(self, places: NDArray[np.floating]) -> NDArray[np.int8]:
        """(...) values at places (..., 2 or more) x, y metres; -1 off the grid."""
        columns, rows = np.floor((np.asarray(places)[..., :2] - self.corner) / self.resolution).astype(int).T
        inside = (rows >= 0) & (rows < len(self.cells)) & (columns >= 0) & (columns < self.cells.shape[1])
        values = np.full(inside.shape, -1, np.int8)
        values[inside] = self.cells[rows[inside], columns[inside]]
        return values.T

    @property
    def centres(self) -> NDArray[np.float64]:
        """(rows, columns, 2) metres, x and y of the cells' middles."""
        rows, columns = np.indices(self.cells.shape)
        return np.stack([columns + 0.5, rows + 0.5], axis=-1) * self.resolution + self.corner


class Grids:
    """Listens to the topics of grids from the first question on; they keep the last message for whoever comes late."""

    def __init__(self, link: Link) -> None:
        """Set up."""
        self._link = link
        self._newest: dict[str, Any] = {}

    def newest(self, topic: str, limit: float) -> Grid:
        """The newest grid of a topic; a TimeoutError if none came until time.monotonic() was at the limit."""
        if topic not in self._newest:
            self._newest[topic] = None
            self._link.listen(topic, lambda message: self._newest.__setitem__(topic, message))
        wait_for(
            lambda: self._newest[topic], limit, f"occupancy: nothing on {topic}; has the node seen a camera frame?"
        )
        cells, resolution, corner = grid_to_cells(self._newest[topic])
        return Grid(cells, resolution, corner)
