"""World points into the cells of target views, in one stated order of float32 operations.

The z-buffer must give the same answer on every path (CPU with culling, dense tensors, a CUDA kernel), so the arithmetic
is part of the contract. For element e with position (x, y, z), size s in metres, and a view with the rows P0, P1, P2 of
its projection matrix and the half focal lengths f0, f1, every operation rounds to float32:

    depth  = ((P20 x + P21 y) + P22 z) + P23
    column = (((P00 x + P01 y) + P02 z) + P03) / depth          likewise row, with P1
    reach  = min((s f0) / depth, MAX_FOOTPRINT)                 likewise along rows, with f1

The matrices are products in float64, rounded once. Columns and rows count from the corner of a grid that has `BORDER`
more cells than the image on every side: elements just outside the image then need no test before they are drawn, and
rounding down is truncation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera

# Metres: what is closer to the optical centre than this never wins a cell.
NEAR = 0.01
# Cells: the furthest that a footprint reaches from the element's own position. A patch magnified more shows gaps.
MAX_FOOTPRINT = 4
# Cells outside the image at which an element is left out.
OUTSIDE = MAX_FOOTPRINT + 0.5
# Cells added around the image: an element MAX_FOOTPRINT outside may cover cells MAX_FOOTPRINT further.
BORDER = 2 * MAX_FOOTPRINT + 2
# A footprint is drawn this much wider than the patch, so that neighbouring patches overlap under small rotations.
MARGIN = 1.05


@dataclass(frozen=True)
class Convention:
    """How elements meet cells.

    Attributes:
        integer_centres: cell centres at integer coordinates (the public Mirage code) rather than at +0.5.
        footprints: an element covers the cells that its patch covers; without, its own cell alone.
        bilinear_depth: depth is brought to the latent grid by bilinear interpolation, which mixes surfaces, and no edge
            test follows.
    """

    integer_centres: bool = False
    footprints: bool = True
    bilinear_depth: bool = False

    @property
    def centre(self) -> float:
        """Where the centre of a cell lies from its corner, in cells."""
        return 0.0 if self.integer_centres else 0.5


CENTRED = Convention()
# With rule 'strict', what the public Mirage code reads and writes (github.com/microsoft/LatentSpatialMemory).
PUBLIC = Convention(integer_centres=True, footprints=False, bilinear_depth=True)


@dataclass(frozen=True, eq=False)
class Views:
    """Target views, ready for projection.

    Attributes:
        matrices: (V, 3, 4) float32 rows for column and row in the bordered grid, and depth.
        half_focal: (V, 2) float32, half the focal length along columns and rows times the margin; zero where elements
            cover their own cell alone.
        focal: (V,) float32 smaller focal length in cells, the measure of scale.
        height, width: cells of the image.
        convention: where cell centres are.
    """

    matrices: Tensor
    half_focal: Tensor
    focal: Tensor
    height: int
    width: int
    convention: Convention

    def __len__(self) -> int:
        return self.matrices.shape[0]

    def at(self, selected: slice) -> Views:
        """Some of the views."""
        return replace(
            self,
            matrices=self.matrices[selected],
            half_focal=self.half_focal[selected],
            focal=self.focal[selected],
        )

    @property
    def cells(self) -> int:
        """Number of cells of one view's image."""
        return self.height * self.width

    @property
    def pitch(self) -> int:
        """Columns of the bordered grid."""
        return self.width + 2 * BORDER

    @property
    def slots(self) -> int:
        """Cells of one view's bordered grid."""
        return (self.height + 2 * BORDER) * self.pitch

    def image(self, grids: Tensor) -> Tensor:
        """(V, ..., cells) image parts of bordered grids (V, ..., slots)."""
        rows = grids.reshape(*grids.shape[:-1], -1, self.pitch)[..., BORDER:-BORDER, BORDER:-BORDER]
        return rows.reshape(*grids.shape[:-1], self.cells)

    def bordered(self, images: Tensor, value: float) -> Tensor:
        """(V, slots) bordered grids of images (V, h, w), with a value in the border."""
        return F.pad(images, (BORDER, BORDER, BORDER, BORDER), value=value).reshape(len(images), -1)

    def in_reach(self, column: Tensor, row: Tensor, depth: Tensor) -> Tensor:
        """(...) bool: projections beyond the near plane that may touch the image; false where one is not finite."""
        inside = (depth > NEAR) & (depth < torch.inf)
        inside &= (column - (self.width / 2 + BORDER)).abs_() <= self.width / 2 + OUTSIDE
        inside &= (row - (self.height / 2 + BORDER)).abs_() <= self.height / 2 + OUTSIDE
        return inside


def views_of(camera: Camera, convention: Convention = CENTRED, origin: Tensor | None = None) -> Views:
    """The views of a batch of cameras at latent resolution.

    Args:
        camera: any batch shape, flattened to V.
        convention: where cell centres are and whether footprints are drawn.
        origin: (3,) float64 world position that the elements' positions are relative to.
    """
    shape = camera.batch_shape
    intrinsics = camera.intrinsics.double().expand(*shape, 3, 3).reshape(-1, 3, 3)
    cam2world = camera.cam2world.double().expand(*shape, 4, 4).reshape(-1, 4, 4)
    rotation = cam2world[:, :3, :3].mT
    centre = cam2world[:, :3, 3:]
    if origin is not None:
        centre = centre - origin.to(centre).unsqueeze(-1)
    world2cam = torch.cat([rotation, -(rotation @ centre)], dim=-1)
    focal = torch.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], dim=-1)
    intrinsics = intrinsics.clone()
    intrinsics[:, :2, 2] += BORDER
    half = focal * (0.5 * MARGIN) if convention.footprints else torch.zeros_like(focal)
    return Views(
        matrices=(intrinsics @ world2cam).float(),
        half_focal=half.float(),
        focal=focal.amin(dim=-1).float(),
        height=camera.height,
        width=camera.width,
        convention=convention,
    )


def project(x: Tensor, y: Tensor, z: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Columns, rows and depths of points, in the stated order of operations.

    Args:
        x, y, z: (..., N) float32 coordinates.
        matrices: (..., 3, 4) float32 projection rows.

    Returns:
        column, row, depth: (..., N) float32 cells of the bordered grid, and metres. Nothing is masked: points behind
        the camera have a depth below zero and meaningless columns.
    """
    column, row, depth = (_row(x, y, z, matrices[..., i, :].unsqueeze(-2)) for i in range(3))
    return column.div_(depth), row.div_(depth), depth


def _row(x: Tensor, y: Tensor, z: Tensor, coefficients: Tensor) -> Tensor:
    # Separate multiplications and additions: a fused one would round differently from one build to the next.
    result = x * coefficients[..., 0]
    result += y * coefficients[..., 1]
    result += z * coefficients[..., 2]
    result += coefficients[..., 3]
    return result


def reaches(size: Tensor, depth: Tensor, half_focal: Tensor) -> tuple[Tensor, Tensor]:
    """Half widths in cells of footprints along columns and rows, (..., N) float32.

    Args:
        size: (..., N) float32 metres.
        depth: (..., N) float32 metres.
        half_focal: (..., 2).
    """
    along_columns = (size * half_focal[..., :1]).div_(depth).clamp_(max=float(MAX_FOOTPRINT))
    along_rows = (size * half_focal[..., 1:]).div_(depth).clamp_(max=float(MAX_FOOTPRINT))
    return along_columns, along_rows


def own_cell(coordinate: Tensor, convention: Convention) -> Tensor:
    """The cell, as a float, that holds a coordinate of the bordered grid, which is not negative.

    Rounded down, or to the nearest integer (of two the even one) where cell centres are integers.
    """
    if convention.integer_centres:
        return torch.round(coordinate)
    # Unlike floor, this does not wake every thread for a few thousand numbers.
    return coordinate.to(torch.int32).to(coordinate.dtype)
