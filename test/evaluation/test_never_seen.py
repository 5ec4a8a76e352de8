"""The proof's figures are those of its counts, and no method is asked about other cells than the next."""

from contextlib import closing

import numpy as np
import pytest

from mirage_ros.evaluation.never_seen import (
    BEFORE,
    BEHIND,
    NOTHING,
    ON,
    VALUES,
    area_under_curve,
    continue_walls,
    episode,
    fitted,
    held_out_bits,
    log_score,
    readout_frames,
    table,
)
from mirage_ros.evaluation.planner_decisions import PlannerPlace


def counted(said, occupied):
    """(2, K) counts of what was said of cells."""
    return np.array([np.bincount(said[occupied == label], minlength=NOTHING + 1) for label in (0, 1)])


def drawn(skill, count=4000, seed=0):
    """What a method says of cells, more often right with more skill; and the truth."""
    random = np.random.default_rng(seed)
    occupied = random.random(count) < 0.2
    said = np.clip(30 + skill * np.where(occupied, 20, -20) + random.normal(0, 15, count), 0, 100).astype(int)
    return said, occupied


def test_the_area_is_the_share_of_pairs_in_the_right_order():
    said, occupied = drawn(0.5, 300)
    free, taken = said[~occupied][:, None], said[occupied]
    pairs = (taken > free).mean() + (taken == free).mean() / 2
    assert area_under_curve(counted(said, occupied), VALUES) == pytest.approx(pairs)
    nothing = counted(np.full(300, NOTHING), occupied)
    assert area_under_curve(nothing, VALUES) == 0.5
    assert log_score(nothing, VALUES) == 1
    sure = counted(np.where(occupied, 100, 0), occupied)
    assert area_under_curve(sure, VALUES) == 1
    assert log_score(sure, VALUES) < 0.01


def test_rates_are_fitted_and_wrong_probabilities_cost_nothing_then():
    said, occupied = drawn(1.0)
    wrong = 100 - said
    counts = np.array([counted(wrong[part::8], occupied[part::8]) for part in range(8)])
    assert fitted(counts.sum(axis=0))[2] > fitted(counts.sum(axis=0))[97]
    bits = held_out_bits(counts).sum() / counts.sum()
    assert bits < 0.6 < log_score(counts.sum(axis=0), VALUES)


def test_the_table_says_who_is_better_and_by_how_much():
    rows = [
        {
            "counts": {
                name: [counted(*drawn(skill, 400, seed)).tolist()] * 2
                for name, skill in (("imagined", 1.0), ("walls continue", 0.0))
            }
        }
        for seed in range(8)
    ]
    better, worse = table(rows).split("\n\n")[1].splitlines()[2:4]
    assert better.startswith("| imagined | 0.9")
    name, area, bits, _, behind = (cell.strip() for cell in worse.strip("|").split("|"))
    assert (name, bits) == ("walls continue", "-")
    assert 0.4 < float(area.split()[0]) < 0.6
    assert float(behind.split("(")[1].split()[0]) > 0.2


@pytest.mark.sim
@pytest.mark.slow
def test_all_methods_are_asked_about_the_same_cells(world):
    with closing(PlannerPlace("rooms", 1_000_000, (32, 48))) as place:
        found = episode(world, place, 0)
    totals = {name: counts.sum(axis=2).tolist() for name, counts in found.items()}
    assert len({str(total) for total in totals.values()}) == 1
    (free, occupied), (far_free, far_occupied) = totals["imagined"]
    assert free > far_free > 0
    assert occupied > far_occupied
    assert found["imagined"][..., NOTHING].sum() == 0
    assert found["unknown"][..., NOTHING].sum() == free + occupied + far_free + far_occupied


def test_holes_of_the_readout_are_as_deep_as_what_is_beside_them(world, case):
    memory = world.new_memory()
    world.observe(memory, case.first)
    frames = readout_frames(world, memory, case.clip.camera)
    assert (frames.visible == 0).any()
    filled = frames.depth[(frames.visible == 0) & (frames.depth > 0)]
    assert len(filled)
    assert filled.min() >= frames.depth[frames.visible > 0].min() - 1e-4


def test_fitted_rates_tell_before_on_and_behind_a_wall_apart():
    counts = np.zeros((8, 2, NOTHING + 1), np.int64)
    counts[:, 0, BEFORE] = counts[:, 1, ON] = 100
    counts[:, :, BEHIND] = 50
    rates = fitted(counts.sum(axis=0))
    assert rates[BEFORE] < 0.01
    assert rates[ON] > 0.99
    assert rates[BEHIND] == pytest.approx(0.5, abs=0.01)


def seen_room():
    """A camera at (50, 50) that saw a piece of a wall along row 120, and free space up to it."""
    known = np.full((200, 200), -1, np.int8)
    known[60:120, 40:80] = 0
    known[120, 40:80] = 100
    return known


def test_a_wall_goes_on_where_nobody_saw_it():
    said = continue_walls(seen_room(), (50.0, 50.0))
    assert said[120, 150] == said[120, 5] == ON
    assert said[140, 150] == said[190, 60] == BEHIND
    assert said[100, 150] == said[10, 10] == BEFORE


def test_a_long_table_is_no_wall():
    known = seen_room()
    known[90, 45:75] = 100
    known[121:180, 40:80] = known[120, 40:80] = 0
    assert (continue_walls(known, (50.0, 50.0)) == BEFORE).all()


def test_without_anything_seen_there_are_no_walls():
    assert (continue_walls(np.full((60, 60), -1, np.int8), (30.0, 30.0)) == BEFORE).all()
