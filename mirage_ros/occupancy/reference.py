"""Rays through a grid of voxels in plain torch: the rules that raycast.c follows, bit for bit.

A ray visits one voxel in each slab of the axis along which it crosses most of them: the one in which it is in the
middle of the slab.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Entries of a normal distribution's table for each standard deviation, and its ends.
FINENESS, ENDS = 128, 4


def cast(
    voxels: Tensor,
    origins: Tensor,
    directions: Tensor,
    *,
    near: Tensor,
    depth: Tensor,
    spread: Tensor,
    normal: Tensor,
    evidence: Tensor,
    far: float,
    prior: float,
    thickness: float,
) -> None:
    """See `rays.cast`."""
    size, flat = _size(voxels), voxels.view(-1)

    def normal_of(deviations: Tensor) -> Tensor:
        return normal[((deviations + ENDS) * FINENESS).clamp(0, 2 * ENDS * FINENESS).int()]

    # As a float32, which it is in the compiled code.
    thick = torch.tensor(thickness, dtype=torch.float32)
    for origin, ways, begin, metres, doubt in zip(origins, directions, near, depth, spread, strict=True):
        told = (metres > 0) & (doubt > 0)
        ways, begin, metres, doubt = ways[told], begin[told], metres[told], doubt[told]
        for ray, voxel, t, dt in _visited(origin, ways, begin, ((metres + thick) + 2 * doubt).clamp(max=far), size):
            half, surface, scale = dt[ray] * 0.5, metres[ray], doubt[ray]
            before = normal_of((t - half - thick - surface) / scale)
            until = normal_of((t + half - surface) / scale)
            # The thing is here, or it ended before, and here is as much as anywhere.
            occupied = (until - before) + prior * before
            said = evidence[(occupied * 255 + 0.5).int()]
            for sign, reduce in ((said < 0, "amin"), (said > 0, "amax")):
                chosen = voxel[sign]
                if reduce == "amin":
                    # Free evidence never changes what is occupied.
                    sign = sign.nonzero().squeeze(1)[flat[chosen] <= 0]
                    chosen = voxel[sign]
                flat.scatter_reduce_(0, chosen, said[sign], reduce)


def look(
    voxels: Tensor,
    origins: Tensor,
    directions: Tensor,
    *,
    near: Tensor,
    depth: Tensor,
    passing: Tensor,
    seen: Tensor,
    far: float,
    least: float,
) -> None:
    """See `rays.look`."""
    size, flat, columns = _size(voxels), voxels.view(-1), voxels[0].numel()
    for origin, ways, begin, metres in zip(origins, directions, near, depth, strict=True):
        left = torch.ones(len(ways))
        for ray, voxel, _, _ in _visited(origin, ways, begin, metres.clamp(max=far), size):
            open_ = left[ray] > least
            ray, voxel = ray[open_], voxel[open_]
            seen.view(-1).scatter_reduce_(0, voxel % columns, left[ray], "amax")
            left[ray] *= passing[flat[voxel].int() + 128]


def _size(voxels: Tensor) -> list[int]:
    return list(voxels.shape[::-1])


def _visited(
    origin: Tensor, directions: Tensor, near: Tensor, far: Tensor, size: list[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Slab by slab: rays that are inside of the grid there, their voxels and depths, and the depth between slabs."""
    t0, t1 = near, far
    inside = torch.ones_like(far, dtype=torch.bool)
    for a in range(3):
        ways = directions[:, a]
        along = ways != 0
        inside &= along | ((origin[a] >= 0) & (origin[a] < size[a]))
        one, other = (0 - origin[a]) / ways, (size[a] - origin[a]) / ways
        t0 = torch.where(along, torch.maximum(t0, torch.minimum(one, other)), t0)
        t1 = torch.where(along, torch.minimum(t1, torch.maximum(one, other)), t1)
    inside &= t0 < t1
    length = directions.abs()
    axis = (length[:, 1] > length[:, 0]).long()
    axis = torch.where(length[:, 2] > length.gather(1, axis[:, None])[:, 0], 2, axis)
    main, last = directions.gather(1, axis[:, None])[:, 0], torch.tensor(size).float()[axis] - 1
    start = origin[axis]
    first = torch.minimum((start + main * t0).floor().clamp(min=0), last)
    end = torch.minimum((start + main * t1).floor().clamp(min=0), last)
    t, dt = (first + 0.5 - start) / main, 1 / main.abs()
    count = torch.where(inside, (end - first).abs() + 1, 0)
    places, steps = origin + directions * t[:, None], directions * dt[:, None]
    places.scatter_(1, axis[:, None], (first + 0.5)[:, None])
    steps.scatter_(1, axis[:, None], main.sign()[:, None])
    for k in range(int(count.max()) if len(count) else 0):
        place = places + steps * k
        within = (count > k) & (place >= 0).all(dim=1)
        cell = place.nan_to_num(-1.0).clamp(-1, 1e6).int()
        within &= (cell < torch.tensor(size)).all(dim=1)
        ray = within.nonzero().squeeze(1)
        x, y, z = cell[ray].long().unbind(1)
        yield ray, (z * size[1] + y) * size[0] + x, t[ray] + dt[ray] * k, dt
