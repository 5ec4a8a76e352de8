"""The view cache: which views it finds again, and what it projects from them."""

import pytest
import torch
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene


@pytest.fixture(scope="module")
def room():
    """Latents (means of 8x8 pixels), depth and cameras of a walk."""
    scene = build_scene(1, moving=0)
    path = plan_path(scene, 40, 0).double()[::2]
    with Renderer(scene, 64, 96) as renderer:
        frames = [renderer.render(pose) for pose in path]
        camera = renderer.camera(path)
    rgb = torch.stack([torch.from_numpy(frame.rgb) for frame in frames]).permute(0, 3, 1, 2).float() / 255
    return F.avg_pool2d(rgb, 8), torch.stack([torch.from_numpy(frame.finite_depth) for frame in frames]), camera


def written(room, count=20):
    latents, depth, camera = room
    memory = ViewMemory(3)
    memory.write(latents[:count], depth[:count], camera[:count])
    return memory


def test_a_view_finds_itself_first(room):
    memory = written(room)
    grid = room[2].resized(8, 12)
    found = [memory.retrieve(camera)[0][0] for camera in grid[5:15]]
    # Neighbours five centimetres away see nearly the same.
    assert all(abs(name - t) <= 2 for t, name in enumerate(found, start=5))


def test_the_projected_view_comes_back(room):
    latents, _, camera = room
    memory = written(room, 1)
    readout = memory.read(camera[0].resized(8, 12))
    # Cells that mix surfaces are left out.
    assert readout.visible.mean() > 0.6
    difference = (readout.latents - latents[0]).abs() * readout.visible
    assert difference.max() < 0.002
    assert memory.read(camera[:3].resized(8, 12)).latents.shape == (3, 3, 8, 12)


def test_surfels_are_shared_between_views(room):
    latents, depth, camera = room
    memory = ViewMemory(3)
    first = memory.write(latents[:1], depth[:1], camera[:1])
    second = memory.write(latents[1:2], depth[1:2], camera[1:2])
    assert second.written < 0.5 * first.written
    assert first.cells == second.cells == 96


def test_what_is_masked_casts_no_votes(room):
    latents, depth, camera = room
    memory = ViewMemory(3)
    report = memory.write(latents[:1], depth[:1], camera[:1], torch.zeros_like(depth[:1], dtype=torch.bool))
    assert report.masked == 96
    assert memory.retrieve(camera[0].resized(8, 12)) == []
    assert memory.read(camera[0].resized(8, 12)).visible.sum() == 0


def test_forks_go_their_own_way(room):
    latents, depth, camera = room
    memory = written(room, 3)
    grid = camera[:4].resized(8, 12)
    before = memory.read(grid).latents
    fork = memory.fork()
    fork.write(latents[10:], depth[10:], camera[10:])
    assert (len(memory), len(fork)) == (3, 13)
    assert torch.equal(memory.read(grid).latents, before)
