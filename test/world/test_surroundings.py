"""The map that goes with a memory: what it still says once it is made out of the memory alone."""

import math

import numpy as np
import pytest
import torch

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.occupancy.grid import GridShape
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame
from mirage_ros.world.doubt import DepthDoubt
from mirage_ros.world.surroundings import IMAGINED_FRAMES, Surroundings

SHAPE, DOUBT = GridShape(extent=10.0), DepthDoubt(0.01, 0.03)
HEIGHT, WIDTH = 32, 48


def upright(yaw, x=0.0):
    """(4, 4) optical pose of a camera 1 m above the ground."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 0] = torch.tensor([math.sin(yaw), -math.cos(yaw), 0.0])
    pose[:3, 1], pose[:3, 2] = torch.tensor([0.0, 0.0, -1.0]), torch.tensor([math.cos(yaw), math.sin(yaw), 0.0])
    pose[:3, 3] = torch.tensor([x, 0.0, 1.0])
    return pose


def write(memory, kind, pose, metres):
    """Write a wall before a camera; the camera and its depth."""
    camera = Camera.stacked([pinhole(HEIGHT, WIDTH, vertical_fov=0.9).to(dtype=torch.float64).at(pose)])
    depth = torch.full((1, HEIGHT, WIDTH), metres)
    memory.write(torch.zeros(1, 4, HEIGHT // 4, WIDTH // 4), depth, camera, frame=SourceFrame(kind=kind))
    return camera, depth


def observe(grid, memory, pose, metres):
    camera, depth = write(memory, "observation", pose, metres)
    grid.saw(RgbdFrame(np.zeros((HEIGHT, WIDTH, 3), np.uint8), depth[0].numpy(), camera[0]))


def imagine(grid, memory, pose, metres):
    camera, depth = write(memory, "imagination", pose, metres)
    nothing = np.zeros((1, HEIGHT, WIDTH), np.float32)
    frame = ImaginedFrame(
        rgb=np.zeros((1, HEIGHT, WIDTH, 3), np.uint8),
        depth=depth.numpy(),
        camera=camera,
        visible=nothing,
        coverage=np.zeros(1, np.float32),
        uncertainty=DOUBT.uncertainty(depth.numpy(), nothing),
    )
    grid.imagined_frames(frame)


@pytest.fixture(params=[0, 2])
def memory(request):
    return LatentMemory(4, patch=request.param, max_bytes=4 << 20)


@pytest.fixture
def grid(memory):
    """Sees a wall ahead, and imagined one to the left and one to the right."""
    grid = Surroundings(SHAPE, memory, DOUBT)
    observe(grid, memory, upright(0.0), 3.0)
    imagine(grid, memory, upright(math.pi / 2), 2.0)
    imagine(grid, memory, upright(-math.pi / 2), 1.5)
    return grid


def at(grid, cells, x, y):
    column, row = ((torch.tensor([x, y]) - grid.corner) / SHAPE.resolution).long().tolist()
    return int(cells[row, column])


def test_a_map_made_anew_has_what_was_observed_and_what_was_imagined(grid):
    known, guessed = grid.known(), grid.guessed()
    assert at(grid, guessed, 0.0, 2.1) > 30 > 5 > at(grid, guessed, 0.0, 1.0) >= 0
    grid.renew()
    assert (grid.known() == known).mean() > 0.9
    again = grid.guessed()
    both = (guessed >= 0) & (again >= 0)
    assert both.sum() > 0.9 * max((guessed >= 0).sum(), (again >= 0).sum())
    assert np.abs(guessed[both].astype(int) - again[both]).mean() < 2


def test_of_what_was_imagined_of_a_place_the_newest_is_made_again(grid, memory):
    # Sees through the wall to the left: what stood there is in doubt, and the memory keeps it beside the new one.
    imagine(grid, memory, upright(math.pi / 2), 4.0)
    assert at(grid, grid.guessed(), 0.0, 2.1) < 5
    assert len(memory.frames()) == 4
    grid.renew()
    assert at(grid, grid.guessed(), 0.0, 2.1) < 5
    assert at(grid, grid.guessed(), 0.0, 4.1) > 30


def test_a_map_that_comes_back_to_a_place_has_what_was_imagined_there(grid, memory):
    for x in (9.0, 0.0):
        observe(grid, memory, upright(0.0, x), 3.0)
    assert at(grid, grid.guessed(), 0.0, 2.1) > 30


def test_a_map_made_anew_takes_the_newest_of_what_was_imagined_on_it(grid, memory):
    """Each costs time in which previews wait."""
    for step in range(IMAGINED_FRAMES):
        imagine(grid, memory, upright(math.pi / 2, 30 + step / 2), 0.3)
    grid.renew()
    assert at(grid, grid.guessed(), 0.0, 2.1) > 30
    for step in range(IMAGINED_FRAMES):
        imagine(grid, memory, upright(-math.pi / 2, step / 8 - 2), 0.3)
    assert sum(frame.kind == "imagination" for frame in memory.frames()) == 2 * IMAGINED_FRAMES + 2
    grid.renew()
    assert at(grid, grid.guessed(), 0.0, 2.1) < 0
    assert at(grid, grid.guessed(), 0.0, -0.4) > 30


def test_what_was_imagined_alone_is_made_again(memory):
    grid = Surroundings(SHAPE, memory, DOUBT)
    imagine(grid, memory, upright(0.0), 2.0)
    imagine(grid, memory, upright(0.0, 20.0), 2.0)
    # One that stood on another map, as before a load.
    for other in (Surroundings(SHAPE, memory, DOUBT), grid):
        other.renew()
        assert other.stands.tolist() == [20.0, 0.0, 1.0]
        assert at(other, other.guessed(), 22.1, 0.0) > 30
