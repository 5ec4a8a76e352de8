"""A keyframe beyond the end of a trajectory that turns in small steps into the unseen.

What is drawn there is of one piece only if it is drawn at once. Drawn strip by strip, as one pose after the other is
asked for, it would be scraps.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad

from mirage_ros.geometry import Camera
from mirage_ros.trajectory import turned_on
from mirage_ros.world.chunk_plan import Span
from mirage_ros.world.denoise import unseen_parts
from mirage_ros.world.networks import Networks
from mirage_ros.world.reading import read_views
from mirage_ros.world.spatial_memory import SpatialMemory

# Radians by which the camera is turned further: half a view.
AHEAD = 0.6
# Shares of views: what is new at the edges of the last one, where a strip may be narrow as a cell, and what is new of
# the one further on, which is to be worth it.
STRIP, PIECE = 0.02, 0.33


def look_ahead(networks: Networks, memory: SpatialMemory, trajectory: Camera, span: Span) -> Camera | None:
    """The last camera of a short last chunk, turned further, where it sees something unseen.

    Args:
        networks: and their preset, which has keyframes.
        memory: what is known.
        trajectory: (T,) at the model's size.
        span: a chunk of it.

    Returns:
        (1,), or None: a chunk as long as others, one in the middle, no turn, or nothing new to be drawn at its end.
    """
    cameras = trajectory[max(0, span.stop - 2) : span.stop]
    if len(span) > networks.preset.keyframe_stride or len(cameras) < 2 or span.stop < len(trajectory):
        return None
    pose = turned_on(cameras.cam2world, AHEAD)
    if pose is None:
        return None
    last = cameras[1:]
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
