"""Walls continue: the straight lines of what was seen, made longer."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# Cells of a line that must have been seen, and of free space behind it that do not speak against a wall, of each.
LEAST_CELLS, OPEN_SHARE = 20, 0.02
# Lines that differ by less than so many degrees and cells are one.
SAME_ANGLE, SAME_DISTANCE = 10.0, 6.0
# In the order in which they are likely to be occupied.
BEFORE, ON, BEHIND = 0, 1, 2


def continue_walls(known: NDArray[np.int8], place: tuple[float, float]) -> NDArray[np.uint8]:
    """What straight walls say of every cell of a grid.

    A wall is a line along a metre or more of occupied cells behind which hardly any free cell was seen.

    Args:
        known: (rows, columns) 0 free, 100 occupied, -1 unknown.
        place: row and column of the camera.

    Returns:
        (rows, columns) uint8: BEFORE all walls, as the camera sees it, BEHIND one of them, or ON the first.
    """
    rows, columns = np.indices(known.shape) + 0.5
    free = known == 0
    behind, on = np.zeros(known.shape, np.bool_), np.zeros(known.shape, np.bool_)
    for angle, distance in _lines(known == 100):
        beyond = columns * math.cos(angle) + rows * math.sin(angle) - distance
        side = place[1] * math.cos(angle) + place[0] * math.sin(angle) - distance
        beyond = -beyond if side > 0 else beyond
        if (free & (beyond > 2)).sum() > OPEN_SHARE * max(free.sum(), 1):
            continue
        behind |= beyond > 2
        on |= np.abs(beyond) <= 2
    return np.where(behind, BEHIND, np.where(on, ON, BEFORE)).astype(np.uint8)


def _lines(occupied: NDArray[np.bool_]) -> list[tuple[float, float]]:
    """Angle of the normal in radians and distance in cells from the low corner, strongest first, each wall once."""
    found = cv2.HoughLines(occupied.astype(np.uint8), 1, np.pi / 180, LEAST_CELLS)
    kept: list[tuple[float, float]] = []
    for distance, angle in [] if found is None else found.reshape(-1, 2).astype(float):
        if not any(_same(angle, distance, *other) for other in kept):
            kept.append((angle, distance + 0.5))
    return kept


def _same(angle: float, distance: float, other: float, its: float) -> bool:
    turn = abs(angle - other) % math.pi
    if turn > math.pi / 2:
        # The normals of a line may point either way.
        turn, distance = math.pi - turn, -distance
    return math.degrees(turn) < SAME_ANGLE and abs(distance - its) < SAME_DISTANCE
