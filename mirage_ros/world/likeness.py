"""How alike views and a goal picture are: by what is in them, also where the goal was taken from a little way off.

The tokens of a view are moved by their depth to where a camera that stands a little differently would see them, and
compared with the goal's tokens there; the best of some such cameras counts. So a view from half a metre before the goal
is more like it than one that only has its colours in the same corners.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity, grid_sample

from mirage_ros.geometry import Camera
from mirage_ros.images import as_tensor, fit_camera, fit_colour, fit_nearest
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.world.networks import Networks

# Of the cameras that are tried: radians to the right, metres ahead and to the right.
TURNS = tuple(math.radians(degrees) for degrees in (-24, -12, 0, 12, 24))
AHEAD, ASIDE = (-0.25, 0.0, 0.25, 0.5), (-0.25, 0.0, 0.25)
# A camera that stands half a metre or turns 30 degrees off is so much less like the goal's.
COST = 0.05
# What was invented counts so much beside what is remembered.
INVENTED = 0.5
# Every so many-th row and column of a view is compared; nearer than this nothing is; the sky is so far away. Metres.
STEP, NEAR, SKY = 2, 0.1, 30.0


def picture_latents(networks: Networks, picture: NDArray[np.uint8]) -> Tensor:
    """(C, h, w) latents of a picture (H, W, 3), its middle cut to the model's shape."""
    colours = fit_colour(as_tensor(picture).to(networks.device), *networks.size)
    return networks.encode(colours[None, None])[0, :, 0]


def frame_likeness(networks: Networks, frame: ImaginedFrame, goal: Tensor) -> float:
    """How alike a single frame and a goal's latents (C, h, w) are; see `likeness`."""
    latents = picture_latents(networks, frame.rgb)[None]
    camera = Camera.stacked([fit_camera(frame.camera, *networks.size).resized(*networks.latent_size)])
    depth, visible = (
        fit_nearest(torch.from_numpy(each)[None], *networks.latent_size).to(latents.device)
        for each in (frame.depth, frame.visible)
    )
    weight = INVENTED + (1 - INVENTED) * (visible > 0)
    return float(likeness(latents, depth, weight, camera.to(latents.device), goal)[0])


def likeness(latents: Tensor, depth: Tensor, weight: Tensor, camera: Camera, goal: Tensor) -> Tensor:
    """How alike views and a goal are.

    Args:
        latents: (T, C, h, w) of the views.
        depth: (T, h, w) metres, +inf in the sky; elsewhere unknown, and not compared, where it is not positive.
        weight: (T, h, w) 0 to 1, how much each token counts.
        camera: (T,) at this resolution.
        goal: (C, h, w) latents of a picture by a camera with the same optics.

    Returns:
        (T,) mean cosine over all of a view, from the goal's mean token, -1 to 1; what is not in the goal counts as 0.
    """
    mean = goal.mean(dim=(1, 2), keepdim=True)
    return torch.stack(
        [
            _of_view(view - mean, metres, share, own, goal - mean)
            for view, metres, share, own in zip(latents.float(), depth, weight, camera, strict=True)
        ]
    )


def _of_view(latents: Tensor, depth: Tensor, weight: Tensor, camera: Camera, goal: Tensor) -> Tensor:
    cells = slice(STEP // 2, None, STEP)
    depth, weight, latents = depth[cells, cells], weight[cells, cells], latents[:, cells, cells]
    optics = camera.intrinsics.to(depth)
    fx, fy, cx, cy = optics[0, 0], optics[1, 1], optics[0, 2], optics[1, 2]
    column, row = camera.pixel_centres()[cells, cells].to(depth).unbind(-1)
    metres = torch.where(depth > 0, depth.clamp(max=SKY), SKY)
    # (V, 1, 1) each.
    turn, ahead, aside = torch.cartesian_prod(*(torch.tensor(each).to(depth) for each in (TURNS, AHEAD, ASIDE))).T[
        :, :, None, None
    ]
    x, z = (column - cx) / fx * metres - aside, metres - ahead
    right, forward = turn.cos() * x - turn.sin() * z, turn.sin() * x + turn.cos() * z
    u = (right / forward * fx + cx) / camera.width
    v = ((row - cy) / fy * metres / forward * fy + cy) / camera.height
    shown = (forward > NEAR) & (u > 0) & (u < 1) & (v > 0) & (v < 1) & (depth > 0)
    places = (torch.stack([u, v], dim=-1) * 2 - 1).nan_to_num(2.0, 2.0, 2.0)
    there = grid_sample(goal.expand(len(turn), *goal.shape), places, align_corners=False)
    alike = cosine_similarity(latents[None], there, dim=1) * (weight * shown)
    off = turn.abs() / math.radians(30) + torch.hypot(ahead, aside) / 0.5
    best: Tensor = (alike.mean(dim=(1, 2)) - COST * off.flatten()).max()
    return best
