"""Blocks of elements and the views that may see them: reading costs what is in view, not what is stored."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.memory.zbuffer.projection import BORDER, MARGIN, NEAR, Views

# Elements in a block. Storage is padded to whole blocks.
BLOCK = 256
# Elements that are bounded at once.
_PORTION = 16 * BLOCK


class Blocks:
    """Axis-aligned boxes of consecutive elements.

    Attributes:
        centre, half: (3, B) float32 metres; half is -inf for blocks without a finite position.
        reach: (B,) float32, the largest half footprint in metres.
        rows: elements that are bounded; those beyond, if any came since, are not.
    """

    # Bytes of one box.
    BYTES = 28

    def __init__(self, positions: Tensor, sizes: Tensor) -> None:
        """Bound blocks of `BLOCK` elements.

        Args:
            positions: (3, B x BLOCK) float32; NaN for rows that hold no element.
            sizes: (B x BLOCK,) metres.
        """
        # A portion at a time: the intermediate results of all at once would take more room than the elements.
        starts = range(0, max(positions.shape[1], 1), _PORTION)
        parts = [_bounds(positions[:, i : i + _PORTION], sizes[i : i + _PORTION]) for i in starts]
        self.centre, self.half, self.reach = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
        self.rows = positions.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.centre.nbytes + self.half.nbytes + self.reach.nbytes

    def followed_by(self, other: Blocks, blocks: int) -> Blocks:
        """The first so many of these boxes and then the others."""
        joined = object.__new__(Blocks)
        for name in ("centre", "half", "reach"):
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(joined, name, torch.cat([mine[..., :blocks], theirs], dim=-1))
        joined.rows = other.rows
        return joined


def _bounds(positions: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Centres, halves and reaches of some blocks; see `Blocks`."""
    grouped = positions.reshape(3, -1, BLOCK)
    low = torch.where(grouped.isfinite(), grouped, torch.inf).amin(dim=-1)
    high = torch.where(grouped.isfinite(), grouped, -torch.inf).amax(dim=-1)
    # Halves first: the sum of two large coordinates could overflow.
    centre = torch.where(high >= low, high * 0.5 + low * 0.5, 0.0)
    half = torch.where(high >= low, (high * 0.5 - low * 0.5).clamp(min=0), -torch.inf)
    # What is not a number covers nothing but its own cell; what is infinite reaches everywhere.
    reach = sizes.float().reshape(-1, BLOCK).nan_to_num(0.0).amax(dim=-1).clamp(min=0) * (0.5 * MARGIN)
    return centre, half, reach


def visible_blocks(blocks: Blocks, views: Views) -> list[Tensor]:
    """For each view, the blocks that may contribute to it, near to far, as int64 tensors.

    A block is left out only if its whole box, grown by its largest footprint and one cell, lies outside one of the
    view's five planes.
    """
    matrices = views.matrices.double()
    column, row, depth = matrices[:, 0], matrices[:, 1], matrices[:, 2]
    near = depth.clone()
    near[:, 3] -= NEAR
    # Half-spaces a.p + d >= 0: depth at least NEAR; column between -1 and width + 1, times depth; likewise rows.
    planes = torch.stack(
        [
            near,
            column - depth * (BORDER - 1.0),
            depth * (BORDER + views.width + 1.0) - column,
            row - depth * (BORDER - 1.0),
            depth * (BORDER + views.height + 1.0) - row,
        ],
        dim=1,
    )
    normals, distances = planes[..., :3], planes[..., 3:]
    centre, half = blocks.centre.double(), blocks.half.double()
    # Footprints are squares that face the camera: their corners are sqrt(2) further.
    grown = blocks.reach.double() * normals.norm(dim=-1, keepdim=True) * 2**0.5
    middle = normals @ centre
    highest = middle + normals.abs() @ half + distances + grown
    # The slack covers the rounding of the float32 projection.
    slack = 1e-5 * (middle.abs() + distances.abs() + 1)
    # Without elements the half is -inf and the sum -inf or NaN, which is never above.
    seen = (highest >= -slack).all(dim=1)
    nearest = depth[:, :3] @ centre - depth[:, :3].abs() @ half
    order = torch.argsort(torch.where(seen, nearest, torch.inf), dim=1, stable=True)
    return [indices[:count] for indices, count in zip(order, seen.sum(dim=1).tolist(), strict=True)]
