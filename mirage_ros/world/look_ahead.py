"""A keyframe beyond the end of a trajectory that turns into the unseen.

What is drawn there is of one piece only if it is drawn at once. Drawn strip by strip, as one pose after the other is
asked for, it would be scraps.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import pad

from mirage_ros.geometry import Camera
from mirage_ros.trajectory import turned_on
from mirage_ros.world.denoise import unseen_parts
from mirage_ros.world.networks import Networks
from mirage_ros.world.reading import read_views
from mirage_ros.world.spatial_memory import SpatialMemory

# Shares of views: what is new at the edges of the last one, where a strip may be narrow as a cell, and what is new of
# the one further on, which is to be worth it.
STRIP, PIECE = 0.02, 0.33


def look_ahead(networks: Networks, memory: SpatialMemory, cameras: Camera) -> Camera | None:
    """The last camera of a chunk, turned further by half a view, where it comes to see something unseen.

    Args:
        networks: and their preset, which has keyframes.
        memory: what is known.
        cameras: (2,) the first and the last one of the chunk, at the model's size.

    Returns:
        (1,), or None: no turn, or nothing new to be drawn at its end.
    """
    last = cameras[1:]
    pose = turned_on(cameras.cam2world, math.atan(last.width / 2 / float(last.intrinsics[0, 0, 0])))
    if pose is None:
        return None
    beyond = last.at(pose[None])
    # As if the view went on, and nothing of that was seen.
    strip = unseen_parts(pad(_hidden(networks, memory, last), (2, 2, 2, 2), value=True))[..., 2:-2, 2:-2]
    if strip.float().mean() < STRIP:
        return None
    piece = unseen_parts(_hidden(networks, memory, beyond))
    return beyond if piece.float().mean() > PIECE else None


def _hidden(networks: Networks, memory: SpatialMemory, camera: Camera) -> Tensor:
    """(1, 1, h, w) bool, what the memory does not show."""
    reading = read_views(memory, camera.resized(*networks.latent_size), networks.preset, networks.unfolder)
    return reading.visible == 0
