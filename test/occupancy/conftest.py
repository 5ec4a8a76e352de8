"""An analytic room for maps: walls, a table that one sees over, and a camera that stands upright."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mirage_ros.geometry import Camera, pinhole

LOW, HIGH = torch.tensor([-3.0, -3.0, 0.0]), torch.tensor([3.0, 3.0, 2.6])
TABLE = torch.tensor([1.0, -0.5, 0.0]), torch.tensor([1.6, 0.5, 0.7])


def upright(x: float = 0.0, y: float = 0.0, yaw: float = 0.0, pitch: float = 0.0, z: float = 1.2) -> Tensor:
    """(4, 4) optical pose of a camera that looks along x, turned by yaw and down by pitch."""
    forward = torch.tensor(
        [math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), -math.sin(pitch)], dtype=torch.float64
    )
    right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0], dtype=torch.float64)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    pose[:3, 3] = torch.tensor([x, y, z], dtype=torch.float64)
    return pose


def cameras(*poses: Tensor) -> Camera:
    return pinhole(96, 144, vertical_fov=0.9).to(dtype=torch.float64).at(torch.stack(poses))


def depth_of(camera: Camera, table: bool = True) -> Tensor:
    """(F, H, W) metres in the room."""
    origin, rays = camera.cam2world[:, None, None, :3, 3], camera.rays()
    inverse = 1 / torch.where(rays.abs() < 1e-9, 1e-9, rays)
    depth = torch.maximum((LOW - origin) * inverse, (HIGH - origin) * inverse).amin(dim=-1)
    if table:
        near, far = (TABLE[0] - origin) * inverse, (TABLE[1] - origin) * inverse
        enter, leave = torch.minimum(near, far).amax(dim=-1), torch.maximum(near, far).amin(dim=-1)
        depth = torch.where((enter < leave) & (enter > 0), torch.minimum(depth, enter), depth)
    return depth.float()


@pytest.fixture(scope="session")
def room():
    """Poses, cameras and depth: `room.upright`, `room.cameras`, `room.depth`."""

    class Room:
        upright, cameras, depth = staticmethod(upright), staticmethod(cameras), staticmethod(depth_of)

    return Room
