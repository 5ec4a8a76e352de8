from contextlib import closing

import numpy as np
import pytest
import torch

from mirage_ros.evaluation.methods import find_methods
from mirage_ros.evaluation.planner_decisions import MOVES, PlannerPlace, decisions, goal_score, move, space_score
from mirage_ros.evaluation.ranking import LEADING, SCORES, agreement, arrived, episodes, goal_of, rank, reach, table
from mirage_ros.poses import body_to_optical, check_pose
from mirage_ros.sim.paths import collides


@pytest.fixture(scope="module")
def place():
    with closing(PlannerPlace("rooms", 1_000_000, (32, 48))) as place:
        yield place


def test_a_move_turns_left_and_goes_its_length():
    start = body_to_optical(torch.eye(4, dtype=torch.float64))
    poses = move(start, 90.0, 1.0, 181)
    check_pose(poses)
    # A quarter of a circle of length 1: it ends at (2/pi, 2/pi), facing left (+y).
    torch.testing.assert_close(poses[-1, :2, 3], torch.full((2,), 2 / torch.pi, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(poses[-1, :3, 2], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)
    assert torch.equal(poses[0], start)


def test_moves_on_offer_touch_nothing(place):
    moves = place.moves()
    assert 1 <= len(moves) <= len(MOVES)
    assert not any(collides(place.scene, poses[:, :3, 3], 0.2) for poses in moves)


def test_truth_ranks_perfectly_and_equal_guesses_say_nothing():
    assert agreement([1, 2, 3], [10, 20, 30]) == {"tau": 1.0, "regret": 0.0}
    worst = agreement([3, 2, 1], [10, 20, 30])
    assert worst["tau"] == pytest.approx(-1)
    assert worst["regret"] == 1
    assert agreement([5, 5, 5], [10, 20, 30]) == {"tau": 0.0, "regret": 0.5}


def test_the_truth_has_no_regret_and_copying_no_opinion(world, tmp_path):
    rows = rank(world, find_methods(["truth", "copy"]), 2, 0, tmp_path)
    assert len(rows) == 2 * 2 * (len(SCORES) + len(LEADING))
    true = [row for row in rows if row["method"] == "truth" and row["score"] in SCORES]
    assert all(row["tau"] == pytest.approx(1) and row["regret"] == 0 for row in true)
    assert all(row["tau"] == 0 for row in rows if row["method"] == "copy")


@pytest.mark.slow
def test_decisions_are_frozen_and_have_a_choice():
    first, second = (next(decisions(1, (32, 48))) for _ in range(2))
    np.testing.assert_array_equal(first.goal, second.goal)
    assert len(first.candidates) >= 4
    assert len({case.clip.rgb[-1].tobytes() for case in first.candidates}) == len(first.candidates)


def test_a_planner_that_sees_the_truth_arrives_and_one_that_sees_no_difference_does_not(world, place):
    methods = find_methods(["truth", "copy"])
    arrives = {name: [reach(world, method, place, seed) for seed in (3, 4)] for name, method in methods.items()}
    assert arrives == {"truth": [True, True], "copy": [False, False]}


def test_a_view_is_most_like_itself_and_open_space_scores_more():
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert goal_score(picture, picture) == pytest.approx(1.0)
    assert goal_score(255 - picture, picture) < 0.5
    assert space_score(np.full((4, 4), 3.0)) == 3.0
    assert space_score(np.array([[0.0, np.nan, 100.0, 5.0]])) == 2.5


def test_arriving_needs_place_and_heading():
    start = body_to_optical(torch.eye(4, dtype=torch.float64))
    assert arrived(start, start)
    assert not arrived(move(start, 0.0, 0.8)[-1], start)
    assert not arrived(move(start, 60.0, 0.001)[-1], start)


def test_the_table_has_every_method_once():
    rows = [
        {"method": "a", "score": score, "tau": 0.5, "regret": 0.1} for score in (*SCORES, *LEADING) for _ in range(3)
    ]
    lines = table(
        rows, [{"method": name, "reached": hit} for name in ("a", "random") for hit in (float(name == "a"), 0.0)]
    ).splitlines()
    assert lines[2].startswith("| a | 0.50 (0.50 to 0.50)")
    assert "| 0.50 (" in lines[2].rsplit("|", 2)[0]
    assert lines[3].startswith("| random | - |")


@pytest.mark.slow
def test_a_study_that_was_stopped_does_nothing_twice(world, tmp_path):
    methods = find_methods(["truth", "copy"])
    first = rank(world, methods, 1, 0, tmp_path)
    path = tmp_path / "rows.jsonl"
    # A kill in the middle of the last line.
    path.write_bytes(path.read_bytes()[:-9])
    calls = []
    spied = {name: lambda *a, m=method, n=name: (calls.append(n), m(*a))[1] for name, method in methods.items()}
    again = rank(world, spied, 1, 0, tmp_path)
    assert set(calls) == {"copy"}
    assert [row for row in again if row["method"] == "truth"] == [row for row in first if row["method"] == "truth"]
    keys = [(row["decision"], row["method"], row["score"]) for row in again]
    assert len(keys) == len(set(keys)) == len(first)


def test_the_goal_is_not_where_the_planner_starts(place):
    assert not any(arrived(place.start, goal_of(place, seed)) for seed in range(8))


def test_a_planner_that_sees_the_truth_beats_chance(world, tmp_path):
    rows = episodes(world, find_methods(["truth"]), 3, 0, tmp_path)
    reached = {name: np.mean([row["reached"] for row in rows if row["method"] == name]) for name in ("truth", "random")}
    assert len(rows) == 6
    assert reached["truth"] > reached["random"]
