"""A small room without a simulator: two textured walls in front of the camera, with exact depth."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.perception.pipeline import NoFilter, Perception, SensorDepth
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.trajectory import look_at
from mirage_ros.world.model import WorldModel
from mirage_ros.world.room import Room

SIZE = (32, 48)


@dataclass(frozen=True, eq=False)
class Walk:
    rgb: np.ndarray
    depth: torch.Tensor
    camera: Camera

    @property
    def perception(self) -> Perception:
        return Perception(SensorDepth(self.depth), NoFilter())

    def frame(self, index: int = 0, depth: torch.Tensor | None = None, stamp: int = 0) -> RgbdFrame:
        """One frame, with other depth if that is given."""
        metres = (self.depth[index] if depth is None else depth).numpy()
        return RgbdFrame(self.rgb[index], metres, self.camera[index], stamp)

    def picture(self, index: int = 0) -> RgbdFrame:
        """One frame without depth."""
        return RgbdFrame(self.rgb[index], None, self.camera[index])

    def begin(self, world: WorldModel):
        """A memory and a history that have seen the first frame."""
        memory, history = world.new_memory(), world.new_history()
        world.observe(memory, self.frame(), history=history)
        return memory, history


def make_walk(count: int, step: float = 0.05, height: int = SIZE[0], width: int = SIZE[1]) -> Walk:
    """A camera that moves to the right before a near wall on the left and a far one on the right."""
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = torch.arange(count) * step
    camera = pinhole(height, width, focal=width * 0.8, cam2world=poses)
    rays = camera.rays()
    origin = poses[:, None, None, :3, 3]
    near = origin + rays * 2.0
    depth = torch.where(near[..., 0] < 0.2, 2.0, 3.5)
    points = origin + rays * depth[..., None]
    waves = torch.stack([torch.sin(points[..., 0] * 5), torch.cos(points[..., 1] * 6), torch.sin(points[..., 2])], -1)
    rgb = ((waves * 0.4 + 0.5) * 255).round().to(torch.uint8).numpy()
    return Walk(rgb, depth.float(), camera)


@pytest.fixture(scope="session")
def walk():
    return make_walk


class House:
    """A room around the origin, its floor at zero, as a camera sees it."""

    rows, columns = 32, 48
    # Metres.
    length, width, height = 5.0, 4.0, 2.6
    # Planes as (normal into the room, distance, colour).
    walls = (
        ((1.0, 0.0, 0.0), -length / 2, 1.0),
        ((-1.0, 0.0, 0.0), -length / 2, 2.0),
        ((0.0, 1.0, 0.0), -width / 2, 3.0),
        ((0.0, -1.0, 0.0), -width / 2, 4.0),
        ((0.0, 0.0, 1.0), 0.0, 5.0),
        ((0.0, 0.0, -1.0), -height, 6.0),
    )
    floor = walls[4:5]

    def camera_at(self, eye: tuple[float, float, float], target: tuple[float, float, float]) -> Camera:
        pose = look_at(torch.tensor([eye], dtype=torch.float64), torch.tensor([target], dtype=torch.float64))
        return pinhole(self.rows, self.columns, focal=30.0, cam2world=pose)

    def look(self, camera: Camera, resolution: int = 1, walls=walls) -> tuple[torch.Tensor, torch.Tensor]:
        """Depth and colour (T, h, w) of the walls."""
        fine = camera.resized(camera.height * resolution, camera.width * resolution)
        rays, eyes = fine.rays(), fine.cam2world[:, None, None, :3, 3]
        depths = []
        for normal, distance, _ in walls:
            towards = torch.tensor(normal, dtype=rays.dtype)
            depth = (distance - eyes @ towards) / (rays @ towards)
            depths.append(torch.where((rays @ towards < 0) & (depth > 0), depth, torch.inf))
        depth, which = torch.stack(depths).min(dim=0)
        return depth.float(), torch.tensor([colour for *_, colour in walls])[which]

    def readout(self, camera: Camera, seen: torch.Tensor, walls=walls) -> tuple[torch.Tensor, ...]:
        """Latents, visibility and depth of a readout that shows some of it."""
        depth, colour = self.look(camera, walls=walls)
        latents = torch.where(seen, colour, 0.0).unsqueeze(1)
        return latents, seen.float().unsqueeze(1), torch.where(seen, depth, torch.nan)

    def nothing(self) -> torch.Tensor:
        """No cell of a view is seen."""
        return torch.zeros(1, self.rows, self.columns, dtype=torch.bool)

    @staticmethod
    def seen_walls(room: Room) -> Room:
        """The room without the walls that are guessed."""
        names = ("normals", "distances", "looks", "spreads", "guessed")
        return replace(room, **{name: getattr(room, name)[~room.guessed] for name in names})


@pytest.fixture(scope="session")
def house():
    return House()


@pytest.fixture(scope="session", autouse=True)
def _threads():
    # More threads than cores that are free make small networks slower.
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def frame_world() -> WorldModel:
    """The default preset's networks, random, at a minute size."""
    return WorldModel.from_pretrained(preset="default", random_weights=True, size=SIZE)


@pytest.fixture(scope="session")
def video_world() -> WorldModel:
    """A temporal autoencoder, as the full-size model has one."""
    return WorldModel.from_pretrained(preset="test", random_weights=True, size=SIZE)


def content_of(memory) -> dict[str, torch.Tensor]:
    elements = memory.elements()
    return {name: getattr(elements, name) for name in ("positions", "features", "size", "confidence", "source")}


@pytest.fixture
def content():
    """content(memory): all that it holds."""
    return content_of


@pytest.fixture
def assert_same():
    """assert_same(memory, before): it still holds what `content` gave before."""

    def check(memory, before) -> None:
        after = content_of(memory)
        assert all(torch.equal(after[name], before[name]) for name in before)

    return check
