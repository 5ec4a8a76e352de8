"""What views and ways promise, in a room of which one side was seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mirage_ros.occupancy.grid import GridShape, OccupancyMap
from mirage_ros.occupancy.prospects import Prospects


@pytest.fixture
def grid(room):
    grid = OccupancyMap(GridShape(extent=10.0))
    camera = room.cameras(*(room.upright(-2.0, yaw=yaw) for yaw in (-0.5, 0.0, 0.5)))
    grid.centre_on(torch.zeros(3))
    grid.observe(room.depth(camera), camera)
    return grid


def test_a_view_of_the_unknown_promises_more_than_one_of_what_was_seen(grid, room):
    prospects = Prospects(grid)
    seen, area = (prospects.news(room.cameras(room.upright(-2.0, yaw=yaw)))[0] for yaw in (0.0, math.pi / 2))
    assert seen < 0.2 * area
    both = prospects.news(room.cameras(room.upright(-2.0, yaw=math.pi / 2), room.upright(-2.0, yaw=math.pi / 2)))
    assert both[0] == pytest.approx(area, rel=1e-5)
    # Nobody knows anything there: each square metre is worth a bit, as far as it is seen.
    assert prospects.news(room.cameras(room.upright(-2.0, yaw=math.pi / 2)))[1] == pytest.approx(area, rel=1e-3)


def test_an_imagined_wall_hides_what_is_behind_it(grid, room):
    camera = room.cameras(room.upright(-2.0, yaw=math.pi / 2))
    open_area = Prospects(grid).news(camera)[0]
    depth = torch.full((1, 96, 144), 1.0)
    grid.imagine(depth, depth * 0.02, torch.zeros_like(depth), camera)
    area, gain = Prospects(grid).news(camera)
    assert area < 0.5 * open_area
    # What is imagined with little doubt is little news.
    assert gain < 0.6 * area


def test_clearance_is_the_distance_to_the_table(grid):
    prospects = Prospects(grid)
    assert prospects.clearance(torch.tensor([[0.0, 0.0, 1.2]])) == pytest.approx(1.0, abs=0.1)
    assert prospects.clearance(torch.tensor([[-1.0, 0.0], [0.5, 0.0]])) == pytest.approx(0.5, abs=0.1)
    empty = OccupancyMap(GridShape(extent=10.0))
    empty.centre_on(torch.zeros(3))
    assert Prospects(empty).clearance(torch.zeros(1, 2)) == 5.0


def test_ways_through_the_table_collide_and_ways_beside_it_do_not(grid):
    prospects = Prospects(grid, torch.tensor([-2.0, 0.0, 1.2]), 1.0)
    through, short, unknown = (
        prospects.collision(torch.tensor(way), 0.2)
        for way in ([[-2.0, 0.0], [1.3, 0.0]], [[-2.0, 0.0], [0.5, 0.0]], [[-2.0, 0.0], [-2.0, -4.9]])
    )
    assert through > 0.9
    assert short < 0.05
    assert unknown > 0.8
    # A thin robot passes where a broad one does not.
    beside = torch.tensor([[0.0, 1.0], [2.0, 1.0]])
    assert prospects.collision(beside, 0.1) < 0.2 < prospects.collision(beside, 0.6)


@pytest.mark.parametrize("end", [5.1, -5.1, 1e6])
def test_of_a_way_that_leaves_the_map_nothing_is_known(grid, room, end, monkeypatch):
    """Neither that it is free, nor that there is nothing new; a leap costs no more than ways across the map."""
    prospects, way = Prospects(grid), torch.tensor([[0.0, 0.0], [end, 0.0], [4.0, 0.0]])
    # What costs most is not computed in vain.
    monkeypatch.setattr(prospects, "_largest_within", lambda cells: pytest.fail("computed"))
    for some in (way, way[1:2]):
        assert math.isnan(prospects.clearance(some))
        assert math.isnan(prospects.collision(some, 0.3))
    assert np.isnan(prospects.news(room.cameras(room.upright(0.0), room.upright(end)))).all()
    assert np.isfinite(prospects.news(room.cameras(room.upright(4.9)))).all()


@pytest.mark.parametrize("radius", [0.0, 0.1, 0.52])
def test_a_disc_touches_the_most_probable_obstacle_within_its_radius(grid, room, radius):
    camera = room.cameras(room.upright(-2.0, yaw=math.pi / 2))
    depth = torch.linspace(0.5, 3.0, 144).expand(1, 96, 144).contiguous()
    grid.imagine(depth, depth * 0.3, torch.zeros_like(depth), camera)
    prospects = Prospects(grid)
    assert len(np.unique(prospects.occupied)) > 10
    rows, columns = np.indices(prospects.occupied.shape)
    for row, column in np.argwhere(prospects.occupied > 0)[::40]:
        place = grid.corner + (torch.tensor([column, row]) + 0.5) * 0.05
        within = np.hypot(rows - row, columns - column) * 0.05 <= radius + 1e-6
        free = 1 - prospects.occupied[within].max()
        # Of many probabilities, neighbours may be taken together.
        assert 1 - prospects.collision(place[None], radius) == pytest.approx(max(free, 1e-6), abs=0.04)


def test_a_larger_robot_touches_no_less(grid, room):
    camera = room.cameras(room.upright(-2.0, yaw=math.pi / 2))
    depth = torch.full((1, 96, 144), 2.0)
    grid.imagine(depth, depth * 0.02, torch.zeros_like(depth), camera)
    prospects = Prospects(grid)
    row, column = np.argwhere(prospects.occupied > 0.5)[0]
    place = (grid.corner + (torch.tensor([column, row]) + 0.5) * 0.05)[None]
    risks = [prospects.collision(place, radius) for radius in (0.0, 0.05, 0.2, 0.5, 1.0)]
    assert risks == sorted(risks)
    assert risks[-1] >= 0.5
