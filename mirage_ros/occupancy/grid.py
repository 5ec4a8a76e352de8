"""The grids of occupancy around the cameras: what was observed, and what is only imagined."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import fit_camera, fit_nearest
from mirage_ros.occupancy.rays import PRIOR, VoxelRays, cast

# Log-odds are stored in this many steps of one nat.
SCALE = 32
# Height of a layer of voxels, metres: what stands below a ray does not become free by it.
LAYER = 0.1
# Columns are occupied from these log-odds of a layer on, and free up to those of all, if that share of them is known.
OCCUPIED, FREE, KNOWN_SHARE = 64, -20, 0.25
# Columns of a camera's depth, and of imagined frames, whose rays are cast at most: 5 cm apart at 8 m and at 4 m.
RAYS, FEWER_RAYS = 192, 96
# What a camera measured is in the voxel where it measured it, but for this share of a cell.
NOISE = 0.25
# What is imagined goes on behind its surface, metres: walls and furniture are not made of paper.
THICKNESS = 0.3


def evidence_table(free: int, occupied: int) -> Tensor:
    """(256) int8 steps of log-odds for the probabilities 0 to 1, at most so many for free and for occupied."""
    probability = torch.linspace(0, 1, 256, dtype=torch.float64)
    return ((probability.logit() - BEFORE) * SCALE).clamp(-free, occupied).round().to(torch.int8)


BEFORE = math.log(PRIOR / (1 - PRIOR))
# One frame makes a place free or occupied; it takes several to see through what one saw.
SEEN, GUESSED, SUREST = evidence_table(22, 96), evidence_table(112, 112), 112

# By the steps of log-odds from -128 on.
PER_CENT = (torch.sigmoid(torch.arange(-128, 128) / SCALE + BEFORE) * 100).round().to(torch.int8).numpy()


@dataclass(frozen=True)
class GridShape:
    """Size and place of a grid.

    Attributes:
        resolution: metres, side of a cell.
        extent: metres, side of the square.
        min_height, max_height: metres above the world's origin; what is lower or higher is in nobody's way.

    Raises:
        ValueError: there is no height between the two, or the grid is too large; names the field.
    """

    resolution: float = 0.05
    extent: float = 20.0
    min_height: float = 0.1
    max_height: float = 1.5

    def __post_init__(self) -> None:
        if not self.max_height > self.min_height:
            raise ValueError(f"max_height: expected more than min_height {self.min_height:g}, got {self.max_height:g}")
        if self.cells**2 * self.layers > 1 << 28:
            raise ValueError(
                f"extent: expected at most {1 << 28} voxels, got {self.cells} x {self.cells} x {self.layers} from "
                f"{self.extent:g} m at {self.resolution:g} m"
            )

    @property
    def cells(self) -> int:
        """Rows and columns."""
        return max(1, round(self.extent / self.resolution))

    @property
    def layers(self) -> int:
        """Layers of voxels between the two heights."""
        return max(1, math.ceil((self.max_height - self.min_height) / LAYER - 1e-6))

    @property
    def voxel(self) -> Tensor:
        """(3,) float64 metres, sides of a voxel."""
        height = (self.max_height - self.min_height) / self.layers
        return torch.tensor([self.resolution, self.resolution, height], dtype=torch.float64)


class OccupancyMap:
    """Voxels between two heights of the world frame, whose z axis is up, in a square that goes along with the camera.

    Evidence of several frames adds up where it was observed. Where it was imagined the newest wins, but what was read
    out of the memory again is no surer than when it was invented. What was observed is never changed by imagination.

    Attributes:
        shape: of the grid.
        corner: (2,) float64 metres, low x and y; NaN before the first camera.
        observed, imagined: (layers, rows, columns) int8 log-odds against those of a place of which
            nothing is known, in steps of 1 / SCALE; 0 where nothing is known.
        changes, guesses: of each, since the start.
    """

    def __init__(self, shape: GridShape) -> None:
        self.shape = shape
        self.changes = self.guesses = 0
        self.corner = torch.full((2,), torch.nan, dtype=torch.float64)
        self.clear()

    def clear(self) -> None:
        """Forget everything but the place."""
        size = (self.shape.layers, self.shape.cells, self.shape.cells)
        self.observed = torch.zeros(size, dtype=torch.int8)
        self.changes += 1
        self.clear_imagined()

    def clear_imagined(self) -> None:
        """Forget what was imagined."""
        self.imagined = torch.zeros_like(self.observed)
        self.guesses += 1

    @property
    def placed(self) -> bool:
        """Whether a camera was there."""
        return not bool(self.corner.isnan().any())

    def middles(self) -> NDArray[np.float64]:
        """(rows, columns, 2) metres, x and y of the cells' middles."""
        along = (np.arange(self.shape.cells) + 0.5) * self.shape.resolution
        x, y = np.meshgrid(along, along)
        return np.stack([x, y], axis=-1) + self.corner.numpy()

    def centre_on(self, place: Tensor) -> bool:
        """Move the square to a place (x, y, ...) where that is less than a quarter from its border; whether it moved.

        What is outside then is forgotten.
        """
        shape = self.shape
        middle, place = self.corner + shape.extent / 2, place[:2].double().cpu()
        if self.placed and bool(((place - middle).abs() <= shape.extent / 4).all()):
            return False
        corner = ((place - shape.extent / 2) / shape.resolution).round() * shape.resolution
        if self.placed:
            columns, rows = ((corner - self.corner) / shape.resolution).round().long().tolist()
            self.observed, self.imagined = (_shifted(each, rows, columns) for each in (self.observed, self.imagined))
        self.corner = corner
        self.changes, self.guesses = self.changes + 1, self.guesses + 1
        return True

    def observe(self, depth: Tensor, camera: Camera) -> None:
        """Add what (F,) cameras measured: (F, H, W) metres, +inf where there is nothing, 0 or NaN where unknown."""
        (said,) = self.evidence(camera, SEEN, RAYS, (depth, self._noise(depth)))
        total = self.observed.to(torch.int16) + said
        self.observed = total.clamp_(-SUREST, SUREST).to(torch.int8)
        self.changes += 1

    def fill(self, depth: Tensor, camera: Camera) -> None:
        """Add what (F,) cameras show of a memory where nothing is known; see `observe`."""
        (said,) = self.evidence(camera, SEEN, RAYS, (depth, self._noise(depth)))
        self.observed = _first_told(self.observed, said)
        self.changes += 1

    def imagine(self, depth: Tensor, uncertainty: Tensor, visible: Tensor, camera: Camera) -> None:
        """Note what (F,) imagined frames show.

        Args:
            depth, uncertainty, visible: (F, H, W), see `ImaginedFrame`.
            camera: of the frames.
        """
        if not self.placed:
            self.centre_on(camera.cam2world.reshape(-1, 4, 4)[0, :3, 3])
        # At the rays' resolution at once, rather than once for each part.
        size = _ray_size(camera, FEWER_RAYS)
        depth, uncertainty, visible = (fit_nearest(each, *size) for each in (depth, uncertainty, visible))
        new, old = (depth.masked_fill(visible > 0, 0), uncertainty), (depth.masked_fill(visible <= 0, 0), uncertainty)
        invented, read = self.evidence(camera, GUESSED, FEWER_RAYS, new, old, thickness=THICKNESS)
        self.imagined = _first_told(invented, self.imagined, read)
        self.guesses += 1

    def _noise(self, depth: Tensor) -> Tensor:
        return torch.full_like(depth, NOISE * self.shape.resolution)

    def evidence(
        self, camera: Camera, table: Tensor, columns: int, *views: tuple[Tensor, Tensor], thickness: float = 0.0
    ) -> list[Tensor]:
        """What images say, each a pair of depth and its standard deviation.

        Args:
            camera: (F,).
            table: see `cast`.
            columns: whose rays are cast at most.
            views: (F, H, W) metres each.
            thickness: metres, see `cast`.

        Returns:
            (layers, rows, columns) int8 each.
        """
        size = _ray_size(camera, columns)
        rays, results = self.rays(fit_camera(camera, *size)), []
        for view in views:
            depth, spread = (fit_nearest(each.float().cpu(), *size).flatten(1) for each in view)
            said = torch.zeros_like(self.observed)
            cast(said, rays, depth, spread, table, self.shape.extent, thickness)
            results.append(said)
        return results

    def rays(self, camera: Camera) -> VoxelRays:
        """Rays through the pixels of (F,) cameras, in this grid."""
        corner = torch.cat([self.corner, torch.tensor([self.shape.min_height], dtype=torch.float64)])
        return VoxelRays.of(camera, corner, self.shape.voxel)

    def known(self) -> NDArray[np.int8]:
        """(rows, columns) int8, along y and x: 0 free, 100 occupied, -1 unknown, as nav_msgs/OccupancyGrid has it."""
        layers = self.observed.numpy()
        enough = (layers < 0).sum(axis=0, dtype=np.uint16) >= KNOWN_SHARE * len(layers)
        strongest = _strongest(layers)
        grid = np.full(strongest.shape, -1, np.int8)
        grid[enough & (strongest <= FREE)] = 0
        grid[strongest >= OCCUPIED] = 100
        return grid

    def speeds(self, unseen: int) -> NDArray[np.int8]:
        """(rows, columns) int8, along y and x: per cent of full speed where unobserved, 0, for no limit, elsewhere."""
        return np.where(self.known() < 0, np.int8(unseen), np.int8(0))

    def guessed(self) -> NDArray[np.int8]:
        """(rows, columns) int8, along y and x: probability of occupied in per cent where unobserved, else -1."""
        strongest = _strongest(self.combined().numpy())
        told = self.imagined.numpy().any(axis=0) & (strongest != 0) & (self.known() < 0)
        return np.where(told, PER_CENT[strongest.astype(np.int16) + 128], np.int8(-1))

    def combined(self) -> Tensor:
        """(layers, rows, columns) int8 log-odds: what was observed, and what was imagined elsewhere."""
        return _first_told(self.observed, self.imagined)


def _ray_size(camera: Camera, columns: int) -> tuple[int, int]:
    """Rows and columns of the rays of a camera of which so many columns are cast at most."""
    columns = min(columns, camera.width)
    return max(1, round(camera.height * columns / camera.width)), columns


def _first_told(*layers: Tensor) -> Tensor:
    """int8, of each voxel the first of some log-odds that is not zero; numpy is forty times as fast here as torch."""
    result = layers[0].numpy().copy()
    for other in layers[1:]:
        result += other.numpy() * (result == 0)
    return torch.from_numpy(result)


def _strongest(layers: NDArray[np.int8]) -> NDArray[np.int8]:
    """(rows, columns) int8, the largest log-odds in which something is known; 0 where nothing is."""
    largest = np.where(layers == 0, np.int8(-128), layers).max(axis=0)
    return np.where(largest == -128, np.int8(0), largest)


def _shifted(layers: Tensor, rows: int, columns: int) -> Tensor:
    """The same voxels in a grid that begins so many rows and columns later."""
    result, size = torch.zeros_like(layers), layers.shape[1]
    into, out = [], []
    for by in (rows, columns):
        into.append(slice(max(-by, 0), max(min(size - by, size), 0)))
        out.append(slice(max(by, 0), max(min(size + by, size), 0)))
    if all(part.start < part.stop for part in (*into, *out)):
        result[:, into[0], into[1]] = layers[:, out[0], out[1]]
    return result
