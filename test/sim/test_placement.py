"""Footprints and finding room for them."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mirage_ros.sim.placement import Floor, Footprint

SIDES = st.floats(0.1, 2)
PLACES = st.builds(
    Footprint, x=st.floats(-2, 2), y=st.floats(-2, 2), length=SIDES, width=SIDES, yaw=st.floats(-math.pi, math.pi)
)


def samples(footprint, count=15):
    """Points all over a footprint."""
    grid = np.linspace(-0.5, 0.5, count)
    return np.array([footprint.place(a * footprint.length, b * footprint.width) for a in grid for b in grid])


@given(PLACES, PLACES)
def test_overlap_agrees_with_sampling(a, b):
    nearest = a.distance(samples(b)).min()
    if nearest == 0:
        assert a.overlaps(b)
        assert b.overlaps(a)
    elif nearest > math.hypot(b.length, b.width) / 14:
        assert not a.overlaps(b)


@given(PLACES, st.floats(-5, 5), st.floats(-5, 5))
def test_distance_agrees_with_sampling(footprint, x, y):
    point = np.array([x, y])
    sampled = np.linalg.norm(samples(footprint, 60) - point, axis=1).min()
    assert abs(footprint.distance(point) - sampled) < math.hypot(footprint.length, footprint.width) / 59


def test_a_floor_fills_up_without_collisions():
    rng = np.random.default_rng(0)
    floor = Floor(5.0, 4.0, [])
    for _ in range(40):
        floor.stand(rng, 0.6, 0.4, 1.0)
        floor.lean(rng, 0.8, 0.3, 2.0)
    assert 6 < len(floor.occupied) < 40
    for i, a in enumerate(floor.occupied):
        assert not any(a.overlaps(b) for b in floor.occupied[i + 1 :])


def test_leaning_things_have_their_back_to_a_wall_and_face_the_room():
    rng = np.random.default_rng(1)
    for _ in range(10):
        floor = Floor(5.0, 4.0, [])
        place = floor.lean(rng, 1.0, 0.4, 2.0)
        back, front = np.array(place.place(0, -0.2)), np.array(place.place(0, 0.2))
        to_wall = (np.array([2.5, 2.0]) - np.abs(back)).min()
        assert 0 < to_wall < 0.03
        assert (np.array([2.5, 2.0]) - np.abs(front)).min() > to_wall
