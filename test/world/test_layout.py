"""Great planes go on where nothing is seen, in rooms whose walls are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.trajectory import look_at
from mirage_ros.world.layout import CLOSING, continue_planes

ROWS, COLUMNS = 32, 48
# Metres: a room around the origin, its floor at zero.
LENGTH, WIDTH, HEIGHT = 5.0, 4.0, 2.6
# Planes as (normal into the room, distance, colour).
ROOM = [
    ((1.0, 0.0, 0.0), -LENGTH / 2, 1.0),
    ((-1.0, 0.0, 0.0), -LENGTH / 2, 2.0),
    ((0.0, 1.0, 0.0), -WIDTH / 2, 3.0),
    ((0.0, -1.0, 0.0), -WIDTH / 2, 4.0),
    ((0.0, 0.0, 1.0), 0.0, 5.0),
    ((0.0, 0.0, -1.0), -HEIGHT, 6.0),
]


def camera_at(eye: tuple[float, float, float], target: tuple[float, float, float]) -> Camera:
    pose = look_at(torch.tensor([eye], dtype=torch.float64), torch.tensor([target], dtype=torch.float64))
    return pinhole(ROWS, COLUMNS, focal=30.0, cam2world=pose)


def room(camera: Camera, resolution: int = 1, planes=ROOM) -> tuple[torch.Tensor, torch.Tensor]:
    """Depth and colour (T, h, w) of the room's walls."""
    fine = camera.resized(camera.height * resolution, camera.width * resolution)
    rays, eyes = fine.rays(), fine.cam2world[:, None, None, :3, 3]
    depths = []
    for normal, distance, _ in planes:
        towards = torch.tensor(normal, dtype=rays.dtype)
        depth = (distance - eyes @ towards) / (rays @ towards)
        depths.append(torch.where((rays @ towards < 0) & (depth > 0), depth, torch.inf))
    depth, which = torch.stack(depths).min(dim=0)
    return depth.float(), torch.tensor([colour for *_, colour in planes])[which]


def readout(camera: Camera, seen: torch.Tensor, planes=ROOM) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    depth, colour = room(camera, planes=planes)
    latents = torch.where(seen, colour, 0.0).unsqueeze(1)
    return latents, seen.float().unsqueeze(1), torch.where(seen, depth, torch.nan)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(-1.2, 1.2), st.floats(-0.8, 0.8), st.floats(0.7, 1.6), st.floats(-math.pi, math.pi), st.floats(0.3, 0.7)
)
def test_a_half_seen_room_is_completed(x: float, y: float, z: float, yaw: float, share: float) -> None:
    camera = camera_at((x, y, z), (x + math.cos(yaw), y + math.sin(yaw), z - 0.15))
    seen = torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool)
    seen[:, :, : int(share * COLUMNS)] = True
    parts = readout(camera, seen)
    layout = continue_planes(*parts, camera, factor=2)
    depth, colour = room(camera, 2)
    _, cells = room(camera)
    # A wall of which nothing, or a narrow strip, is seen cannot be known: what is behind it is drawn instead.
    shown = [colour for *_, colour in ROOM if (cells[seen] == colour).sum() > 150]
    fine_seen = seen.repeat_interleave(2, 1).repeat_interleave(2, 2)
    told = torch.isfinite(layout.depth) & ~fine_seen
    known = told & torch.isin(colour, torch.tensor(shown))
    if not known.any():
        return
    # But for cells across an edge.
    right = (layout.depth[known] / depth[known] - 1).abs() < 0.05
    assert right.float().mean() > 0.9
    assert (layout.depth[told] > 0.95 * depth[told]).float().mean() > 0.95
    where = known[:, 1::2, 1::2]
    assert ((layout.latents[:, 0] - cells)[where].abs() < 0.2).float().mean() > 0.85
    assert torch.equal(layout.latents[:, 0][seen], parts[0][:, 0][seen])


def test_a_floor_does_not_run_to_the_horizon() -> None:
    camera = camera_at((0, 0, 1.2), (1, 0, 1.2))
    floor = [ROOM[4]]
    depth, _ = room(camera, planes=floor)
    seen = (depth < 6) & (torch.arange(COLUMNS) < COLUMNS // 2)
    layout = continue_planes(*readout(camera, seen, floor), camera)
    assert torch.isfinite(layout.depth[0, -1, COLUMNS // 2 :]).all()
    assert not torch.isfinite(layout.depth[0, ROWS // 2 + 1]).any()
    assert not torch.isfinite(layout.depth[:, : ROWS // 2]).any()


def test_a_table_is_no_floor() -> None:
    """A plane with something seen behind it ends where it is seen to end."""
    camera = camera_at((-1.5, 0, 1.3), (1, 0, 0.8))
    depth, colour = room(camera)
    rays = camera.rays()
    top = (0.7 - 1.3) / rays[..., 2]
    across = (camera.cam2world[0, :3, 3] + rays * top.unsqueeze(-1))[..., 1]
    table = (rays[..., 2] < 0) & (top > 1.0) & (top < 2.0) & (across.abs() < 0.5)
    depth, colour = torch.where(table, top.float(), depth), torch.where(table, 9.0, colour)
    seen = torch.ones_like(table)
    seen[:, :, 2 * COLUMNS // 3 :] = False
    shown = torch.where(seen, colour, 0.0).unsqueeze(1), seen.float().unsqueeze(1), torch.where(seen, depth, torch.nan)
    layout = continue_planes(*shown, camera)
    assert (table & seen).sum() > 50
    truth, _ = room(camera)
    hidden = ~seen & torch.isfinite(layout.depth)
    assert hidden.float().mean() > 0.2
    assert (layout.depth[hidden] / truth[hidden] - 1).abs().median() < 0.02
    assert not (layout.latents[:, 0][hidden] - 9).abs().lt(0.1).any()


def test_gaps_between_the_cells_of_a_magnified_board_do_not_show_the_wall_behind() -> None:
    camera = camera_at((-1.5, 0, 1.3), (1, 0, 1.3))
    depth, colour = room(camera)
    board = ((torch.arange(COLUMNS) > 15) & (torch.arange(COLUMNS) < 33)).expand(depth.shape)
    depth, colour = torch.where(board, 1.0, depth), torch.where(board, 9.0, colour)
    seen = torch.ones_like(board)
    seen[:, :, 16:33:3] = False
    shown = torch.where(seen, colour, 0.0).unsqueeze(1), seen.float().unsqueeze(1), torch.where(seen, depth, torch.nan)
    layout = continue_planes(*shown, camera)
    # Nor is anything that is seen behind its own surface.
    assert not torch.isfinite(layout.depth).any()
    # Inside the board, away from what is beside it.
    inside = torch.zeros_like(seen)
    inside[:, :, 19:30] = True
    assert torch.allclose(layout.latents[:, 0][inside & ~seen], torch.tensor(9.0), atol=0.3)


def test_a_strip_along_the_border_is_not_a_gap() -> None:
    camera = camera_at((0, 0, 1.2), (1, 0.3, 1.0))
    seen = torch.ones(1, ROWS, COLUMNS, dtype=torch.bool)
    seen[:, :, -CLOSING:] = False
    layout = continue_planes(*readout(camera, seen), camera)
    assert torch.isfinite(layout.depth[:, :, -CLOSING:]).all()


def test_nothing_seen_is_nothing_continued() -> None:
    camera = camera_at((0, 0, 1.2), (1, 0, 1.2))
    layout = continue_planes(*readout(camera, torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool)), camera, factor=2)
    assert layout.depth.shape == (1, 2 * ROWS, 2 * COLUMNS)
    assert torch.isnan(layout.depth).all()
    assert not layout.latents.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.05), st.integers(1, 12), st.sampled_from([(3, 4), (8, 12), (32, 48)]))
def test_whatever_is_read_the_layout_is_sound(seed: int, noise: float, block: int, size: tuple[int, int]) -> None:
    """Blocks and narrow bands of a room, with errors of depth, in any size."""
    generator = torch.Generator().manual_seed(seed)
    poses = camera_at((0, 0, 1), (1, 0.2, 1)).cam2world.expand(2, 4, 4)
    camera = pinhole(*size, focal=size[1] * 0.6, cam2world=poses)
    blocks = (torch.rand(2, *size, generator=generator) < 0.5).repeat_interleave(block, 1).repeat_interleave(block, 2)
    latents, visible, depth = readout(camera, blocks[:, : size[0], : size[1]])
    depth = depth * (1 + noise * torch.randn(depth.shape, generator=generator)).clamp(0.5, 2)
    layout = continue_planes(latents, visible, depth, camera, factor=2)
    assert torch.isfinite(layout.latents).all()
    told = torch.isfinite(layout.depth)
    assert (layout.depth[told] > 0).all()
    assert not told[:, 1::2, 1::2][visible[:, 0] > 0].any()


def test_narrow_bands_of_walls_do_not_tilt_them() -> None:
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        yaw = 6 * float(torch.rand((), generator=generator))
        camera = camera_at((0.2, -0.1, 1.2), (0.2 + math.cos(yaw), -0.1 + math.sin(yaw), 1.0))
        seen = torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool)
        for left in torch.randint(2, COLUMNS - 5, (3,), generator=generator).tolist():
            seen[:, :, left : left + 3] = True
        layout = continue_planes(*readout(camera, seen), camera)
        truth, _ = room(camera)
        told = torch.isfinite(layout.depth)
        assert told.float().mean() > 0.1
        assert (layout.depth[told] > 0.93 * truth[told]).float().mean() > 0.9


def test_a_room_far_from_the_origin_of_its_map_is_the_same_room() -> None:
    """Poses may be metres of a national grid."""
    near = camera_at((0.3, 0.2, 1.2), (1, 0.5, 1.0))
    seen = torch.zeros(1, ROWS, COLUMNS, dtype=torch.bool)
    seen[:, :, : COLUMNS // 2] = True
    parts = readout(near, seen)
    pose = near.cam2world.clone()
    pose[..., :2, 3] += torch.tensor([500_000.0, 4_500_000.0], dtype=pose.dtype)
    here, there = continue_planes(*parts, near), continue_planes(*parts, near.at(pose))
    assert torch.isfinite(here.depth).float().mean() > 0.3
    assert torch.allclose(here.depth.nan_to_num(0), there.depth.nan_to_num(0), atol=1e-3)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_same_readout_gives_the_same_layout(factor: int) -> None:
    camera = camera_at((0.3, 0.2, 1.2), (1, 0.5, 1.0))
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(1, ROWS // 4, COLUMNS // 4, generator=generator) < 0.5
    parts = readout(camera, seen.repeat_interleave(4, 1).repeat_interleave(4, 2))
    first, second = (continue_planes(*parts, camera, factor) for _ in range(2))
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.depth.nan_to_num(0), second.depth.nan_to_num(0))
