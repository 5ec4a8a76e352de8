"""nav_msgs/OccupancyGrid <-> numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import Point, Pose
from nav_msgs.msg import MapMetaData, OccupancyGrid
from numpy.typing import NDArray
from std_msgs.msg import Header

from mirage_ros.ros.conversions.checks import check_finite, check_message, check_size, header_or_empty


def cells_to_grid(
    cells: NDArray[np.int8], resolution: float, corner: Sequence[float], header: Header | None = None
) -> OccupancyGrid:
    """Message of a grid.

    Args:
        cells: (rows, columns) int8, rows along y and columns along x: 0 free to 100 occupied, -1 unknown.
        resolution: metres.
        corner: x, y, z metres of the corner of cell (0, 0), in the header's frame.
        header: stamp and frame.

    Raises:
        ValueError: cells are of another kind.
    """
    if cells.ndim != 2 or cells.dtype != np.int8 or not cells.size:
        raise ValueError(f"cells: expected (rows, columns) int8, got {cells.shape} {cells.dtype}")
    header = header_or_empty(header)
    x, y, z = (float(value) for value in corner)
    info = MapMetaData(
        map_load_time=header.stamp,
        resolution=float(resolution),
        height=cells.shape[0],
        width=cells.shape[1],
        origin=Pose(position=Point(x=x, y=y, z=z)),
    )
    message = OccupancyGrid(header=header, info=info)
    message.data.frombytes(np.ascontiguousarray(cells).tobytes())
    return message


def grid_to_cells(message: OccupancyGrid) -> tuple[NDArray[np.int8], float, NDArray[np.float64]]:
    """Cells (rows, columns) int8, resolution in metres and corner (x, y) of a grid that is not turned.

    Raises:
        TypeError: not an OccupancyGrid.
        ValueError: size, resolution or place is not usable; names the field.
    """
    check_message(message, OccupancyGrid, "grid")
    info, turn = message.info, message.info.origin.orientation
    check_size(info, "grid.info")
    if len(message.data) != info.height * info.width:
        raise ValueError(f"grid.data: expected {info.height} x {info.width} cells, got {len(message.data)}")
    corner = [info.origin.position.x, info.origin.position.y]
    check_finite([info.resolution, *corner], "grid.info")
    if info.resolution <= 0 or any((turn.x, turn.y, turn.z)):
        raise ValueError(f"grid.info: expected a positive resolution and no rotation, got {info.resolution} and {turn}")
    cells = np.frombuffer(message.data, np.int8).reshape(info.height, info.width)
    return cells, float(info.resolution), np.array(corner)
