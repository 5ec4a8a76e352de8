"""Planes that support what was seen: floors, walls and ceilings have everything on one side of them, tables do not."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera

# Planes that are looked for, and sampled hypotheses for each.
MAX_PLANES, HYPOTHESES = 6, 64
# Two normals of one plane have at least this cosine.
SAME_NORMAL = 0.9
# A point is on a plane within this share of its distance, and this many metres.
NEAR_SHARE, NEAR_METRES = 0.03, 0.01
# Points that a plane must hold, at least so many and this share of all, and share of all that must not lie behind it.
LEAST_INLIERS, LEAST_SHARE, SUPPORTING_SHARE = 10, 0.01, 0.97
# Neighbours whose depths differ by more are two surfaces; their normal means nothing.
JUMP = 0.15

# A plane's normal (3,) and its distance from the origin along it.
Plane = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Surface:
    """N places inside one surface: points, unit normals towards the camera, depth, and place of the camera."""

    points: Tensor
    normals: Tensor
    metres: Tensor
    eyes: Tensor

    def __len__(self) -> int:
        return len(self.points)

    def some(self, rows: Tensor) -> Surface:
        """Some of them."""
        return Surface(self.points[rows], self.normals[rows], self.metres[rows], self.eyes[rows])


def surface_of(points: Tensor, depth: Tensor, camera: Camera) -> Surface:
    """Places of views whose neighbours belong to the same surface.

    Args:
        points: (F, h, w, 3) of the views.
        depth: (F, h, w) metres, NaN where not known.
        camera: (F,) whose views they are.
    """
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normals = F.normalize(torch.linalg.cross(down, across, dim=-1), dim=-1)
    inner, metres = points[:, 1:-1, 1:-1], depth[:, 1:-1, 1:-1]
    eyes = camera.cam2world[:, None, None, :3, 3].to(points).expand_as(inner)
    normals = normals * torch.sign((normals * (eyes - inner)).sum(dim=-1, keepdim=True))
    around = (depth[:, 1:-1, 2:], depth[:, 1:-1, :-2], depth[:, 2:, 1:-1], depth[:, :-2, 1:-1])
    # Not known in a neighbour is not smooth either.
    smooth = torch.stack([(other / metres - 1).abs() < JUMP for other in around]).all(dim=0)
    smooth &= torch.isfinite(normals).all(dim=-1)
    return Surface(inner[smooth], normals[smooth], metres[smooth], eyes[smooth])


def supporting_planes(surface: Surface, generator: torch.Generator) -> list[Plane]:
    """Planes that have all but a few places on the cameras' side, the greatest first (RANSAC).

    Args:
        surface: at least some tens of places.
        generator: of the hypotheses.
    """
    points, normals = surface.points, surface.normals
    near, least = tolerance(surface.metres), max(LEAST_INLIERS, LEAST_SHARE * len(points))
    left = torch.ones(len(points), dtype=torch.bool)
    planes: list[Plane] = []
    while len(planes) < MAX_PLANES:
        free = left.nonzero().squeeze(1)
        if len(free) < least:
            break
        picked = free[torch.randint(len(free), (HYPOTHESES,), generator=generator)]
        normal, through = normals[picked], points[picked]
        offset = (normal * through).sum(dim=-1)
        height = points @ normal.T - offset
        close = (height.abs() < near.unsqueeze(1)) & (normals @ normal.T > SAME_NORMAL)
        # What was seen from behind the plane, in the next room, says nothing about this side of it.
        inside = surface.eyes @ normal.T > offset
        behind = (height < -2 * near.unsqueeze(1)) & inside
        supports = behind.sum(dim=0) < (1 - SUPPORTING_SHARE) * inside.sum(dim=0)
        votes = (close & left.unsqueeze(1)).sum(dim=0) * supports
        best = int(votes.argmax())
        if votes[best] < least:
            break
        on = close[:, best]
        plane = _fit(points[on], surface.metres[on], normal[best], through[best])
        planes.append(plane)
        left &= (points @ plane[0] - plane[1]).abs() >= 2 * near
        left[picked[best]] = False
    return planes


def _fit(points: Tensor, metres: Tensor, normal: Tensor, through: Tensor) -> Plane:
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


def tolerance(depth: Tensor) -> Tensor:
    """How far from a plane a point of this depth may be and be on it, metres."""
    return NEAR_SHARE * depth.float() + NEAR_METRES
