"""What a picture shows is found again from a little way off, and nothing else is taken for it."""

import math

import pytest
import torch
from torch.nn.functional import cosine_similarity

from mirage_ros.geometry import pinhole
from mirage_ros.world.likeness import likeness

HEIGHT, WIDTH, WALL = 32, 48, 2.0


def view_of(x=0.0, z=0.0, yaw=0.0):
    """Tokens (1, C, h, w), depth and camera of a view of a wall whose tokens are waves along it."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 0] = pose[2, 2] = math.cos(yaw)
    pose[0, 2], pose[2, 0] = math.sin(yaw), -math.sin(yaw)
    pose[0, 3], pose[2, 3] = x, z
    camera = pinhole(HEIGHT, WIDTH, focal=30.0, cam2world=pose[None])
    rays = camera.rays()
    depth = (WALL - z) / rays[..., 2]
    points = pose[:3, 3] + rays * depth[..., None]
    waves = [
        (points[..., axis] * k + phase).sin() for axis, k, phase in ((0, 11, 0), (0, 7.3, 1), (1, 13, 0), (1, 9.1, 2))
    ]
    return torch.stack(waves, dim=1).float(), depth.float(), camera


def alike(view, weight=1.0):
    latents, depth, camera = view
    return float(likeness(latents, depth, torch.full_like(depth, weight), camera, view_of()[0][0])[0])


def test_a_view_is_most_like_itself():
    assert alike(view_of()) == pytest.approx(1, abs=0.02)
    assert alike(view_of(), 0.5) == pytest.approx(0.5, abs=0.02)
    latents, depth, camera = view_of()
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert alike((noise, depth, camera)) < 0.2


@pytest.mark.parametrize("off", [{"z": -0.5}, {"z": -0.25, "x": 0.25}, {"yaw": -0.2}])
def test_from_a_little_way_off_it_is_still_the_same_place(off):
    goal, (latents, *_) = view_of()[0], view_of(**off)
    plain = cosine_similarity(latents - goal.mean(dim=(2, 3), keepdim=True), goal - goal.mean(dim=(2, 3), keepdim=True))
    assert alike(view_of(**off)) > float(plain.mean()) + 0.3


def test_nearer_is_more_alike_and_unknown_depth_says_nothing():
    near, far = alike(view_of(z=-0.25)), alike(view_of(z=-1.2))
    assert near > far + 0.1
    latents, depth, camera = view_of()
    assert alike((latents, torch.zeros_like(depth), camera)) == 0
    sky = alike((latents, torch.full_like(depth, math.inf), camera))
    assert math.isfinite(sky)
