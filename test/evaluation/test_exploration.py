"""Explorers differ in what a move is worth to them; what they see and run into is the simulator's."""

from contextlib import closing

import numpy as np
import pytest
import torch

from mirage_ros.evaluation.exploration import BUDGET, SHAPE, explore, table
from mirage_ros.evaluation.explorers import EXPLORERS, Border
from mirage_ros.evaluation.planner_decisions import PlannerPlace
from mirage_ros.world.surroundings import Surroundings

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module")
def place():
    with closing(PlannerPlace("rooms", 1_000_000, (32, 48))) as place:
        yield place


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(EXPLORERS))
def test_every_explorer_sees_more_and_more(world, place, name):
    found = explore(world, EXPLORERS[name], place, 0)
    assert len(found["area"]) == BUDGET + 1
    assert (np.diff(found["area"]) > -0.2).all()
    assert found["area"][-1] > found["area"][0] > 0
    assert 0 < found["effort"] <= BUDGET * 0.9
    assert found["collisions"] <= BUDGET


def test_who_minds_no_risk_stops_at_what_is_in_the_way(world, place):
    places = []

    def straight_on(robot, paths):
        places.append(robot.surroundings.stands[:2].clone())
        return [(float(len(paths) == 5 and index == 2), 0.0) for index in range(len(paths))]

    found = explore(world, straight_on, place, 0)
    assert found["collisions"] > 0
    assert found["effort"] < BUDGET * 0.8
    # It stays where it is once it stands before something.
    assert torch.equal(places[-1], places[-2])


def test_the_border_is_where_free_space_ends_in_the_unknown(place):
    surroundings = Surroundings(SHAPE, None)
    surroundings.centre_on(torch.zeros(3))
    half = SHAPE.cells // 2
    surroundings.observed[:, half : half + 30, half - 10 : half + 10] = -100
    border = Border(surroundings)
    rows = border.cells[:, 0]
    assert rows.min() == half
    assert rows.max() == half + 29
    pose = torch.eye(4, dtype=torch.float64)
    # Looks along +y from the middle of what is free, then the other way, then from behind a wall.
    pose[:3, :3] = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    pose[:3, 3] = torch.tensor([0.0, 1.0, 1.2])
    ahead = border.value(place.renderer.camera(pose[None]))
    assert ahead > 20
    surroundings.observed[:, half + 20, :] = 100
    assert Border(surroundings).value(place.renderer.camera(pose[None])) < ahead
    surroundings.observed[:] = -100
    assert Border(surroundings).value(place.renderer.camera(pose[None])) < 0


def test_the_table_compares_the_same_places():
    rows = [
        {"episode": str(index), "planner": name, "area": [5.0, 8.0 + index + more], "effort": 2.0, "collisions": hit}
        for index in range(6)
        for name, more, hit in (("frontiers", 0.0, 0), ("readout", 2.0, 1))
    ]
    first, second = table(rows, ["frontiers", "readout"]).splitlines()[2:]
    assert "| 0.00 (0.00 to 0.00) |" in first
    assert second.endswith("| 1.00 (1.00 to 1.00) | 2.00 (2.00 to 2.00) |")
