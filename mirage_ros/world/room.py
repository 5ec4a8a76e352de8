"""The room that a memory tells of: great planes that were seen, and a guess where the unseen walls are.

Planes are fitted to what was observed. Floors, walls and ceilings have everything on one side of them; tables do not.
Where a wall or a ceiling was seen there must be walls to all sides: missing ones are guessed beyond all that was seen,
at right angles to the others. The room depends on what was observed alone, so that a walk through it meets the same
walls all the way.

The network that draws into the layout has learned with these constants.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.world.planes import SAME_NORMAL, SUPPORTING_SHARE, Plane, supporting_planes, surface_of, tolerance
from mirage_ros.world.spatial_memory import SpatialMemory

# Observed frames from which the room is looked at, the nearest ones; as many as training samples have.
MAX_FRAMES = 3
# Points that planes are fitted to, and below which there is nothing to fit.
MAX_POINTS, LEAST_POINTS = 2000, 30
# A wall that nobody saw is so many metres behind every camera at least, and behind nearly all that was seen.
BEHIND = 1.5
# Cosines to upwards: planes below the first are walls, above the second floors and ceilings.
UPRIGHT, LEVEL = 0.3, 0.6
# Cosine of cameras' x axes to upwards, below which they do not roll.
LEVEL_X = 0.2
# Length of the mean of the cameras' own upwards from which they agree.
ALIKE = 0.9
# Planes of an open place end at this multiple of the depth that was seen.
REACH = 1.25


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
        reach: metres of depth at which planes end. Where walls close the room there is no need, otherwise a floor would
            run to the horizon.
    """

    origin: Tensor
    normals: Tensor
    distances: Tensor
    looks: Tensor
    spreads: Tensor
    guessed: Tensor
    reach: float = math.inf

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

    def to(self, device: torch.device | str) -> Room:
        """The same on a device."""
        names = ("origin", "normals", "distances", "looks", "spreads", "guessed")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def around(self, eyes: Tensor, points: Tensor) -> Room:
        """The room with guessed walls far enough away for cameras and behind what they show.

        Args:
            eyes: (T, 3) places of cameras, relative to the origin.
            points: (..., 3) places that are seen, relative to the origin; NaN for none.
        """
        if not self.guessed.any():
            return self
        distances = torch.minimum(self.distances, (eyes.float() @ self.normals.T).amin(dim=0) - BEHIND)
        points = points.reshape(-1, 3).float()
        points = points[torch.isfinite(points).all(dim=-1)]
        if len(points):
            distances = torch.minimum(distances, _behind(points @ self.normals.T))
        return replace(self, distances=torch.where(self.guessed, distances, self.distances))


def room_of(memory: SpatialMemory, camera: Camera) -> Room:
    """The room around cameras (T,) at latent resolution, from what was observed there.

    Args:
        memory: what it shows to the nearest `MAX_FRAMES` observed frames without what was imagined since, or to the
            imagined ones where it holds no other; of one that keeps no frames all that it shows.
        camera: whose middle one is meant.
    """
    poses = camera.cam2world.expand(*camera.batch_shape, 4, 4)
    near = memory.cameras_near(poses[len(poses) // 2, :3, 3], MAX_FRAMES)
    if near is None:
        return Room.unknown(0, camera.device)
    views = near.resized(camera.height, camera.width).to(camera.device)
    # A frame keeps only what no other holds as well; from where it was taken, the memory shows all of it.
    seen = memory.read(views, observed_first=True)
    told, sources = seen.visible > 0, memory.sources
    if sources is not None:
        ids = [int(frame) for frame in torch.unique(seen.source).tolist() if frame >= 0]
        imagined = [frame for frame in ids if sources.was_imagined(frame)]
        if len(imagined) < len(ids):
            told &= ~torch.isin(seen.source, torch.tensor(imagined, device=seen.source.device))
    return fit_room(seen.latents.float(), torch.where(told, seen.depth, torch.nan).squeeze(1), views)


def fit_room(latents: Tensor, depth: Tensor, camera: Camera) -> Room:
    """Fit planes to views, and close the room where no wall was seen.

    A wall with a wide open door in it is none: what is seen through the door lies behind it. Done on the CPU, since it
    is many small steps that depend on each other.

    Args:
        latents: (F, C, h, w) of the views.
        depth: (F, h, w) metres, invalid where nothing is known.
        camera: (F,) at latent resolution.

    Returns:
        the room, where the latents are; the same views give the same one.
    """
    unknown = Room.unknown(latents.shape[1], latents.device)
    if not len(latents):
        return unknown
    device, latents, depth = latents.device, latents.cpu().float(), depth.cpu()
    poses = camera.cam2world.cpu().expand(len(latents), 4, 4)
    pose = poses.clone()
    pose[:, :3, 3] -= poses[:1, :3, 3]
    camera = Camera(camera.intrinsics.cpu(), pose, camera.height, camera.width)
    known = valid_depth(depth)
    depth = torch.where(known, depth, torch.nan).float()
    surface = surface_of(camera.lift(depth).float(), depth, camera)
    generator = torch.Generator().manual_seed(0)
    if len(surface) < LEAST_POINTS:
        return unknown
    if len(surface) > MAX_POINTS:
        surface = surface.some(torch.randperm(len(surface), generator=generator)[:MAX_POINTS])
    planes = supporting_planes(surface, generator)
    up = _up([normal for normal, _ in planes], camera)
    guessed = [] if up is None else _guessed_walls(planes, up, surface.points, camera)
    everything = planes + guessed
    if not everything:
        return unknown
    looks = _looks(planes, up, camera.lift(depth).float()[known], depth[known], latents.movedim(1, -1)[known])
    # A guessed wall looks like the others.
    looks = looks[:-1] + looks[-1:] * len(guessed)
    furthest = surface.metres.sort().values[int(SUPPORTING_SHARE * (len(surface.metres) - 1))]
    return Room(
        origin=poses[0, :3, 3].double(),
        normals=torch.stack([normal for normal, _ in everything]),
        distances=torch.stack([distance for _, distance in everything]),
        looks=torch.stack([look for look, _ in looks]),
        spreads=torch.stack([spread for _, spread in looks]),
        guessed=torch.arange(len(everything)) >= len(planes),
        reach=math.inf if guessed or _walled(planes, up) else REACH * float(furthest),
    ).to(device)


def _up(normals: list[Tensor], camera: Camera) -> Tensor | None:
    """Upwards (3,): the normal of floor or ceiling, else that of the map, else the cameras'; None where nothing tells.

    Cameras are taken not to roll: their x axes are level. Then floor and ceiling are the planes along those, whose
    normals are nearest to the cameras' own idea of up.
    """
    level, cameras = camera.cam2world[:, :3, 0].float(), -camera.cam2world[:, :3, 1].float()
    mean = cameras.mean(dim=0)
    best, most = None, LEVEL
    for normal in [*normals, *(-normal for normal in normals), mean.new_tensor([0.0, 0.0, 1.0])]:
        if float((level @ normal).abs().mean()) < LEVEL_X and float(mean @ normal) > most:
            best, most = normal, float(mean @ normal)
    if best is None and float(mean.norm()) > ALIKE:
        best = F.normalize(mean, dim=0)
    return best


def _walled(planes: list[Plane], up: Tensor | None) -> bool:
    """Whether there are walls to all sides."""
    return up is not None and sum(abs(float(normal @ up)) < UPRIGHT for normal, _ in planes) >= 4


def _guessed_walls(planes: list[Plane], up: Tensor, points: Tensor, camera: Camera) -> list[Plane]:
    """Upright planes behind what was seen, in those of four directions in which no wall was.

    None where neither wall nor ceiling was seen: that need not be a room.
    """
    walls = [normal for normal, _ in planes if abs(float(normal @ up)) < UPRIGHT]
    ceiling = any(float(normal @ up) < -LEVEL for normal, _ in planes)
    if not walls and not ceiling:
        return []
    # Along the greatest wall, or along the view that is most level.
    views = camera.cam2world[:, :3, 2].float()
    along = walls[0] if walls else views[(views @ up).abs().argmin()]
    along = along - (along @ up) * up
    if float(along.norm()) < UPRIGHT:
        return []
    along = F.normalize(along, dim=0)
    across = torch.linalg.cross(up, along)
    eyes = camera.cam2world[:, :3, 3].float()
    guessed = []
    for normal in (along, -along, across, -across):
        if not any(float(wall @ normal) > SAME_NORMAL for wall in walls):
            guessed.append((normal, torch.minimum(_behind(points @ normal), (eyes @ normal).amin() - BEHIND)))
    return guessed


def _behind(heights: Tensor) -> Tensor:
    """Of heights (N, ...) over planes, what all but a few exceed."""
    return heights.sort(dim=0).values[int((1 - SUPPORTING_SHARE) / 2 * (len(heights) - 1))]


def _looks(
    planes: list[Plane], up: Tensor | None, cells: Tensor, metres: Tensor, latents: Tensor
) -> list[tuple[Tensor, Tensor]]:
    """Look and spread of each plane, and at last those of all walls.

    Args:
        planes: that were seen.
        up: upwards, if known.
        cells: (N, 3) places.
        metres: (N,) their depth.
        latents: (N, C) of them.
    """
    looks = []
    near = tolerance(metres)
    upright, flat = (torch.zeros(len(cells), dtype=torch.bool) for _ in range(2))
    for normal, distance in planes:
        on = (cells @ normal - distance).abs() < near
        looks.append(_look(latents[on] if on.any() else latents))
        if up is not None and abs(float(normal @ up)) < UPRIGHT:
            upright |= on
        else:
            flat |= on
    # Without a wall, what stands on the floor is as near as one gets.
    walls = upright if upright.any() else ~flat if not flat.all() else flat
    return [*looks, _look(latents[walls])]


def _look(latents: Tensor) -> tuple[Tensor, Tensor]:
    """Usual latent (C,) of some (N, C), and usual distance from it."""
    look = latents.median(dim=0).values
    return look, (latents - look).norm(dim=1).median()
