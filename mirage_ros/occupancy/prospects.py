"""What a planner may expect of views and ways: what they would show that nobody saw, and what they may touch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import fit_camera
from mirage_ros.occupancy.grid import FREE, OCCUPIED, PER_CENT, OccupancyMap
from mirage_ros.occupancy.rays import PRIOR, look

# Columns of a view whose rays are followed, and how far, metres.
RAYS, SIGHT = 36, 8.0
# Of unknown space so much hides what is behind it, and so much stops a robot, per metre.
HIDING, STOPPING = 0.25, 0.5
# A cell that is imagined stands for an obstacle from this per cent on: more than any place of which nothing is known.
OBSTACLE = round(PRIOR * 130)
# Probabilities of obstacles that are told apart around a way, at most; others count as the next higher one.
LEVELS = 32


@dataclass(frozen=True)
class ViewScore:
    """What one path is worth. Of one that leaves the map, area, information, clearance and collision are NaN: unknown.

    Attributes:
        coverage: share of its views that the memory knows, 0 to 1, mean over its poses.
        new_area: square metres of the map never observed that its views are expected to show.
        information_gain: bits x square metres: the same, weighted by doubt.
        clearance: metres to the next obstacle, seen or imagined; at most half of the map's extent.
        collision: probability of touching something on the way.
        similarity: of its best view to the goal picture, -1 to 1; NaN without one.
    """

    coverage: float
    new_area: float
    information_gain: float
    clearance: float
    collision: float
    similarity: float = math.nan


class Prospects:
    """One state of a map, looked at from many places. Nothing is known of ways that leave it: they get NaN."""

    def __init__(self, grid: OccupancyMap, stands: Tensor | None = None, radius: float = 0.0) -> None:
        """Look at a map.

        Args:
            grid: must not change meanwhile and has a place.
            stands: (2 or 3) metres, where the robot is; there is room within its radius.
            radius: metres.
        """
        self._grid, self._voxels = grid, grid.combined()
        self._known, self._guessed = grid.known(), grid.guessed()
        self._radius, self._touched = -1.0, np.zeros((0, 0), np.float32)
        resolution = grid.shape.resolution
        odds, passing = torch.arange(-128, 128), 1 - torch.from_numpy(PER_CENT).float() / 100
        passing[odds <= FREE], passing[odds >= OCCUPIED] = 1, 0
        passing[odds == 0] = math.exp(-HIDING * resolution)
        self._passing = passing
        if stands is not None:
            (row, column), (rows, columns) = self._places(stands[None])[0], np.indices(self._known.shape)
            free = (np.hypot(rows - row, columns - column) * resolution <= radius) & (self._known < 0)
            self._known[free], self._guessed[free] = 0, -1
        self._unknown = (self._known < 0) & (self._guessed < 0)

    @cached_property
    def occupied(self) -> NDArray[np.float32]:
        """(rows, columns) float32, probability that a cell is occupied; 0 where nobody knows."""
        return (np.maximum(self._known, self._guessed).clip(min=0) / 100).astype(np.float32)

    @cached_property
    def _doubt(self) -> NDArray[np.float32]:
        """(rows, columns) float32 bits of what was never observed, 1 where nobody knows; 0 elsewhere."""
        p = self.occupied.clip(1e-3, 1 - 1e-3)
        entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        return np.where(self._unknown, 1, np.where(self._known < 0, entropy, 0)).astype(np.float32)

    @cached_property
    def _distance(self) -> NDArray[np.float32]:
        """(rows, columns) float32 metres to the next cell that is occupied, or imagined to be."""
        cells = (np.maximum(self._known, self._guessed) < OBSTACLE).astype(np.uint8)
        if cells.all():
            return np.full(cells.shape, np.inf, np.float32)
        return (cv2.distanceTransform(cells, cv2.DIST_L2, 5) * self._grid.shape.resolution).astype(np.float32)

    def news(self, camera: Camera) -> tuple[float, float]:
        """What (T,) views together would show of what was never observed: square metres, and bits x square metres."""
        if not self._inside(self._places(camera.cam2world[:, :3, 3].cpu())).all():
            return math.nan, math.nan
        views = fit_camera(camera, max(1, round(camera.height * RAYS / camera.width)), RAYS)
        rays = self._grid.rays(views)
        seen = look(self._voxels, rays, torch.full(rays.directions.shape[:2], SIGHT), self._passing, SIGHT).numpy()
        area = self._grid.shape.resolution**2
        return float(seen[self._known < 0].sum() * area), float((seen * self._doubt).sum() * area)

    def clearance(self, way: Tensor) -> float:
        """Metres from a way (T, 2 or 3) to the next obstacle, at most half of the map's extent."""
        places = self._places(way)
        if not self._inside(places).all():
            return math.nan
        return float(min(self._distance[tuple(places.T)].min(), self._grid.shape.extent / 2))

    def collision(self, way: Tensor, radius: float) -> float:
        """Probability that a disc which follows a way (T, 2 or 3) touches something.

        Cells are independent, and each counts as often as its longest stay under the disc. Of unknown space
        each metre is a risk of its own, along the middle of the way.
        """
        cell, at = self._grid.shape.resolution, self._places(way)
        reach = math.ceil(radius / cell)
        if not self._inside(at).all():
            return math.nan
        if radius != self._radius:
            self._radius, self._touched = radius, self._largest_within(radius / cell)
        chosen = tuple(at.T)
        unknown = int(self._unknown[chosen].sum())
        touched = np.log1p(-self._touched[chosen].astype(np.float64).clip(max=1 - 1e-6))
        # However short the stay: never less than the worst place alone.
        free = min(touched.sum() / (2 * reach + 1), touched.min())
        return float(1 - np.exp(free - STOPPING * cell * unknown))

    def _largest_within(self, cells: float) -> NDArray[np.float32]:
        """(rows, columns) float32, the highest probability of an obstacle within so many cells."""
        largest, levels = np.zeros_like(self.occupied), np.unique(self.occupied[self.occupied > 0])
        # Distances cost the same for every radius, unlike a dilation.
        # What was seen to be occupied is never mixed with what may be.
        groups = [*np.array_split(levels[:-1], min(LEVELS, len(levels))), levels[-1:]] if len(levels) else []
        for group in groups:
            if len(group):
                farther = (self.occupied < group[0]).astype(np.uint8)
                near = cv2.distanceTransform(farther, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= cells + 1e-3
                largest[near] = group[-1]
        return largest

    def _places(self, way: Tensor) -> NDArray[np.int64]:
        """(N, 2) rows and columns of the cells along a way."""
        points, step, most = way[:, :2].double().numpy(), self._grid.shape.resolution, 4 * self._grid.shape.cells
        parts = [points[:1]]
        for one, other in pairwise(points):
            # Of a leap across more than the map, some places are enough.
            count = min(max(1, math.ceil(np.linalg.norm(other - one) / step)), most)
            parts.append(one + (other - one) * np.linspace(0, 1, count + 1)[1:, None])
        cells = (np.concatenate(parts) - self._grid.corner.numpy()) / step
        return np.floor(cells).astype(np.int64)[:, ::-1]

    def _inside(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        inside: Any = ((places >= 0) & (places < self._grid.shape.cells)).all(axis=1)
        return np.asarray(inside)
