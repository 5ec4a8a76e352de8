"""Walls, floors and ceilings that go on where the memory shows nothing.

What a robot has not seen is unknown, but rooms end somewhere: behind a seen strip of floor there is more floor, up to
the wall. The great planes that have everything on one side of them are continued through what is hidden; of several,
the nearest along a ray is what one would see in a convex room. It is a guess for the network to start from, not a
readout: furniture, doors and the colours of what has not been seen are the network's to invent.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.models.memory_input import fill_views

# Planes of a view, and sampled hypotheses for each.
MAX_PLANES, HYPOTHESES = 6, 64
# Points that planes are fitted to, and below which there is nothing to fit.
MAX_POINTS, LEAST_POINTS = 2000, 50
# Two normals of one plane have at least this cosine.
SAME_NORMAL = 0.9
# A point is on a plane within this share of its distance, and this many metres.
NEAR_SHARE, NEAR_METRES = 0.03, 0.01
# Points that a plane must hold, at least so many and this share of all, and share of all that must not lie behind it.
LEAST_INLIERS, LEAST_SHARE, SUPPORTING_SHARE = 10, 0.01, 0.97
# Neighbours whose depths differ by more are two surfaces; their normal means nothing.
JUMP = 0.15
# A plane ends at this multiple of the depth that is seen: where a floor would run to the horizon, a wall is missing.
REACH = 1.25
# Cells: gaps as narrow as twice that between seen cells are gaps of the readout, not views past it.
CLOSING = 2


@dataclass(frozen=True, eq=False)
class Layout:
    """Views with their great planes continued.

    Attributes:
        latents: (T, C, h, w) the readout where it shows something; else the mean of the plane's cells nearby, or of
            all around where there is no plane.
        depth: (T, h r, w r) metres of the planes where one is continued, NaN elsewhere.
    """

    latents: Tensor
    depth: Tensor


def continue_planes(latents: Tensor, visible: Tensor, depth: Tensor, camera: Camera, factor: int = 1) -> Layout:
    """Continue planes through what a readout does not show.

    Args:
        latents: (T, C, h, w) of the readout.
        visible: (T, 1, h, w) one where it shows something.
        depth: (T, h, w) metres of its cells, NaN where not known.
        camera: (T,) at latent resolution.
        factor: r, sub-cells of the resulting depth along each side.

    Returns:
        the views. The same readout gives the same result.
    """
    seen = visible.to(latents.dtype)
    # Around the first camera: in coordinates of a map, single precision may be metres.
    pose = camera.cam2world.clone()
    pose[..., :3, 3] -= camera.cam2world[:1, :3, 3]
    camera = camera.at(pose)
    points = camera.lift(depth).float()
    planes = _planes(points, depth, camera)
    fine = camera.resized(camera.height * factor, camera.width * factor)
    nearest, label = _intersect(planes, fine, REACH * _furthest(depth))
    gap = (_closed(seen) > 0).squeeze(1)
    label = torch.where(gap, -1, label[:, factor // 2 :: factor, factor // 2 :: factor])
    filled = fill_views(latents, seen)
    owner = _owner(planes, points, depth)
    for number in range(len(planes)):
        on = (owner == number).unsqueeze(1).to(latents.dtype) * seen
        look = fill_views(latents, on)
        filled = torch.where((label == number).unsqueeze(1) & (on.amax() > 0), look, filled)
    continued = (label >= 0).repeat_interleave(factor, dim=-2).repeat_interleave(factor, dim=-1)
    return Layout(torch.where(seen > 0, latents, filled), torch.where(continued, nearest, torch.nan))


def _planes(points: Tensor, depth: Tensor, camera: Camera) -> list[tuple[Tensor, Tensor]]:
    """Planes normal . x = distance that have all but a few points on the camera's side, the greatest first."""
    points, normals, metres = _oriented(points, depth, camera)
    # Seeded, and drawn on the CPU: devices differ by rounding only.
    generator = torch.Generator().manual_seed(0)
    if len(points) > MAX_POINTS:
        some = torch.randperm(len(points), generator=generator)[:MAX_POINTS].to(points.device)
        points, normals, metres = points[some], normals[some], metres[some]
    planes: list[tuple[Tensor, Tensor]] = []
    if len(points) < LEAST_POINTS:
        return planes
    tolerance, least = _tolerance(metres), max(LEAST_INLIERS, LEAST_SHARE * len(points))
    left = torch.ones(len(points), dtype=torch.bool, device=points.device)
    while len(planes) < MAX_PLANES:
        free = left.nonzero().squeeze(1)
        if len(free) < least:
            break
        picked = free[torch.randint(len(free), (HYPOTHESES,), generator=generator).to(free.device)]
        normal, through = normals[picked], points[picked]
        height = points @ normal.T - (normal * through).sum(dim=-1)
        close = (height.abs() < tolerance.unsqueeze(1)) & (normals @ normal.T > SAME_NORMAL)
        supports = (height > -2 * tolerance.unsqueeze(1)).float().mean(dim=0) > SUPPORTING_SHARE
        votes = (close & left.unsqueeze(1)).sum(dim=0) * supports
        best = int(votes.argmax())
        if votes[best] < least:
            break
        plane = _fit(points[close[:, best]], metres[close[:, best]], normal[best], through[best])
        planes.append(plane)
        left &= (points @ plane[0] - plane[1]).abs() >= 2 * tolerance
        left[picked[best]] = False
    return planes


def _oriented(points: Tensor, depth: Tensor, camera: Camera) -> tuple[Tensor, Tensor, Tensor]:
    """Points (N, 3) inside one surface, their unit normals towards the camera, and their depth."""
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normals = F.normalize(torch.linalg.cross(down, across, dim=-1), dim=-1)
    inner, metres = points[:, 1:-1, 1:-1], depth[:, 1:-1, 1:-1]
    eyes = camera.cam2world[:, None, None, :3, 3].to(points)
    normals = normals * torch.sign((normals * (eyes - inner)).sum(dim=-1, keepdim=True))
    around = (depth[:, 1:-1, 2:], depth[:, 1:-1, :-2], depth[:, 2:, 1:-1], depth[:, :-2, 1:-1])
    # Not known in a neighbour is not smooth either.
    smooth = torch.stack([(other / metres - 1).abs() < JUMP for other in around]).all(dim=0)
    smooth &= torch.isfinite(normals).all(dim=-1)
    return inner[smooth], normals[smooth], metres[smooth].float()


def _fit(points: Tensor, metres: Tensor, normal: Tensor, through: Tensor) -> tuple[Tensor, Tensor]:
    """Plane of least squares, points weighted by their accuracy; the one given where they do not tell another."""
    weight = (1 / metres).square().unsqueeze(1)
    centre = (points * weight).sum(dim=0) / weight.sum()
    scatter = ((points - centre) * weight).T @ (points - centre)
    fitted = torch.linalg.eigh(scatter).eigenvectors[:, 0]
    fitted = torch.where((fitted * normal).sum() < 0, -fitted, fitted)
    # Points of a narrow strip are on any plane through a line.
    sound = (fitted * normal).sum() > SAME_NORMAL
    normal, through = torch.where(sound, fitted, normal), torch.where(sound, centre, through)
    return normal, (normal * through).sum()


def _intersect(planes: list[tuple[Tensor, Tensor]], camera: Camera, furthest: Tensor) -> tuple[Tensor, Tensor]:
    """Depth (T, H, W) of the nearest plane along each ray, NaN where there is none, and its number, or -1."""
    rays, eyes = camera.rays().float(), camera.cam2world[:, None, None, :3, 3].float()
    nearest = torch.full_like(rays[..., 0], torch.inf)
    label = torch.full_like(nearest, -1, dtype=torch.int64)
    for number, (normal, distance) in enumerate(planes):
        facing = rays @ normal
        depth = (distance - eyes @ normal) / facing
        hit = (facing < 0) & (depth > 0) & (depth < torch.minimum(nearest, furthest))
        nearest, label = torch.where(hit, depth, nearest), torch.where(hit, number, label)
    return torch.where(label >= 0, nearest, torch.nan), label


def _owner(planes: list[tuple[Tensor, Tensor]], points: Tensor, depth: Tensor) -> Tensor:
    """(T, h, w) number of the plane that each seen cell is on, the nearest if several; -1 for none."""
    owner = torch.full_like(depth, -1, dtype=torch.int64)
    nearest = 2 * _tolerance(depth)
    for number, (normal, distance) in enumerate(planes):
        height = (points @ normal - distance).abs()
        owner = torch.where(height < nearest, number, owner)
        nearest = torch.minimum(nearest, height)
    return owner


def _furthest(depth: Tensor) -> Tensor:
    """The depth that nearly all of what is seen keeps below; zero where nothing is."""
    known = depth[torch.isfinite(depth)]
    return known.sort().values[int(0.98 * (len(known) - 1))] if len(known) else depth.new_zeros(())


def _tolerance(depth: Tensor) -> Tensor:
    return NEAR_SHARE * depth.float() + NEAR_METRES


def _closed(seen: Tensor) -> Tensor:
    """Seen cells (T, 1, h, w) and the narrow gaps between them: dilated, then eroded."""
    side = 2 * CLOSING + 1
    # Beyond the border nothing is seen, so a strip along it is no gap.
    grown = F.max_pool2d(F.pad(seen, (2 * CLOSING,) * 4), side, stride=1)
    return 1 - F.max_pool2d(1 - grown, side, stride=1)
