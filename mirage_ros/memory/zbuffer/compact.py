"""The z-buffer on a CPU: work only on what is in view.

Gives the same winners as `zbuffer.winners_dense`, bit for bit, by leaving out only what cannot win: blocks outside a
view, elements that reach no cell, elements behind what already covers their surroundings, and cells around an element
that a nearer one already holds.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks, visible_blocks
from mirage_ros.memory.zbuffer.in_view import Elements, Near, rows_of
from mirage_ros.memory.zbuffer.projection import MAX_FOOTPRINT, Views, own_cell, project
from mirage_ros.memory.zbuffer.reference import CANDIDATE_REACH, EMPTY, TOLERANCE, depth_limit, pack, unpack_index

# Blocks projected at once. Torch computes up to 2^15 numbers without waking other threads, and they fit the cache.
_BLOCKS = 128
# Elements whose four cells are handled at once, for the same reason.
_NEAR = 8192
# An element covers a cell other than its own only if its reach and its offset add up to one; with some slack, because
# the exact test follows.
_NEARLY_ONE = 0.999
# Key of a squared distance of 1/4.
_QUARTER = int(pack(torch.tensor(0.25), torch.tensor(0)))
_BLOCK_BITS = BLOCK.bit_length() - 1


def winners_compact(
    positions: Tensor,
    sizes: Tensor,
    views: Views,
    blocks: Blocks,
    *,
    rule: str = "nearest",
    tolerance: float = TOLERANCE,
    best: int = 1,
    max_footprint: int = MAX_FOOTPRINT,
) -> Tensor:
    """Winners of padded, blocked elements; result as `zbuffer.winners_dense`.

    Args:
        positions: (3, B x BLOCK) float32, NaN where there is no element.
        sizes: (B x BLOCK,) metres.
        views: V target views.
        blocks: the boxes of these elements.
        rule, tolerance, best, max_footprint: see `zbuffer.winners_dense`.
    """
    seen = visible_blocks(blocks, views)

    def run(view: int) -> Tensor:
        raster = Raster(views.at(slice(view, view + 1)), rule, tolerance, max_footprint)
        return raster.winners(positions, sizes, seen[view], best)

    return torch.stack([run(view) for view in range(len(views))])


class Raster:
    """One view being filled."""

    def __init__(self, views: Views, rule: str, tolerance: float, max_footprint: int) -> None:
        self.views = views
        self.strict = rule == "strict"
        self.tolerance = tolerance
        self.max_footprint = max_footprint
        self.half_focal: list[float] = views.half_focal[0].tolist()
        self.surface = torch.full((views.slots,), torch.inf, device=views.matrices.device)

    def winners(self, positions: Tensor, sizes: Tensor, blocks: Tensor, best: int) -> Tensor:
        """(best, cells) int64 indices, -1 where there is none."""
        # Where all fits into a few portions, pruning costs more than it saves.
        prune = len(blocks) > _BLOCKS
        near: list[Near] = []
        far: list[Elements] = []
        for elements in self.in_view(positions, sizes, blocks, _BLOCKS if prune else _BLOCKS // 4):
            self._draw(elements, prune, near, far)
        ranked = torch.full((best, self.views.slots), EMPTY, device=self.surface.device)
        self._rank(near, far, prune, ranked)
        return unpack_index(self.views.image(ranked))

    def in_view(self, positions: Tensor, sizes: Tensor, blocks: Tensor, portion: int = _BLOCKS) -> Iterator[Elements]:
        """Elements of these blocks that land on the bordered grid, in portions."""
        views = self.views
        grouped, grouped_sizes = positions.reshape(3, -1, BLOCK), sizes.reshape(-1, BLOCK)
        for start in range(0, len(blocks), portion):
            held = blocks[start : start + portion]
            x, y, z = grouped.index_select(1, held).reshape(3, -1).unbind(0)
            column, row, depth = project(x, y, z, views.matrices[0])
            rows = rows_of(views.in_reach(column, row, depth))
            column, row, depth = (part.index_select(0, rows) for part in (column, row, depth))
            size = grouped_sizes.index_select(0, held).reshape(-1).index_select(0, rows).float()
            reach_x = reach_y = (size * self.half_focal[0]).div_(depth).clamp_(max=float(self.max_footprint))
            if self.half_focal[0] != self.half_focal[1]:
                reach_y = (size * self.half_focal[1]).div_(depth).clamp_(max=float(self.max_footprint))
            own_x, own_y = own_cell(column, views.convention), own_cell(row, views.convention)
            index = held.index_select(0, rows >> _BLOCK_BITS).mul_(BLOCK).add_(rows & (BLOCK - 1))
            yield Elements(depth, column, row, own_x, own_y, reach_x, reach_y, index)

    def _draw(self, elements: Elements, prune: bool, near: list[Near], far: list[Elements]) -> None:
        """Lower the surface to these elements; add those that may yet win a cell to the lists."""
        if prune:
            self.surface.scatter_reduce_(0, self.cell(elements), elements.depth, "amin")
            elements = elements.at(self._may_win(elements))
        wide = elements.reach >= 1
        if wide.any():
            part = elements.at(rows_of(wide))
            elements = elements.at(rows_of(~wide))
            self.surface.scatter_reduce_(0, self.cell(part), part.depth, "amin")
            if self.views.convention.footprints:
                for chosen, step_x, step_y in self.beyond(part, 0.0):
                    cell, covers, _, _ = self.step(chosen, step_x, step_y)
                    depth = torch.where(covers, chosen.depth, torch.inf)
                    self.surface.scatter_reduce_(0, cell.reshape(-1), depth.reshape(-1), "amin")
            far.append(part)
        for start in range(0, len(elements.depth), _NEAR):
            close = self._near(elements.rows(slice(start, start + _NEAR)))
            self.surface.scatter_reduce_(0, close.cell[0], close.depth, "amin")
            # Few reach beyond their own cell.
            covered = rows_of(close.covers[1:].reshape(-1))
            depth = close.depth.index_select(0, covered % max(len(close.depth), 1))
            self.surface.scatter_reduce_(0, close.cell[1:].reshape(-1).index_select(0, covered), depth, "amin")
            near.append(close)

    def _near(self, elements: Elements) -> Near:
        """The own cell and the three around the corner nearest to each element: below one cell it reaches no others."""
        centre = self.views.convention.centre
        dx, dy = elements.column - (elements.own_x + centre), elements.row - (elements.own_y + centre)
        side_x, side_y = dx.sign(), dy.sign()
        far_x = elements.column - (elements.own_x + side_x + centre)
        far_y = elements.row - (elements.own_y + side_y + centre)
        own = self.cell(elements)
        step_x, step_y = side_x.to(torch.int64), side_y.to(torch.int64).mul_(self.views.pitch)
        beside, below = own + step_x, own + step_y
        in_x, in_y = dx.abs() <= elements.reach_x, dy.abs() <= elements.reach_y
        out_x, out_y = far_x.abs() <= elements.reach_x, far_y.abs() <= elements.reach_y
        covers = torch.stack([torch.ones_like(in_x), out_x & in_y, in_x & out_y, out_x & out_y])
        xx, yy, far_xx, far_yy = dx * dx, dy * dy, far_x * far_x, far_y * far_y
        squared = torch.stack([xx + yy, far_xx + yy, xx + far_yy, far_xx + far_yy])
        if not self.views.convention.footprints:
            covers[1:] = False
        return Near(torch.stack([own, beside, below, below + step_x]), covers, squared, elements.depth, elements.index)

    def _may_win(self, elements: Elements) -> Tensor:
        """Rows of the elements that are not too deep for every cell in their reach; surfaces only fall."""
        own, limit, beyond = self.cell(elements), self.surface, 0
        if not self.strict:
            # No limit exceeds that of the deepest neighbour, and outside the image there is no surface.
            image = self.views.image(self.surface.unsqueeze(0)).reshape(1, self.views.height, self.views.width)
            limit, beyond = self.views.bordered(image * (1 + self.tolerance), torch.inf).reshape(-1), 1
        keep = elements.depth <= self._around(limit, 1 + beyond).index_select(0, own)
        wide = elements.reach >= 1
        if wide.any():
            furthest = self._around(limit, self.max_footprint + beyond)
            keep |= wide & (elements.depth <= furthest.index_select(0, own))
        return rows_of(keep)

    def _limit(self) -> Tensor:
        """(slots,) greatest visible depth of each cell, minus infinity outside the image."""
        image = self.views.image(self.surface.unsqueeze(0)).reshape(1, self.views.height, self.views.width)
        if self.strict:
            # Frontmost is what lies no deeper than the surface, where all that is visible is equally near.
            limit = torch.where(image == torch.inf, -torch.inf, image)
        else:
            limit = depth_limit(image, self.tolerance)
        return self.views.bordered(limit, -torch.inf).reshape(-1)

    def _around(self, grid: Tensor, radius: int) -> Tensor:
        """The greatest value within a radius of each cell."""
        image = grid.reshape(1, 1, -1, self.views.pitch)
        return F.max_pool2d(image, 2 * radius + 1, stride=1, padding=radius).reshape(-1)

    def _rank(self, near: list[Near], far: list[Elements], prune: bool, ranked: Tensor) -> None:
        """Fill in the keys (best, slots) of the winners in order."""
        limit = self._limit()
        found: list[tuple[Tensor, Tensor]] = []
        if prune and not self.strict and len(ranked) == 1:
            for close in near:
                ranked[0].scatter_reduce_(0, *self._near_keys(close.at_cells(slice(0, 1)), limit), "amin")
            # Outside its own cell an element is half a cell or more from the centre.
            contested = self._around(((ranked[0] >= _QUARTER) & (limit > 0)).float(), 1)
            near = [
                close.at_cells(slice(1, 4)).at(rows_of(contested.index_select(0, close.cell[0]) > 0)) for close in near
            ]
        found += [self._near_keys(close, limit) for close in near]
        for wide in far:
            centre = self.views.convention.centre
            dx, dy = wide.column - (wide.own_x + centre), wide.row - (wide.own_y + centre)
            found.append(self._keys(wide, self.cell(wide), limit, dx, dy, None))
            for chosen, step_x, step_y in self.beyond(wide, 0.0 if self.strict else CANDIDATE_REACH):
                cell, covers, dx, dy = self.step(chosen, step_x, step_y)
                taken = covers if self.strict else covers | ((dx.abs() < 1) & (dy.abs() < 1))
                found.append(self._keys(chosen, cell, limit, dx, dy, taken))
        if len(ranked) == 1:
            for cell, packed in found:
                ranked[0].scatter_reduce_(0, cell, packed, "amin")
        elif found:
            cell, packed = (torch.cat(parts) for parts in zip(*found, strict=True))
            for keys in ranked:
                keys.scatter_reduce_(0, cell, packed, "amin")
                rest = rows_of(packed > keys.index_select(0, cell))
                cell, packed = cell.index_select(0, rest), packed.index_select(0, rest)

    def _near_keys(self, part: Near, limit: Tensor) -> tuple[Tensor, Tensor]:
        """Cells and packed keys of the candidates that are visible in them."""
        cell = part.cell.reshape(-1)
        visible = part.depth <= limit.index_select(0, cell).reshape(part.cell.shape)
        if self.strict:
            visible &= part.covers
        rows = rows_of(visible.reshape(-1))
        index = part.index.repeat(len(part.cell)).index_select(0, rows)
        if not self.strict:
            index = pack(part.squared.reshape(-1).index_select(0, rows), index)
        return cell.index_select(0, rows), index

    def _keys(
        self, part: Elements, cell: Tensor, limit: Tensor, dx: Tensor, dy: Tensor, taken: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Cells and packed keys of the candidates that are visible in them; tensors may be (steps, elements)."""
        cell = cell.reshape(-1)
        visible = part.depth <= limit.index_select(0, cell).reshape(dx.shape)
        if taken is not None:
            visible &= taken
        rows = rows_of(visible.reshape(-1))
        index = part.index.expand_as(dx).reshape(-1).index_select(0, rows)
        if self.strict:
            return cell.index_select(0, rows), index
        dx, dy = (offset.expand(visible.shape).reshape(-1).index_select(0, rows) for offset in (dx, dy))
        return cell.index_select(0, rows), pack(dx * dx + dy * dy, index)

    def beyond(self, elements: Elements, least: float) -> Iterator[tuple[Elements, Tensor, Tensor]]:
        """Elements that reach beyond their own cell, and (steps, elements) or (steps, 1) steps to cells they may reach.

        Args:
            elements: in view.
            least: cells that every element reaches at least.
        """
        centre = self.views.convention.centre
        dx, dy = elements.column - (elements.own_x + centre), elements.row - (elements.own_y + centre)
        reach = elements.reach
        beyond = torch.maximum(dx.abs(), dy.abs()) + (reach.clamp(min=least) if least else reach) >= _NEARLY_ONE
        wide = reach >= 1
        rows = rows_of(beyond & ~wide)
        if len(rows):
            # Below one cell only the neighbours on the element's own side can be reached.
            side_x, side_y = dx.index_select(0, rows).sign_(), dy.index_select(0, rows).sign_()
            nothing = torch.zeros_like(side_x)
            yield (
                elements.at(rows),
                torch.stack([side_x, nothing, side_x]),
                torch.stack([nothing, side_y, side_y]),
            )
        rows = rows_of(beyond & wide)
        if len(rows) == 0:
            return
        part = elements.at(rows)
        # The cell k steps away has its centre at least k - 1/2 from the element.
        radius = (part.reach + 0.501).to(torch.int32)
        for size in range(1, self.max_footprint + 1):
            rows = rows_of(radius == size)
            if len(rows) == 0:
                continue
            chosen = part.at(rows)
            steps = torch.arange(-size, size + 1, dtype=torch.float32, device=reach.device)
            for step_y in range(-size, size + 1):
                step_x = steps if step_y else torch.cat([steps[:size], steps[size + 1 :]])
                yield chosen, step_x.unsqueeze(1), torch.full_like(step_x, step_y).unsqueeze(1)

    def step(self, part: Elements, step_x: Tensor, step_y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Cells some steps from the own cell, whether the footprint covers them, and the offsets from their centres."""
        centre = self.views.convention.centre
        cell_x, cell_y = part.own_x + step_x, part.own_y + step_y
        dx, dy = part.column - (cell_x + centre), part.row - (cell_y + centre)
        cell = (cell_y * self.views.pitch + cell_x).to(torch.int64)
        return cell, (dx.abs() <= part.reach_x) & (dy.abs() <= part.reach_y), dx, dy

    def cell(self, elements: Elements) -> Tensor:
        """(N,) int64 own cells in the bordered grid."""
        return (elements.own_y * self.views.pitch + elements.own_x).to(torch.int64)
