"""Maps of a room whose truth is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mirage_ros.occupancy.grid import GridShape, OccupancyMap

SHAPE = GridShape(resolution=0.05, extent=10.0)


def mapped(room, *poses, shape=SHAPE):
    grid = OccupancyMap(shape)
    for pose in poses:
        camera = room.cameras(pose)
        grid.centre_on(pose[:3, 3])
        grid.observe(room.depth(camera), camera)
    return grid


def at(grid, cells, x, y):
    column, row = ((np.array([x, y]) - grid.corner.numpy()) / grid.shape.resolution).astype(int)
    return int(cells[row, column])


def test_a_room_is_free_inside_occupied_at_its_walls_and_unknown_beyond(room):
    grid = mapped(room, *(room.upright(yaw=yaw) for yaw in np.linspace(0, 2 * math.pi, 8, endpoint=False)))
    known, half = grid.known(), grid.shape.cells // 2
    rows, columns = np.indices(known.shape)
    x, y = (columns - half + 0.5) * 0.05, (rows - half + 0.5) * 0.05
    reach = np.maximum(np.abs(x), np.abs(y))
    table = (x > 0.9) & (x < 1.7) & (np.abs(y) < 0.6)
    inside = (reach < 2.8) & (np.hypot(x, y) > 0.7) & ~table & ~((x > 1.5) & (np.abs(y) < 1.2))
    assert (known[inside] == 0).mean() > 0.98
    assert (known[inside] == 100).mean() < 0.002
    assert (known[reach > 3.2] == -1).all()
    # Nearly every stretch of wall is found, within a cell: on each side, and along it.
    at_wall, middle = (known == 100) & (reach > 2.9) & (reach < 3.1), slice(half - 50, half + 50)
    for side in (at_wall[half:, middle].any(axis=0), at_wall[:half, middle].any(axis=0)):
        assert side.mean() > 0.9
    for side in (at_wall[middle, half:].any(axis=1), at_wall[middle, :half].any(axis=1)):
        assert side.mean() > 0.9


def test_a_table_stays_although_many_rays_go_over_it(room):
    far = [room.upright(-1.0 + 0.05 * i, pitch=0.2) for i in range(4)]
    # So near that the table is below the picture.
    near = [room.upright(0.55, yaw=0.02 * i, pitch=-0.2) for i in range(12)]
    grid = mapped(room, *far, *near)
    known = grid.known()
    assert at(grid, known, 1.02, 0.0) == 100
    assert at(grid, known, 2.0, 1.5) == 0


def test_what_was_observed_is_never_changed_by_imagination(room):
    grid = mapped(room, room.upright())
    known, camera = grid.known(), room.cameras(room.upright(yaw=0.4), room.upright(yaw=1.2))
    depth = torch.full((2, 96, 144), 1.0)
    grid.imagine(depth, depth * 0.02, torch.zeros_like(depth), camera)
    np.testing.assert_array_equal(grid.known(), known)
    guessed = grid.guessed()
    assert (guessed[known >= 0] == -1).all()
    told = guessed[guessed >= 0]
    assert told.max() > 50
    assert told.min() <= 1


def test_doubt_makes_what_is_imagined_less_sure(room):
    surest = []
    for doubt in (0.02, 0.1, 0.5):
        grid, camera = mapped(room, room.upright()), room.cameras(room.upright(yaw=math.pi))
        depth = torch.full((1, 96, 144), 2.0)
        grid.imagine(depth, depth * doubt, torch.zeros_like(depth), camera)
        surest.append(grid.guessed().max())
    assert surest[0] > surest[1] > surest[2] > 0


def test_an_invention_that_is_read_again_is_no_surer_than_before(room):
    grid, camera = mapped(room, room.upright()), room.cameras(room.upright(yaw=math.pi))
    depth = torch.full((1, 96, 144), 2.0)
    grid.imagine(depth, depth * 0.3, torch.zeros_like(depth), camera)
    first = grid.guessed()
    grid.imagine(depth, depth * 0.01, torch.ones_like(depth), camera)
    again = grid.guessed()
    np.testing.assert_array_equal(again[first >= 0], first[first >= 0])


def test_nothing_is_said_where_depth_is_unknown_and_the_sky_is_free(room):
    camera = room.cameras(room.upright())
    grid = mapped(room, room.upright())
    grid.clear()
    grid.observe(torch.full((1, 96, 144), torch.nan), camera)
    grid.observe(torch.zeros(1, 96, 144), camera)
    assert (grid.known() == -1).all()
    grid.observe(torch.full((1, 96, 144), torch.inf), camera)
    assert at(grid, grid.known(), 3.0, 0.0) == 0
    assert (grid.known() != 100).all()


def test_the_map_goes_along_and_keeps_what_it_still_covers(room):
    grid = mapped(room, room.upright())
    before, places = grid.known(), ((2.0, 0.9), (2.9, 1.0), (2.98, 0.7), (-2.0, 0.0))
    values = [at(grid, before, *place) for place in places]
    assert not grid.centre_on(torch.tensor([2.0, 0.0, 1.0]))
    assert values[:2] == [0, 0]
    assert grid.centre_on(torch.tensor([2.6, 0.0, 1.0]))
    after = grid.known()
    assert [at(grid, after, *place) for place in places] == values
    assert grid.centre_on(torch.tensor([1000.0, 0.0, 1.0]))
    assert (grid.known() == -1).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_height": 1.0, "max_height": 0.5}, "max_height: expected more than min_height 1, got 0.5"),
        ({"resolution": 0.01, "extent": 200.0}, "extent: expected at most .* voxels, got 20000 x 20000"),
    ],
)
def test_shapes_that_make_no_sense_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        GridShape(**values)
