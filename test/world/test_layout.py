"""Great planes go on where nothing is seen, in rooms whose walls are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.world.layout import CLOSING, continue_planes
from mirage_ros.world.room import BEHIND, fit_room


def continued(house, parts, camera, factor=1, guessed=False):
    """The layout of a readout with the room that it tells of itself."""
    latents, visible, depth = parts
    room = fit_room(latents, depth, camera)
    return continue_planes(latents, visible, depth, camera, room if guessed else house.seen_walls(room), factor)


@settings(max_examples=20, deadline=None)
@given(
    st.floats(-1.2, 1.2), st.floats(-0.8, 0.8), st.floats(0.7, 1.6), st.floats(-math.pi, math.pi), st.floats(0.3, 0.7)
)
def test_a_half_seen_room_is_completed(house, x: float, y: float, z: float, yaw: float, share: float) -> None:
    camera = house.camera_at((x, y, z), (x + math.cos(yaw), y + math.sin(yaw), z - 0.15))
    seen = house.nothing()
    seen[:, :, : int(share * house.columns)] = True
    parts = house.readout(camera, seen)
    layout = continued(house, parts, camera, factor=2)
    depth, colour = house.look(camera, 2)
    _, cells = house.look(camera)
    # A wall of which nothing, or a narrow strip, is seen cannot be known: what is behind it is drawn instead.
    shown = [colour for *_, colour in house.walls if (cells[seen] == colour).sum() > 150]
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


def test_a_floor_does_not_run_to_the_horizon(house) -> None:
    camera = house.camera_at((0, 0, 1.2), (1, 0, 1.2))
    depth, _ = house.look(camera, walls=house.floor)
    seen = (depth < 6) & (torch.arange(house.columns) < house.columns // 2)
    layout = continued(house, house.readout(camera, seen, house.floor), camera, guessed=True)
    # An open place: no wall is guessed, and the floor ends a bit beyond what was seen of it.
    hidden = ~seen & torch.isfinite(layout.depth)
    assert hidden[0, -1, house.columns // 2 + CLOSING :].all()
    assert not hidden[0, house.rows // 2 + 1].any()
    assert (layout.depth[hidden] < 8).all()


def test_a_wall_is_guessed_where_a_camera_turns_to(house) -> None:
    before, after = house.camera_at((-1.5, -1.0, 1.3), (2.5, 2.0, 1.3)), house.camera_at((0, 0, 1.3), (-1, -0.2, 1.3))
    latents, _, depth = house.readout(before, ~house.nothing())
    room = fit_room(latents, depth, before)
    poses = torch.cat([after.cam2world, house.camera_at((-2.4, 0, 1.3), (-3, 0, 1.3)).cam2world])
    camera = Camera(after.intrinsics, poses, house.rows, house.columns)
    nothing = house.readout(camera, house.nothing().expand(2, -1, -1))
    layout = continue_planes(*nothing, camera, room)
    middle = layout.depth[:, house.rows // 2, house.columns // 2]
    # Behind the first camera; and behind the one that goes beyond that.
    assert torch.allclose(middle[1], torch.tensor(BEHIND), atol=0.01)
    assert torch.allclose(middle[0], torch.tensor(2.4 + BEHIND) / math.cos(math.atan(0.2)) * 0.98, rtol=0.05)
    assert torch.isfinite(layout.depth).all()


def test_a_guessed_wall_does_not_stand_before_what_is_seen_beside_it(house) -> None:
    """As where an older frame, or one that was imagined, shows more than the room was fitted to."""
    before, after = house.camera_at((-1.5, -1.0, 1.3), (2.5, 2.0, 1.3)), house.camera_at((1, 0, 1.3), (-1, -0.2, 1.3))
    latents, _, depth = house.readout(before, ~house.nothing())
    room = fit_room(latents, depth, before)
    seen = house.nothing()
    seen[:, :, : house.columns // 2] = True
    parts = house.readout(after, seen)
    layout = continue_planes(*parts, after, room)
    truth, colour = house.look(after)
    wall = (colour == 1) & ~seen & torch.isfinite(layout.depth)
    assert wall.float().mean() > 0.1
    assert (layout.depth[wall] > 0.9 * truth[wall]).float().mean() > 0.9


def test_what_hangs_on_a_wall_does_not_go_on_with_it(house) -> None:
    camera = house.camera_at((-1.0, 0, 1.3), (1, 0, 1.3))
    seen = house.nothing()
    seen[:, :, : house.columns * 2 // 3] = True
    latents, visible, depth = house.readout(camera, seen)
    # A picture beside what is hidden.
    latents[:, :, 10:20, house.columns * 2 // 3 - 6 :] = 40.0
    latents = latents * visible
    layout = continued(house, (latents, visible, depth), camera)
    beside = layout.latents[0, 0, 10:20, house.columns * 2 // 3 :]
    assert torch.allclose(beside, torch.tensor(2.0), atol=0.1)


def test_a_wall_that_no_view_shows_looks_as_it_looked_before(house) -> None:
    before, after = house.camera_at((-1, 0, 1.3), (1, 0, 1.3)), house.camera_at((-1, 0, 1.3), (1, 0.8, 1.3))
    latents, _, depth = house.readout(before, ~house.nothing())
    room = house.seen_walls(fit_room(latents, depth, before))
    layout = continue_planes(*house.readout(after, house.nothing()), after, room)
    truth, colour = house.look(after)
    known = torch.isfinite(layout.depth)
    assert known.float().mean() > 0.8
    assert torch.allclose(layout.depth[known], truth[known], rtol=0.03)
    assert (layout.latents[:, 0] - colour)[known].abs().lt(0.1).float().mean() > 0.95


def test_a_table_is_no_floor(house) -> None:
    """A plane with something seen behind it ends where it is seen to end."""
    camera = house.camera_at((-1.5, 0, 1.3), (1, 0, 0.8))
    depth, colour = house.look(camera)
    rays = camera.rays()
    top = (0.7 - 1.3) / rays[..., 2]
    across = (camera.cam2world[0, :3, 3] + rays * top.unsqueeze(-1))[..., 1]
    table = (rays[..., 2] < 0) & (top > 1.0) & (top < 2.0) & (across.abs() < 0.5)
    depth, colour = torch.where(table, top.float(), depth), torch.where(table, 9.0, colour)
    seen = torch.ones_like(table)
    seen[:, :, 2 * house.columns // 3 :] = False
    shown = torch.where(seen, colour, 0.0).unsqueeze(1), seen.float().unsqueeze(1), torch.where(seen, depth, torch.nan)
    layout = continued(house, shown, camera)
    assert (table & seen).sum() > 50
    truth, _ = house.look(camera)
    hidden = ~seen & torch.isfinite(layout.depth)
    assert hidden.float().mean() > 0.2
    assert (layout.depth[hidden] / truth[hidden] - 1).abs().median() < 0.02
    assert not (layout.latents[:, 0][hidden] - 9).abs().lt(0.1).any()


def test_gaps_between_the_cells_of_a_magnified_board_do_not_show_the_wall_behind(house) -> None:
    camera = house.camera_at((-1.5, 0, 1.3), (1, 0, 1.3))
    depth, colour = house.look(camera)
    board = ((torch.arange(house.columns) > 15) & (torch.arange(house.columns) < 33)).expand(depth.shape)
    depth, colour = torch.where(board, 1.0, depth), torch.where(board, 9.0, colour)
    seen = torch.ones_like(board)
    seen[:, :, 16:33:3] = False
    shown = torch.where(seen, colour, 0.0).unsqueeze(1), seen.float().unsqueeze(1), torch.where(seen, depth, torch.nan)
    layout = continued(house, shown, camera)
    # Nor is anything that is seen behind its own surface.
    assert not torch.isfinite(layout.depth).any()
    # Inside the board, away from what is beside it.
    inside = torch.zeros_like(seen)
    inside[:, :, 19:30] = True
    assert torch.allclose(layout.latents[:, 0][inside & ~seen], torch.tensor(9.0), atol=0.3)


def test_a_strip_along_the_border_is_not_a_gap(house) -> None:
    camera = house.camera_at((0, 0, 1.2), (1, 0.3, 1.0))
    seen = torch.ones(1, house.rows, house.columns, dtype=torch.bool)
    seen[:, :, -CLOSING:] = False
    layout = continued(house, house.readout(camera, seen), camera)
    assert torch.isfinite(layout.depth[:, :, -CLOSING:]).all()


def test_nothing_seen_is_nothing_continued(house) -> None:
    camera = house.camera_at((0, 0, 1.2), (1, 0, 1.2))
    layout = continued(house, house.readout(camera, house.nothing()), camera, factor=2)
    assert layout.depth.shape == (1, 2 * house.rows, 2 * house.columns)
    assert torch.isnan(layout.depth).all()
    assert not layout.latents.any()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.05), st.integers(1, 12), st.sampled_from([(3, 4), (8, 12), (32, 48)]))
def test_whatever_is_read_the_layout_is_sound(
    house, seed: int, noise: float, block: int, size: tuple[int, int]
) -> None:
    """Blocks and narrow bands of a room, with errors of depth, in any size."""
    generator = torch.Generator().manual_seed(seed)
    poses = house.camera_at((0, 0, 1), (1, 0.2, 1)).cam2world.expand(2, 4, 4)
    camera = pinhole(*size, focal=size[1] * 0.6, cam2world=poses)
    blocks = (torch.rand(2, *size, generator=generator) < 0.5).repeat_interleave(block, 1).repeat_interleave(block, 2)
    latents, visible, depth = house.readout(camera, blocks[:, : size[0], : size[1]])
    depth = depth * (1 + noise * torch.randn(depth.shape, generator=generator)).clamp(0.5, 2)
    layout = continued(house, (latents, visible, depth), camera, factor=2, guessed=True)
    assert torch.isfinite(layout.latents).all()
    told = torch.isfinite(layout.depth)
    assert (layout.depth[told] > 0).all()
    assert not told[:, 1::2, 1::2][visible[:, 0] > 0].any()


def test_narrow_bands_of_walls_do_not_tilt_them(house) -> None:
    for seed in range(6):
        generator = torch.Generator().manual_seed(seed)
        yaw = 6 * float(torch.rand((), generator=generator))
        camera = house.camera_at((0.2, -0.1, 1.2), (0.2 + math.cos(yaw), -0.1 + math.sin(yaw), 1.0))
        seen = house.nothing()
        for left in torch.randint(2, house.columns - 5, (3,), generator=generator).tolist():
            seen[:, :, left : left + 3] = True
        layout = continued(house, house.readout(camera, seen), camera)
        truth, _ = house.look(camera)
        told = torch.isfinite(layout.depth)
        assert told.float().mean() > 0.1
        assert (layout.depth[told] > 0.93 * truth[told]).float().mean() > 0.9


def test_a_room_far_from_the_origin_of_its_map_is_the_same_room(house) -> None:
    """Poses may be metres of a national grid."""
    near = house.camera_at((0.3, 0.2, 1.2), (1, 0.5, 1.0))
    seen = house.nothing()
    seen[:, :, : house.columns // 2] = True
    parts = house.readout(near, seen)
    pose = near.cam2world.clone()
    pose[..., :2, 3] += torch.tensor([500_000.0, 4_500_000.0], dtype=pose.dtype)
    here, there = continued(house, parts, near, guessed=True), continued(house, parts, near.at(pose), guessed=True)
    assert torch.isfinite(here.depth).float().mean() > 0.3
    assert torch.allclose(here.depth.nan_to_num(0), there.depth.nan_to_num(0), atol=1e-3)


@pytest.mark.parametrize("factor", [1, 2])
def test_the_same_readout_gives_the_same_layout(house, factor: int) -> None:
    camera = house.camera_at((0.3, 0.2, 1.2), (1, 0.5, 1.0))
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(1, house.rows // 4, house.columns // 4, generator=generator) < 0.5
    parts = house.readout(camera, seen.repeat_interleave(4, 1).repeat_interleave(4, 2))
    first, second = (continued(house, parts, camera, factor) for _ in range(2))
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.depth.nan_to_num(0), second.depth.nan_to_num(0))
