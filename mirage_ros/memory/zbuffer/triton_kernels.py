"""Triton kernels of the z-buffer: project, race for cells by atomic minima, unpack the winners.

Importing this module imports triton; `cuda` does so when the kernels are wanted. Every kernel is to be launched
without fused multiply-add: the order and the rounding of the float32 operations are those that `projection` states.

One program draws one block of elements into one view. Programs that draw the same elements into other views follow each
other, so that the elements come from the cache. Minima do not depend on the order in which programs run.
"""

from __future__ import annotations

import triton
import triton.language as tl

from mirage_ros.memory.zbuffer import projection
from mirage_ros.memory.zbuffer import reference as zbuffer

_NEAR = tl.constexpr(projection.NEAR)
_BORDER = tl.constexpr(projection.BORDER)
_OUTSIDE = tl.constexpr(projection.OUTSIDE)
_EMPTY = tl.constexpr(zbuffer.EMPTY)
_INFINITE = tl.constexpr(float("inf"))
# Bits of float32 infinity: the depth of a cell that no element covers.
NO_DEPTH = tl.constexpr(0x7F800000)
# Adding and taking away 1.5 x 2^23 leaves a float32 below 2^22 rounded to the nearest integer, of two the even one.
_ROUNDING = tl.constexpr(12582912.0)


@triton.jit
def _coordinate(x: tl.tensor, y: tl.tensor, z: tl.tensor, row: tl.tensor) -> tl.tensor:
    result = x * tl.load(row) + y * tl.load(row + 1)
    result = result + z * tl.load(row + 2)
    return result + tl.load(row + 3)


@triton.jit
def _reach(size: tl.tensor, half_focal: tl.tensor, depth: tl.tensor, FOOTPRINT: tl.constexpr) -> tl.tensor:  # noqa: N803
    reach = tl.div_rn(size * tl.load(half_focal), depth)
    # Unlike a minimum, this keeps what is not a number, which then covers nothing but its own cell.
    return tl.where(reach > FOOTPRINT, FOOTPRINT * 1.0, reach)


@triton.jit
def _own_cell(coordinate: tl.tensor, INTEGER: tl.constexpr) -> tl.tensor:  # noqa: N803
    if INTEGER:
        coordinate = (coordinate + _ROUNDING) - _ROUNDING
    return coordinate.to(tl.int32)


@triton.jit
def _elements(
    positions: tl.tensor,
    sizes: tl.tensor,
    matrices: tl.tensor,
    half_focal: tl.tensor,
    elements: tl.tensor,
    views: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    position_view: tl.tensor,
    size_view: tl.tensor,
    FOOTPRINT: tl.constexpr,  # noqa: N803
    INTEGER: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """This program's elements in its view: projected, with reach, own cell and how far the furthest of them reaches."""
    view = tl.program_id(0) % views
    index = (tl.program_id(0) // views) * BLOCK + tl.arange(0, BLOCK)
    held = index < elements
    wide_index, wide_view, wide_elements = index.to(tl.int64), view.to(tl.int64), elements.to(tl.int64)

    axis = positions + wide_view * position_view + wide_index
    x = tl.load(axis, mask=held, other=0.0).to(tl.float32)
    y = tl.load(axis + wide_elements, mask=held, other=0.0).to(tl.float32)
    z = tl.load(axis + 2 * wide_elements, mask=held, other=0.0).to(tl.float32)
    size = tl.load(sizes + wide_view * size_view + wide_index, mask=held, other=0.0).to(tl.float32)

    matrix = matrices + wide_view * 12
    depth = _coordinate(x, y, z, matrix + 8)
    column = tl.div_rn(_coordinate(x, y, z, matrix), depth)
    row = tl.div_rn(_coordinate(x, y, z, matrix + 4), depth)
    usable = held & (depth > _NEAR) & (depth < _INFINITE)
    usable &= tl.abs(column - (width * 0.5 + _BORDER)) <= width * 0.5 + _OUTSIDE
    usable &= tl.abs(row - (height * 0.5 + _BORDER)) <= height * 0.5 + _OUTSIDE
    # What cannot take part may be too large for an integer.
    column, row = tl.where(usable, column, 0.5), tl.where(usable, row, 0.5)
    reach_x = _reach(size, half_focal + wide_view * 2, depth, FOOTPRINT)
    reach_y = _reach(size, half_focal + wide_view * 2 + 1, depth, FOOTPRINT)
    # The cell k steps away has its centre at least k - 1/2 from the element. No steps at all where nothing is in view.
    reach = tl.where(reach_x > reach_y, reach_x, reach_y)
    steps = tl.where(reach >= 0.5, reach + 0.5, 0.0).to(tl.int32)
    furthest = tl.max(tl.where(usable, steps, -1), axis=0)
    own_x, own_y = _own_cell(column, INTEGER), _own_cell(row, INTEGER)
    return wide_view, wide_index, depth, column, row, own_x, own_y, reach_x, reach_y, usable, furthest


@triton.jit
def _beside(
    column: tl.tensor,
    row: tl.tensor,
    own_x: tl.tensor,
    own_y: tl.tensor,
    reach_x: tl.tensor,
    reach_y: tl.tensor,
    step_x: tl.tensor,
    step_y: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    INTEGER: tl.constexpr,  # noqa: N803
) -> tl.tensor:
    """The cell some steps from each element's own one.

    Offsets from its centre, whether the element covers it, whether it is in the image, and its flat place there.
    """
    centre = 0.0 if INTEGER else 0.5
    cell_x, cell_y = own_x + step_x, own_y + step_y
    dx, dy = column - (cell_x.to(tl.float32) + centre), row - (cell_y.to(tl.float32) + centre)
    own = (step_x == 0) & (step_y == 0)
    covers = own | ((tl.abs(dx) <= reach_x) & (tl.abs(dy) <= reach_y))
    inside = (cell_x >= _BORDER) & (cell_x < width + _BORDER) & (cell_y >= _BORDER) & (cell_y < height + _BORDER)
    return dx, dy, covers, inside, (cell_y - _BORDER) * width + (cell_x - _BORDER)


@triton.jit
def _lower(cell: tl.tensor, value: tl.tensor, taken: tl.tensor) -> None:
    # Most elements lose: what a plain load shows to be lost needs no atomic. Cells only fall, so an outdated load lets
    # too many through, never too few.
    now = tl.load(cell, mask=taken, other=0, cache_modifier=".cg")
    tl.atomic_min(cell, value, mask=taken & (value < now), sem="relaxed")


@triton.jit
def _key(measure: tl.tensor, index: tl.tensor) -> tl.tensor:
    """As `zbuffer.pack`."""
    return (measure.to(tl.int32, bitcast=True).to(tl.int64) << 32) | index


@triton.jit(do_not_specialize=["elements"])
def frontmost(
    positions: tl.tensor,
    sizes: tl.tensor,
    matrices: tl.tensor,
    half_focal: tl.tensor,
    elements: tl.tensor,
    views: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    position_view: tl.tensor,
    size_view: tl.tensor,
    grid: tl.tensor,
    FOOTPRINT: tl.constexpr,  # noqa: N803
    RADIUS: tl.constexpr,  # noqa: N803
    INTEGER: tl.constexpr,  # noqa: N803
    KEYS: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Lower every cell's surface to the elements that cover it.

    Args:
        positions, sizes: of elements, contiguous, in any float type.
        matrices, half_focal: of `projection.Views`, contiguous.
        elements, views, height, width: how many.
        position_view, size_view: strides from view to view; zero where views share their elements.
        grid: (views, height, width), lowered in place: int32 bits of float32 depths, or int64 keys of depth and index.
        FOOTPRINT: cells that a footprint reaches at most.
        RADIUS: cells around the own one that are looked at.
        INTEGER: whether cell centres are at integers.
        KEYS: whether the grid holds keys.
        BLOCK: elements of one program.
    """
    view, index, depth, column, row, own_x, own_y, reach_x, reach_y, usable, furthest = _elements(
        positions, sizes, matrices, half_focal, elements, views, height, width,
        position_view, size_view, FOOTPRINT, INTEGER, BLOCK,
    )  # fmt: skip
    steps = tl.minimum(furthest, RADIUS)
    image = grid + view * height * width
    value = _key(depth, index) if KEYS else depth.to(tl.int32, bitcast=True)
    for step_y in range(-steps, steps + 1):
        for step_x in range(-steps, steps + 1):
            _, _, covers, inside, cell = _beside(
                column, row, own_x, own_y, reach_x, reach_y, step_x, step_y, height, width, INTEGER
            )
            _lower(image + cell, value, usable & covers & inside)


@triton.jit(do_not_specialize=["elements"])
def nearest(
    positions: tl.tensor,
    sizes: tl.tensor,
    matrices: tl.tensor,
    half_focal: tl.tensor,
    elements: tl.tensor,
    views: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    position_view: tl.tensor,
    size_view: tl.tensor,
    limit: tl.tensor,
    keys: tl.tensor,
    FOOTPRINT: tl.constexpr,  # noqa: N803
    RADIUS: tl.constexpr,  # noqa: N803
    INTEGER: tl.constexpr,  # noqa: N803
    BLOCK: tl.constexpr,  # noqa: N803
) -> None:
    """Lower every cell's key to that of the visible candidate nearest to its centre.

    Args:
        limit: (views, height, width) float32 greatest depth that is visible, minus infinity where there is no surface.
        keys: (views, height, width) int64, lowered in place: squared distance and index.
        RADIUS: one at least: candidates are up to a cell away, whatever their footprint.

    The others are as in `frontmost`.
    """
    view, index, depth, column, row, own_x, own_y, reach_x, reach_y, usable, furthest = _elements(
        positions, sizes, matrices, half_focal, elements, views, height, width,
        position_view, size_view, FOOTPRINT, INTEGER, BLOCK,
    )  # fmt: skip
    steps = tl.where(furthest < 0, furthest, tl.minimum(tl.maximum(furthest, 1), RADIUS))
    cells = height * width
    image = limit + view * cells
    own_keys = keys + view * cells
    for step_y in range(-steps, steps + 1):
        for step_x in range(-steps, steps + 1):
            dx, dy, covers, inside, cell = _beside(
                column, row, own_x, own_y, reach_x, reach_y, step_x, step_y, height, width, INTEGER
            )
            taken = usable & inside & (covers | ((tl.abs(dx) < 1.0) & (tl.abs(dy) < 1.0)))
            taken &= depth <= tl.load(image + cell, mask=taken, other=0.0)
            _lower(own_keys + cell, _key(dx * dx + dy * dy, index), taken)


@triton.jit
def unpack(keys: tl.tensor, count: tl.tensor, BLOCK: tl.constexpr) -> None:  # noqa: N803
    """Replace keys by the indices they hold, -1 where there is no winner; as `zbuffer.unpack_index`, in place."""
    slot = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    held = slot < count
    key = tl.load(keys + slot, mask=held, other=0)
    tl.store(keys + slot, tl.where(key == _EMPTY, -1, key & 0xFFFFFFFF), mask=held)
