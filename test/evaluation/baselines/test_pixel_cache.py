"""The pixel cache: what it draws, encodes, keeps and forgets."""

import pytest
import torch
from torch.nn import functional as F

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.geometry import pinhole
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.trajectory import dolly, pan

STRIDE = 8


def encode(images):
    """A linear autoencoder's half: means of the cells."""
    return F.avg_pool2d(images, STRIDE)


@pytest.fixture(scope="module")
def room():
    scene = build_scene(1, moving=0)
    path = plan_path(scene, 12, 0).double()
    with Renderer(scene, 64, 96) as renderer:
        frames = [renderer.render(pose) for pose in path]
        camera = renderer.camera(path)
    colour = torch.stack([torch.from_numpy(frame.rgb) for frame in frames])
    return colour, torch.stack([torch.from_numpy(frame.finite_depth) for frame in frames]), camera


def test_the_written_view_comes_back(room):
    colour, depth, camera = room
    memory = RgbMemory(encode, STRIDE)
    report = memory.write(None, depth[:1], camera[:1], colour=colour[:1])
    assert report.written == depth[0].numel() == len(memory)
    image, visible, drawn = memory.render(camera[:1])
    assert visible.mean() > 0.999
    known = visible.expand_as(image) > 0
    wanted = colour[:1].permute(0, 3, 1, 2).float() / 255
    assert (image - wanted)[known].abs().mean() < 0.002
    torch.testing.assert_close(drawn[0, 0], depth[0], rtol=0.02, atol=0.02)
    readout = memory.read(camera[:1].resized(8, 12))
    torch.testing.assert_close(readout.latents, encode(wanted) * readout.visible, atol=0.01, rtol=0)
    assert readout.coverage().min() > 0.99
    assert memory.read(camera[0].resized(8, 12)).latents.shape == (3, 8, 12)


def test_depth_of_a_cell_is_that_of_a_surface_and_not_between_two(room):
    # Left a wall at 2 m, right one at 4 m; the edge runs through a column of cells.
    camera = pinhole(64, 96, focal=60.0, cam2world=torch.eye(4, dtype=torch.float64)[None])
    depth = torch.full((1, 64, 96), 2.0)
    depth[:, :, 45:] = 4.0
    memory = RgbMemory(encode, STRIDE)
    memory.write(None, depth, camera, colour=torch.zeros(1, 64, 96, 3, dtype=torch.uint8))
    readout = memory.read(camera.resized(8, 12))
    fine = readout.fine_depth
    assert fine.shape == (1, 16, 24)
    shown = fine[fine.isfinite()]
    assert len(shown) > 300
    for drawn in (shown, readout.depth[readout.visible > 0]):
        assert torch.minimum((drawn - 2).abs(), (drawn - 4).abs()).max() < 1e-3
    assert (fine[0, :, :11] == 2).all()
    assert (fine[0, :, 12:] == 4).all()


def test_another_view_shows_what_was_seen(room):
    colour, depth, camera = room
    memory = RgbMemory(encode, STRIDE)
    memory.write(None, depth[:1], camera[:1], colour=colour[:1])
    image, visible, _ = memory.render(camera[6:7])
    wanted = colour[6:7].permute(0, 3, 1, 2).float() / 255
    error = ((image - wanted) ** 2 * visible).sum() / (3 * visible.sum())
    assert visible.mean() > 0.5
    assert -10 * error.log10() > 18
    assert ((image - wanted) ** 2).mean() > error


def test_only_what_is_new_is_stored(room):
    colour, depth, camera = room
    memory = RgbMemory(encode, STRIDE)
    memory.write(None, depth, camera, colour=colour)
    assert len(memory) < 0.4 * depth.numel()
    again = memory.write(None, depth[:1], camera[:1], colour=colour[:1])
    # Edges stay contested: beside them, a nearer surface covers a little more than its own pixels.
    assert again.written < 0.06 * depth[0].numel()
    assert again.cells == depth[0].numel()


def test_masks_and_invalid_depth_are_left_out(room):
    colour, depth, camera = room
    keep = torch.ones_like(depth[:1], dtype=torch.bool)
    keep[:, :, :48] = False
    holey = depth[:1].clone()
    holey[:, :32] = torch.nan
    memory = RgbMemory(encode, STRIDE)
    report = memory.write(None, holey, camera[:1], keep, colour=colour[:1])
    assert (report.masked, report.invalid, report.written) == (64 * 48, 32 * 48, 32 * 48)
    visible = memory.render(camera[:1])[1][0, 0]
    assert visible[34:, 50:].mean() > 0.99
    assert visible[:30].sum() == visible[:, :46].sum() == 0


def test_forks_go_their_own_way(room):
    colour, depth, camera = room
    memory = RgbMemory(encode, STRIDE)
    memory.write(None, depth[:1], camera[:1], colour=colour[:1])
    before = memory.read(camera.resized(8, 12)).latents
    fork = memory.fork()
    fork.write(None, depth[8:9], camera[8:9], colour=colour[8:9])
    assert len(fork) > len(memory)
    assert torch.equal(memory.read(camera.resized(8, 12)).latents, before)
    empty = RgbMemory(encode, STRIDE)
    assert empty.read(camera[:1].resized(8, 12)).visible.sum() == 0


def test_coming_closer_leaves_no_holes():
    camera = pinhole(64, 96, vertical_fov=1.0)
    wall = torch.full((1, 64, 96), 3.0)
    memory = RgbMemory(encode, STRIDE)
    memory.write(
        None, wall, camera.at(torch.eye(4).unsqueeze(0)), colour=torch.full((1, 64, 96, 3), 128, dtype=torch.uint8)
    )
    closer = camera.at(dolly(torch.eye(4), 1.5, 4))
    assert (memory.render(closer)[1] == 1).all()
    aside = memory.render(camera.at(pan(torch.eye(4), 0.3, 2)))[1]
    assert 0.5 < aside[1].mean() < 1
