"""Planners that explore: what a move is worth to each of them, by the same map, memory and risk."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.occupancy.prospects import SIGHT, ViewScore
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.world.history import History
from mirage_ros.world.model import WorldModel
from mirage_ros.world.surroundings import Surroundings
from mirage_ros.world.view_scores import score_views

# Half of the robot's width and a little air, metres, and the most risk that it takes.
RADIUS, RISK = 0.2, 0.3


@dataclass(frozen=True, eq=False)
class ExploringRobot:
    """What a robot knows.

    Attributes:
        world, memory, history: what it imagines with.
        surroundings: its map.
        seed: of what is imagined.
    """

    world: WorldModel
    memory: LatentMemory
    history: History
    surroundings: Surroundings
    seed: int

    def scores(self, paths: Sequence[Camera], imagined: Sequence[ImaginedFrame] | None = None) -> list[ViewScore]:
        """Of paths (T,), see `score_views`."""
        networks, grid = self.world.networks, self.surroundings
        return list(score_views(networks, self.memory, grid, paths, radius=RADIUS, imagined=imagined))

    def imagine(self, paths: Sequence[Camera]) -> list[ImaginedFrame]:
        """What it would see along paths."""
        frames: dict[int, list[ImaginedFrame]] = {}
        for chunk in self.world.imagine_candidates(self.memory, paths, history=self.history, seed=self.seed):
            frames.setdefault(chunk.candidate, []).append(chunk)
        return [ImaginedFrame.joined(frames[index]) for index in range(len(paths))]


# Value and risk of each of some paths.
Explorer = Callable[[ExploringRobot, Sequence[Camera]], list[tuple[float, float]]]


def by_frontiers(robot: ExploringRobot, paths: Sequence[Camera]) -> list[tuple[float, float]]:
    """The border between free and unknown that the last view has in sight; without any, how near that is."""
    border = Border(robot.surroundings)
    return [(border.value(path[-1:]), score.collision) for path, score in zip(paths, robot.scores(paths), strict=True)]


def by_readout(robot: ExploringRobot, paths: Sequence[Camera]) -> list[tuple[float, float]]:
    """Area never seen that would be seen, by map and memory alone."""
    return [(score.new_area, score.collision) for score in robot.scores(paths)]


def by_imagined_mean(robot: ExploringRobot, paths: Sequence[Camera]) -> list[tuple[float, float]]:
    """The same, by what is imagined and taken at its word."""
    sure = robot.world.networks.doubt
    frames = [
        replace(each, uncertainty=sure.uncertainty(each.depth, np.ones_like(each.visible)))
        for each in robot.imagine(paths)
    ]
    return [(score.new_area, score.collision) for score in robot.scores(paths, frames)]


def by_imagined_doubt(robot: ExploringRobot, paths: Sequence[Camera]) -> list[tuple[float, float]]:
    """Information in what would be seen, by what is imagined and how sure that is."""
    scores = robot.scores(paths, robot.imagine(paths))
    return [(score.information_gain, score.collision) for score in scores]


EXPLORERS: dict[str, Explorer] = {
    "frontiers": by_frontiers,
    "readout": by_readout,
    "imagined, mean": by_imagined_mean,
    "imagined, with doubt": by_imagined_doubt,
}


class Border:
    """The cells of a map that are free and next to unknown ones, and that a robot can stand near."""

    def __init__(self, surroundings: Surroundings) -> None:
        """Find them."""
        self._grid, self._known = surroundings, surroundings.known()
        unknown, blocked = (
            cv2.dilate(each.astype(np.uint8), np.ones((3, 3), np.uint8))
            for each in (self._known < 0, self._known == 100)
        )
        self.cells: NDArray[np.int64] = np.argwhere((self._known == 0) & (unknown > 0) & (blocked == 0))

    def value(self, view: Camera) -> float:
        """Cells of it that a view (1,) has in sight; minus the metres to the next one where it has none."""
        if not len(self.cells):
            return -self._grid.shape.extent
        corner, step = self._grid.corner.numpy(), self._grid.shape.resolution
        pose, middles = view.cam2world[0].double().cpu(), (self.cells[:, ::-1] + 0.5) * step + corner
        offset = middles - pose[:2, 3].numpy()
        distance = np.linalg.norm(offset, axis=1)
        seen = (distance < SIGHT) & self._faces(view, pose, offset) & self._clear(pose[:2, 3].numpy(), middles)
        return float(seen.sum()) if seen.any() else -float(distance.min())

    def _faces(self, view: Camera, pose: Tensor, offset: NDArray[np.float64]) -> NDArray[np.bool_]:
        right, ahead = (offset @ pose[:2, axis].numpy() for axis in (0, 2))
        half = view.width / 2 / float(view.intrinsics.reshape(-1, 3, 3)[0, 0, 0])
        return np.asarray((ahead > 0) & (np.abs(right) < half * ahead))

    def _clear(self, place: NDArray[np.float64], cells: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether nothing that is known to be occupied stands between a place (2,) and cells (N, 2)."""
        count = 2 * self._grid.shape.cells
        between = place + (cells - place)[:, None] * np.linspace(0, 1, count)[:, None]
        at = np.floor((between - self._grid.corner.numpy()) / self._grid.shape.resolution).astype(np.int64)
        columns, rows = at.clip(0, self._grid.shape.cells - 1).transpose(2, 0, 1)
        return np.asarray((self._known[rows, columns] != 100).all(axis=1))
