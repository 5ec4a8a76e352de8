"""The room that a memory tells of: great planes that were seen, and a guess where the unseen walls are.

Planes are fitted to what was observed. Floors, walls and ceilings have everything on one side of them; tables do not.
Where no wall was seen there must be one nevertheless, beyond all that was seen: it is guessed there, at right angles to
the others. The room depends on what was observed alone, so that a walk through it meets the same walls all the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory

# Observed frames that the room is fitted to, the nearest ones.
MAX_FRAMES = 8
# Planes that are looked for, and sampled hypotheses for each.
MAX_PLANES, HYPOTHESES = 6, 64
# Points that planes are fitted to, and below which there is nothing to fit.
MAX_POINTS, LEAST_POINTS = 2000, 30
# Two normals of one plane have at least this cosine.
SAME_NORMAL = 0.9
# A point is on a plane within this share of its distance, and this many metres.
NEAR_SHARE, NEAR_METRES = 0.03, 0.01
# Points that a plane must hold, at least so many and this share of all, and share of all that must not lie behind it.
LEAST_INLIERS, LEAST_SHARE, SUPPORTING_SHARE = 10, 0.01, 0.97
# Neighbours whose depths differ by more are two surfaces; their normal means nothing.
JUMP = 0.15
# A wall that nobody saw is so many metres behind every camera at least, and behind nearly all that was seen.
BEHIND = 1.5
# Cosines: planes nearer than that to upright are walls, those nearer to level are floors and ceilings.
UPRIGHT, LEVEL = 0.3, 0.8


@dataclass(frozen=True, eq=False)
class Room:
    """K planes normal . x = distance, of which the room is on the positive side.

    Attributes:
        origin: (3,) float64 world place that coordinates are relative to: in a map, single precision may be metres.
        normals: (K, 3) float32, unit, into the room.
        distances: (K,) float32 metres.
        looks: (K, C) usual latent of the plane, the median of what was seen of it; of a guessed wall, of all walls.
        spreads: (K,) usual distance of its latents from that: what differs much more is something else on the plane, a
            door or a picture, and does not go on with it.
        guessed: (K,) bool, walls that nobody saw.
    """

    origin: Tensor
    normals: Tensor
    distances: Tensor
    looks: Tensor
    spreads: Tensor
    guessed: Tensor

    def __len__(self) -> int:
        return len(self.distances)

    @classmethod
    def unknown(cls, channels: int, device: torch.device | str = "cpu") -> Room:
        """A room of which nothing is known."""
        return cls(
            torch.zeros(3, dtype=torch.float64, device=device),
            torch.zeros(0, 3, device=device),
            torch.zeros(0, device=device),
            torch.zeros(0, channels, device=device),
            torch.zeros(0, device=device),
            torch.zeros(0, dtype=torch.bool, device=device),
        )

    def around(self, camera: Camera) -> Room:
        """The room with guessed walls far enough away for cameras (T,) that go beyond."""
        eyes = (camera.cam2world[:, :3, 3] - self.origin).float()
        nearest = (eyes @ self.normals.T).amin(dim=0) - BEHIND
        moved = torch.where(self.guessed, torch.minimum(self.distances, nearest), self.distances)
        return replace(self, distances=moved)


def room_of(memory: Any, camera: Camera) -> Room:
    """The room around cameras (T,) at latent resolution, from what was observed there.

    Args:
        memory: a latent memory: its observed frames, the nearest `MAX_FRAMES`, or the imagined ones where it holds no
            other; or a cache that is compared with it, which does not know what was observed: what it shows of its
            `first_camera`.
        camera: whose middle one is meant.
    """
    first: Camera | None = getattr(memory, "first_camera", None)
    if isinstance(memory, LatentMemory):
        middle = camera.cam2world[len(camera) // 2, :3, 3]
        frames = memory.frames_near(middle, MAX_FRAMES, (camera.height, camera.width))
        if frames:
            grids = memory.frame_grids(frames)
            return fit_room(grids.latents, grids.depth, grids.camera)
    elif first is not None:
        view = first.resized(camera.height, camera.width)
        view = view.at(view.cam2world.unsqueeze(0))
        seen = memory.read(view)
        depth = torch.where(seen.visible > 0, seen.depth, torch.nan).squeeze(1)
        return fit_room(seen.latents.float(), depth, view)
    return Room.unknown(0, camera.device)


def fit_room(latents: Tensor, depth: Tensor, camera: Camera) -> Room:
    """Fit planes to views, and close the room where no wall was seen.

    Args:
        latents: (F, C, h, w) of the views.
        depth: (F, h, w) metres, invalid where nothing is known.
        camera: (F,) at latent resolution.

    Returns:
        the room; the same views give the same one.
    """
    room = Room.unknown(latents.shape[1], latents.device)
    if not len(latents):
        return room
    poses = camera.cam2world.expand(len(latents), 4, 4)
    pose = poses.clone()
    pose[:, :3, 3] -= poses[:1, :3, 3]
    camera, known = camera.at(pose), torch.isfinite(depth) & (depth > 0)
    depth = torch.where(known, depth, torch.nan).float()
    points, normals, metres = _oriented(camera.lift(depth).float(), depth, camera)
    # Seeded, and drawn on the CPU: devices differ by rounding only.
    generator = torch.Generator().manual_seed(0)
    if len(points) < LEAST_POINTS:
        return room
    if len(points) > MAX_POINTS:
        some = torch.randperm(len(points), generator=generator)[:MAX_POINTS].to(points.device)
        points, normals, metres = points[some], normals[some], metres[some]
    planes = _planes(points, normals, metres, generator)
    up = F.normalize(-camera.cam2world[:, :3, 1].float().mean(dim=0), dim=0)
    level = [normal for normal, _ in planes if abs(float(normal @ up)) > LEVEL]
    if level:
        up = level[0] * torch.sign(level[0] @ up)
    closing = _closing(planes, up, points, camera)
    everything = planes + closing
    if not everything:
        return room
    cells = camera.lift(depth).float()[known]
    colours = latents.movedim(1, -1)[known].float()
    near = tolerance(depth[known])
    looks: list[tuple[Tensor, Tensor]] = []
    upright = torch.zeros(len(cells), dtype=torch.bool, device=cells.device)
    flat = torch.zeros_like(upright)
    for normal, distance in planes:
        on = (cells @ normal - distance).abs() < near
        looks.append(_look(colours[on] if on.any() else colours))
        if abs(float(normal @ up)) < UPRIGHT:
            upright |= on
        else:
            flat |= on
    # Without a wall, what stands on the floor is as near as one gets.
    walls = upright if upright.any() else ~flat if not flat.all() else flat
    looks += [_look(colours[walls])] * len(closing)
    return Room(
        origin=poses[0, :3, 3].double(),
        normals=torch.stack([normal for normal, _ in everything]),
        distances=torch.stack([distance for _, distance in everything]),
        looks=torch.stack([look for look, _ in looks]),
        spreads=torch.stack([spread for _, spread in looks]),
        guessed=torch.arange(len(everything), device=cells.device) >= len(planes),
    )


def tolerance(depth: Tensor) -> Tensor:
    """How far from a plane a point of this depth may be and be on it, metres."""
    return NEAR_SHARE * depth.float() + NEAR_METRES


def _look(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Usual latent (C,) of some (N, C), and usual distance from it."""
    look = latents.median(dim=0).values
    return look, (latents - look).norm(dim=1).median()


def _planes(points: Tensor, normals: Tensor, metres: Tensor, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Planes normal . x = distance that have all but a few points on the camera's side, the greatest first."""
    near, least = tolerance(metres), max(LEAST_INLIERS, LEAST_SHARE * len(points))
    left = torch.ones(len(points), dtype=torch.bool, device=points.device)
    planes: list[tuple[Tensor, Tensor]] = []
    while len(planes) < MAX_PLANES:
        free = left.nonzero().squeeze(1)
        if len(free) < least:
            break
        picked = free[torch.randint(len(free), (HYPOTHESES,), generator=generator).to(free.device)]
        normal, through = normals[picked], points[picked]
        height = points @ normal.T - (normal * through).sum(dim=-1)
        close = (height.abs() < near.unsqueeze(1)) & (normals @ normal.T > SAME_NORMAL)
        supports = (height > -2 * near.unsqueeze(1)).float().mean(dim=0) > SUPPORTING_SHARE
        votes = (close & left.unsqueeze(1)).sum(dim=0) * supports
        best = int(votes.argmax())
        if votes[best] < least:
            break
        plane = _fit(points[close[:, best]], metres[close[:, best]], normal[best], through[best])
        planes.append(plane)
        left &= (points @ plane[0] - plane[1]).abs() >= 2 * near
        left[picked[best]] = False
    return planes


def _closing(
    planes: list[tuple[Tensor, Tensor]], up: Tensor, points: Tensor, camera: Camera
) -> list[tuple[Tensor, Tensor]]:
    """Upright planes beyond what was seen, in those of four directions in which no wall was."""
    walls = [normal for normal, _ in planes if abs(float(normal @ up)) < UPRIGHT]
    # Along the greatest wall, or along the first view.
    along = walls[0] if walls else camera.cam2world[0, :3, 2].float()
    along = along - (along @ up) * up
    if float(along.norm()) < UPRIGHT:
        return []
    along = F.normalize(along, dim=0)
    across = torch.linalg.cross(up, along)
    eyes = camera.cam2world[:, :3, 3].float()
    closing = []
    for normal in (along, -along, across, -across):
        if any(float(wall @ normal) > SAME_NORMAL for wall in walls):
            continue
        heights = (points @ normal).sort().values
        beyond = heights[int((1 - SUPPORTING_SHARE) / 2 * (len(heights) - 1))]
        closing.append((normal, torch.minimum(beyond, (eyes @ normal).amin() - BEHIND)))
    return closing


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
    return inner[smooth], normals[smooth], metres[smooth]


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
