"""Walls, floors and ceilings that go on where the memory shows nothing.

What a robot has not seen is unknown, but rooms end somewhere: behind a seen strip of floor there is more floor, up to
the wall. The planes of a room (`room`) are continued through what is hidden; of several, the nearest along a ray is
what one would see in a convex room. It is a guess for the network to start from, not a readout: furniture, doors and
the colours of what has not been seen are the network's to invent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.models.branch_input import fill_views
from mirage_ros.world.planes import tolerance
from mirage_ros.world.room import Room

# Cells: gaps as narrow as twice that between seen cells are gaps of the readout, not views past it.
CLOSING = 2
# Times a plane's usual spread: cells that differ more from its usual latent are something else on it.
USUAL = 3.0
# Latents nearer than that are alike, however plain the plane; and so many cells tell how it looks here.
LEAST_SPREAD, LEAST_SHOWN = 0.1, 10


@dataclass(frozen=True, eq=False)
class Layout:
    """Views with the planes of a room continued.

    Attributes:
        latents: (T, C, h, w) the readout where it shows something; else the mean of the plane's cells nearby, but for
            what is on it and not of it, or of all around where there is no plane.
        depth: (T, h r, w r) metres of the planes where one is continued, NaN elsewhere.
    """

    latents: Tensor
    depth: Tensor


def continue_planes(
    latents: Tensor, visible: Tensor, depth: Tensor, camera: Camera, room: Room, factor: int = 1
) -> Layout:
    """Continue planes through what a readout does not show.

    Args:
        latents: (T, C, h, w) of the readout.
        visible: (T, 1, h, w) one where it shows something.
        depth: (T, h, w) metres of its cells, NaN where not known.
        camera: (T,) at latent resolution.
        room: gives the planes, and their looks where the readout shows nothing of them.
        factor: r, sub-cells of the resulting depth along each side.

    Returns:
        the views. The same readout gives the same result.
    """
    seen = visible.to(latents.dtype)
    pose = camera.cam2world.expand(*camera.batch_shape, 4, 4).clone()
    pose[..., :3, 3] = (pose[..., :3, 3].double() - room.origin).to(pose)
    camera = camera.at(pose)
    points = camera.lift(depth).float()
    room = room.around(pose[..., :3, 3], points)
    nearest, label = _intersect(room, camera.resized(camera.height * factor, camera.width * factor))
    gap = (_closed(seen) > 0).squeeze(1)
    label = torch.where(gap, -1, label[:, factor // 2 :: factor, factor // 2 :: factor])
    filled = _coloured(latents, seen, torch.where(seen.squeeze(1) > 0, -1, label), _owner(room, points, depth), room)
    continued = (label >= 0).repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    return Layout(torch.where(seen > 0, latents, filled), torch.where(continued, nearest, torch.nan))


def _intersect(room: Room, camera: Camera) -> tuple[Tensor, Tensor]:
    """Depth (T, H, W) of the nearest plane along each ray, NaN where there is none, and its number, or -1."""
    rays, eyes = camera.rays().float(), camera.cam2world[:, None, None, :3, 3].float()
    if not len(room):
        nothing = torch.full_like(rays[..., 0], torch.nan)
        return nothing, torch.full_like(nothing, -1, dtype=torch.int64)
    facing = rays @ room.normals.T
    depth = (room.distances - eyes @ room.normals.T) / facing
    nearest, label = torch.where((facing < 0) & (depth > 0) & (depth < room.reach), depth, torch.inf).min(dim=-1)
    hit = torch.isfinite(nearest)
    return torch.where(hit, nearest, torch.nan), torch.where(hit, label, -1)


def _owner(room: Room, points: Tensor, depth: Tensor) -> Tensor:
    """(T, h, w) number of the plane that each seen cell is on, the nearest if several; -1 for none."""
    if not len(room):
        return torch.full_like(depth, -1, dtype=torch.int64)
    height, owner = (points @ room.normals.T - room.distances).abs().min(dim=-1)
    # A NaN, where nothing is seen, is on no plane.
    return torch.where(height < 2 * tolerance(depth), owner, -1)


def _coloured(latents: Tensor, seen: Tensor, hidden: Tensor, owner: Tensor, room: Room) -> Tensor:
    """Latents of a readout with hidden cells filled from their plane, or from all around where they have none.

    Args:
        latents, seen: (T, C, h, w) and (T, 1, h, w).
        hidden: (T, h, w) number of the plane in each hidden cell, -1 elsewhere.
        owner: (T, h, w) that of each seen cell.
        room: with the planes' looks.
    """
    numbers = [number for number in torch.unique(hidden).tolist() if number >= 0]
    if not numbers:
        return fill_views(latents, seen)
    looks = room.looks[numbers].to(latents)
    # Not by products of matrices, whose rounding would be greater than small differences.
    exact = "donot_use_mm_for_euclid_dist"
    differs = torch.cdist(latents.movedim(1, -1).flatten(0, -2), looks, compute_mode=exact).T.reshape(-1, *hidden.shape)
    each = torch.tensor(numbers, device=owner.device, dtype=owner.dtype)[:, None, None, None]
    usual = differs <= (USUAL * room.spreads[numbers]).clamp(min=LEAST_SPREAD)[:, None, None, None]
    on = ((owner == each) & usual).unsqueeze(2).to(latents.dtype) * seen
    # All of them together, and all that is seen.
    parts = torch.cat([on, seen.unsqueeze(0)])
    filled = fill_views(latents.expand(len(parts), *latents.shape), parts)
    result = filled[-1]
    for place, number in enumerate(numbers):
        shown = torch.where(on[place].sum() >= LEAST_SHOWN, filled[place], looks[place, :, None, None])
        result = torch.where((hidden == number).unsqueeze(1), shown, result)
    return result


def _closed(seen: Tensor) -> Tensor:
    """Seen cells (T, 1, h, w) and the narrow gaps between them: dilated, then eroded."""
    side = 2 * CLOSING + 1
    # Beyond the border nothing is seen, so a strip along it is no gap.
    grown = F.max_pool2d(F.pad(seen, (2 * CLOSING,) * 4), side, stride=1)
    return 1 - F.max_pool2d(1 - grown, side, stride=1)
