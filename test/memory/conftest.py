"""Scenes with exact depth for the memory's tests: a room with boxes, ray-cast analytically."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory.zbuffer.culling import BLOCK
from mirage_ros.memory.zbuffer.projection import views_of


@dataclass
class Room:
    """An empty room, 10 x 10 x 2.7 m around the origin, and boxes in it: ((3,) low, (3,) high) corners."""

    boxes: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = field(default_factory=list)
    low: tuple[float, float, float] = (-5.0, -5.0, 0.0)
    high: tuple[float, float, float] = (5.0, 5.0, 2.7)

    def depth(self, camera: Camera) -> Tensor:
        """(..., H, W) metres."""
        if camera.batch_shape:
            return torch.stack([self.depth(single) for single in camera])
        origin, rays = camera.cam2world[:3, 3], camera.rays()
        inverse = 1 / torch.where(rays.abs() < 1e-9, 1e-9, rays)
        near, far = (torch.tensor(self.low) - origin) * inverse, (torch.tensor(self.high) - origin) * inverse
        depth = torch.maximum(near, far).amin(dim=-1)
        for low, high in self.boxes:
            near, far = (torch.tensor(low) - origin) * inverse, (torch.tensor(high) - origin) * inverse
            enter, leave = torch.minimum(near, far).amax(dim=-1), torch.maximum(near, far).amin(dim=-1)
            depth = torch.where((enter < leave) & (enter > 0), torch.minimum(depth, enter), depth)
        return depth

    def colour(self, camera: Camera, channels: int = 6) -> Tensor:
        """(..., C, H, W) smooth functions of the place that each pixel shows."""
        points = camera.lift(self.depth(camera))
        waves = torch.arange(1, channels + 1) * 0.7
        return torch.sin(points.sum(dim=-1, keepdim=True) * waves + points[..., :1] * 2).movedim(-1, -3)

    def latents(self, camera: Camera, channels: int = 6, grid: tuple[int, int] = (22, 40)) -> Tensor:
        """(..., C, h, w) latents that say what is where."""
        return self.colour(camera.resized(*grid), channels)


@pytest.fixture
def room() -> Room:
    """A room with three boxes."""
    return Room(
        [((1.0, -0.5, 0.0), (1.6, 0.4, 1.2)), ((2.5, 1.0, 0.0), (3.2, 2.0, 0.8)), ((0.0, 2.0, 0.0), (0.8, 3.0, 2.0))]
    )


@pytest.fixture
def empty_room() -> Room:
    """A room without anything in it."""
    return Room()


def _walk(count: int, turn: float = 1.0, length: float = 3.0, height: int = 352, width: int = 640) -> Camera:
    poses = []
    for i in range(count):
        share = i / max(count - 1, 1)
        yaw = turn * share
        forward = torch.tensor([math.cos(yaw), math.sin(yaw), 0.0])
        right = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
        pose = torch.eye(4)
        pose[:3, 0], pose[:3, 1], pose[:3, 2] = right, torch.tensor([0.0, 0.0, -1.0]), forward
        pose[:3, 3] = torch.tensor([-2 + length * share, 0.3 * math.sin(3 * share), 1.3])
        poses.append(pose)
    return pinhole(height, width, vertical_fov=math.radians(60)).at(torch.stack(poses))


@pytest.fixture
def walk():
    """walk(count, turn, length, height, width): cameras that cross the room and turn."""
    return _walk


def _random_scene(seed, count, kind):
    """Positions (3, n), sizes (n,) float32 of one of several kinds of trouble."""
    rng = np.random.default_rng(seed)
    depth = 10.0 ** rng.uniform(-3, 7, count) if kind == "scales" else rng.uniform(0.5, 6, count)
    positions = np.stack([rng.uniform(-0.9, 0.9, count) * depth, rng.uniform(-0.9, 0.9, count) * depth, depth])
    sizes = depth / 6 * rng.uniform(0.2, 6, count)
    if kind == "plane":
        positions[:2] *= 3 / depth
        positions[2] = 3
    if kind == "behind":
        positions[2] *= rng.choice([-1, 1], count)
    if kind == "broken":
        broken = rng.random(count) < 0.4
        values = rng.choice([np.nan, np.inf, -np.inf, 1e38, -1e38], count)
        axis = rng.integers(0, 3, count)
        positions[axis, np.arange(count)] = np.where(broken, values, positions[axis, np.arange(count)])
        sizes = np.where(rng.random(count) < 0.3, rng.choice([np.nan, np.inf, -1.0, 0.0], count), sizes)
    if kind == "duplicates" and count:
        chosen = rng.integers(0, max(count // 3, 1), count)
        positions, sizes = positions[:, chosen], sizes[chosen]
    return torch.from_numpy(positions).float(), torch.from_numpy(sizes).float()


def _random_views(seed, views, convention, height=5, width=7, device="cpu"):
    """Cameras near the origin that look roughly ahead, half of them with unequal focal lengths."""
    generator = torch.Generator().manual_seed(seed)
    poses = torch.eye(4).repeat(views, 1, 1)
    angle = (torch.rand(views, generator=generator) - 0.5) * 0.6
    poses[:, 0, 0] = poses[:, 2, 2] = angle.cos()
    poses[:, 0, 2], poses[:, 2, 0] = angle.sin(), -angle.sin()
    poses[:, :3, 3] = torch.randn(views, 3, generator=generator) * 0.3
    camera = pinhole(height, width, focal=0.7 * width).at(poses)
    camera.intrinsics[1, 1] *= 1.0 if seed % 2 else 1.3
    return views_of(camera.to(device), convention)


def _padded(positions, sizes):
    missing = -positions.shape[1] % BLOCK
    return (
        torch.cat([positions, torch.full((3, missing), math.nan)], dim=1),
        torch.cat([sizes, torch.zeros(missing)]),
    )


@pytest.fixture(scope="session")
def random_scene():
    """random_scene(seed, count, kind): positions and sizes of elements."""
    return _random_scene


@pytest.fixture(scope="session")
def random_views():
    """random_views(seed, views, convention, height, width, device): target views."""
    return _random_views


@pytest.fixture(scope="session")
def padded():
    """padded(positions, sizes): the same, padded to whole blocks."""
    return _padded
