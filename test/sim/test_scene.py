"""Scenes grow from their seed alone, and the parts that they are made of."""

import subprocess
import sys

import numpy as np
import pytest

from mirage_ros.sim.scene import FAMILIES, build_scene

DIGESTS = "from mirage_ros.sim.scene import build_scene; print(build_scene(5).digest, build_scene(5, 'halls').digest)"


def test_another_process_grows_the_same_scenes():
    result = subprocess.run([sys.executable, "-c", DIGESTS], capture_output=True, text=True, check=True, cwd="/")
    assert result.stdout.split() == [build_scene(5).digest, build_scene(5, "halls").digest]


def test_seeds_and_families_differ():
    digests = {build_scene(seed, family).digest for seed in range(3) for family in FAMILIES}
    assert len(digests) == 12


def test_moving_things_leave_the_furniture_alone():
    still, lively = build_scene(2, moving=0), build_scene(2, moving=3)
    assert not still.movers
    assert lively.movers
    assert lively.obstacles[: len(still.obstacles)] == still.obstacles


@pytest.mark.parametrize("family", FAMILIES)
def test_furniture_stands_inside_and_apart(family):
    for seed in range(4):
        scene = build_scene(seed, family)
        for obstacle in scene.obstacles:
            assert (np.abs(obstacle.corners()) <= np.array([scene.length, scene.width]) / 2 + 1e-6).all()
        for i, a in enumerate(scene.obstacles):
            # Chairs stand partly under their table and beside each other.
            others = [b for b in scene.obstacles[i + 1 :] if 0.9 not in (a.top, b.top)]
            assert not any(a.overlaps(b) for b in others)


def test_movers_go_round():
    for seed in range(4):
        for mover in build_scene(seed, moving=3).movers:
            start, _ = mover.pose(0.0)
            again, _ = mover.pose(mover.period)
            np.testing.assert_allclose(start, again, atol=1e-6)
            positions = np.array([mover.pose(t)[0] for t in np.linspace(0, mover.period, 200)])
            speed = np.linalg.norm(np.diff(positions, axis=0), axis=1) / (mover.period / 199)
            assert speed.max() < 3.0
            assert np.ptp(positions, axis=0).max() > 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1,), "seed: expected an integer from 0 to 2147483647, got -1"),
        ((1.5,), "seed: expected"),
        ((0, "caves"), "family: expected one of rooms, halls, flats, warehouses, got 'caves'"),
        ((0, "rooms", 4), "moving: expected 0 to 3, got 4"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        build_scene(*arguments)
