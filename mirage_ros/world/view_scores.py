"""What views and ways are worth to a planner, from the memory and its map, or from what was imagined along them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import fit_camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.occupancy.prospects import Prospects, ViewScore
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.world.likeness import frame_likeness, likeness, picture_latents
from mirage_ros.world.networks import Networks
from mirage_ros.world.surroundings import Surroundings

# Views that are read together.
BATCH = 64


def check_map(surroundings: Surroundings) -> None:
    """Refuse to score by a map that has no place yet, with a ValueError."""
    if not surroundings.placed:
        raise ValueError("memory: expected at least one observation, got an empty memory")


@torch.no_grad()
def score_views(
    networks: Networks,
    memory: LatentMemory,
    surroundings: Surroundings,
    paths: Sequence[Camera],
    *,
    radius: float = 0.0,
    goal: NDArray[np.uint8] | None = None,
    imagined: Sequence[ImaginedFrame] | None = None,
) -> Iterator[ViewScore]:
    """Score paths, or single views, one at a time; the map is the one of the first.

    Args:
        networks: encode pictures.
        memory: what is known.
        surroundings: its map.
        paths: (T,) cameras each.
        radius: of the robot, metres.
        goal: (H, W, 3) picture of what is looked for.
        imagined: what was imagined along each path, as many frames as it has poses; else the readout alone counts.

    Raises:
        ValueError: there is no path, or the memory has no map yet.
    """
    if not paths:
        raise ValueError("paths: expected at least one, got none")
    check_map(surroundings)
    # Its grids are replaced, never changed, when somebody adds to it meanwhile.
    surroundings = copy.copy(surroundings)
    wanted = None if goal is None else picture_latents(networks, goal)
    if imagined is None:
        known = _known(networks, memory, Camera.joined(list(paths)), wanted)
        prospects = Prospects(surroundings, surroundings.stands, radius)
    for index, path in enumerate(paths):
        if imagined is not None:
            frames = imagined[index]
            fork = copy.copy(surroundings)
            fork.imagined_frames(frames)
            prospects = Prospects(fork, fork.stands, radius)
            alike = [frame_likeness(networks, frame, wanted) for frame in frames] if wanted is not None else []
            seen = [(float(share), math.nan) for share in frames.coverage]
            seen = [(share, like) for (share, _), like in zip(seen, alike, strict=True)] if alike else seen
        else:
            seen = [next(known) for _ in range(len(path))]
        area, gain = prospects.news(path)
        way = path.cam2world[:, :3, 3].cpu()
        yield ViewScore(
            coverage=sum(share for share, _ in seen) / len(seen),
            new_area=area,
            information_gain=gain,
            clearance=prospects.clearance(way),
            collision=prospects.collision(way, radius),
            similarity=max(like for _, like in seen),
        )


def _known(
    networks: Networks, memory: LatentMemory, views: Camera, goal: Tensor | None
) -> Iterator[tuple[float, float]]:
    """For each view the share that the memory knows, and how much that is like a goal's latents (C, h, w)."""
    cameras = fit_camera(views, *networks.size).to(networks.device, torch.float64).resized(*networks.latent_size)
    for begin in range(0, len(cameras), BATCH):
        readout = memory.read(cameras[begin : begin + BATCH], observed_first=networks.preset.observed_first)
        likes = [math.nan] * len(readout.latents)
        if goal is not None:
            some = cameras[begin : begin + BATCH]
            likes = likeness(readout.latents, readout.depth[:, 0], readout.visible[:, 0], some, goal).tolist()
        yield from zip(readout.coverage().tolist(), likes, strict=True)
