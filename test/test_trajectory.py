"""Trajectories: interpolation and the builders."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mirage_ros.poses import check_pose, pose_from_quaternion
from mirage_ros.trajectory import dolly, interpolate, look_at, orbit, pan, through, turn_and_go, turned_on


def random_poses(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return pose_from_quaternion(
        torch.randn(count, 3, generator=generator, dtype=torch.float64),
        torch.randn(count, 4, generator=generator, dtype=torch.float64),
    )


def angle_between(a, b):
    trace = torch.einsum("...ij,...ij->...", a[..., :3, :3], b[..., :3, :3])
    return torch.acos(((trace - 1) / 2).clamp(-1, 1))


@given(st.integers(0, 1000), st.integers(1, 6))
def test_interpolation_passes_through_its_knots(seed, count):
    poses = random_poses(count, seed)
    times = torch.cumsum(torch.rand(count, dtype=torch.float64) + 0.1, 0)
    torch.testing.assert_close(interpolate(poses, times, times), poses)


@given(st.integers(0, 1000), st.floats(0, 1))
def test_interpolation_turns_and_moves_evenly(seed, fraction):
    poses = random_poses(2, seed)
    middle = interpolate(poses, torch.tensor([0.0, 1.0]), torch.tensor([fraction], dtype=torch.float64))[0]
    check_pose(middle)
    torch.testing.assert_close(middle[:3, 3], torch.lerp(poses[0, :3, 3], poses[1, :3, 3], fraction))
    whole = angle_between(poses[0], poses[1])
    assert angle_between(poses[0], middle).item() == pytest.approx(whole.item() * fraction, abs=1e-5)


def test_interpolation_refuses_what_it_cannot_do():
    poses = random_poses(3, 0)
    times = torch.tensor([0.0, 1.0, 2.0])
    with pytest.raises(ValueError, match="queries: expected"):
        interpolate(poses, times, torch.tensor([2.1]))
    with pytest.raises(ValueError, match="times: expected strictly increasing"):
        interpolate(poses, torch.tensor([0.0, 1.0, 1.0]), times)
    with pytest.raises(ValueError, match="times: expected"):
        interpolate(poses, times[:2], times[:2])
    with pytest.raises(ValueError, match="poses: expected"):
        interpolate(poses[:0], times[:0], times[:0])


START = random_poses(1, 7)[0]


@pytest.mark.parametrize(
    "trajectory", [dolly(START, 1.5, 9), pan(START, 0.7, 9), orbit(START, 2.0, 0.7, 9)], ids=["dolly", "pan", "orbit"]
)
def test_builders_start_at_the_given_pose_and_stay_rigid(trajectory):
    assert trajectory.shape == (9, 4, 4)
    torch.testing.assert_close(trajectory[0], START)
    check_pose(trajectory)


def test_dolly_moves_forward_without_turning():
    trajectory = dolly(START, 1.5, 4)
    torch.testing.assert_close(trajectory[-1, :3, 3] - START[:3, 3], 1.5 * START[:3, 2])
    torch.testing.assert_close(trajectory[:, :3, :3], START[:3, :3].expand(4, 3, 3))


def test_positive_pan_looks_right():
    end = pan(torch.eye(4), math.pi / 2, 3)[-1]
    torch.testing.assert_close(end[:3, 2], torch.tensor([1.0, 0, 0]), atol=1e-6, rtol=0)
    torch.testing.assert_close(end[:3, 3], torch.zeros(3))


def test_orbit_faces_its_centre_at_constant_distance():
    trajectory = orbit(START, 2.0, 2 * math.pi, 13)
    centre = START[:3, 3] + 2.0 * START[:3, 2]
    towards = centre - trajectory[:, :3, 3]
    torch.testing.assert_close(towards, 2.0 * trajectory[:, :3, 2])
    torch.testing.assert_close(trajectory[-1], START)
    # A quarter of a positive turn brings the camera to where its left was, beside the centre.
    quarter = orbit(torch.eye(4), 2.0, math.pi / 2, 2)[-1]
    torch.testing.assert_close(quarter[:3, 3], torch.tensor([-2.0, 0, 2.0]), atol=1e-6, rtol=0)


def test_look_at_is_upright_and_faces_the_target():
    eye, target = torch.tensor([[1.0, 2.0, 1.5], [0.0, 0.0, 1.0]]), torch.tensor([4.0, 2.0, 0.5])
    pose = look_at(eye, target)
    check_pose(pose)
    torch.testing.assert_close(pose[..., :3, 2], torch.nn.functional.normalize(target - eye, dim=-1))
    assert (pose[..., 2, 0].abs() < 1e-6).all()
    assert (pose[..., 2, 1] < 0).all()
    with pytest.raises(ValueError, match="target: expected"):
        look_at(torch.zeros(3), torch.tensor([0.0, 0, 1]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dolly(START, 1.0, 0), "count: expected"),
        (lambda: dolly(START, math.nan, 3), "distance: expected"),
        (lambda: dolly(START, 1.0, 3, direction=(0, 0, 0)), "direction: expected"),
        (lambda: pan(START, math.inf, 3), "angle: expected"),
        (lambda: pan(START, 1.0, 3, axis=(0, 0, 0)), "axis: expected"),
        (lambda: orbit(START, -1.0, 1.0, 3), "radius: expected"),
        (lambda: orbit(torch.zeros(4, 4), 1.0, 1.0, 3), "start: expected"),
        (lambda: dolly(torch.stack([START, START]), 1.0, 3), "start: expected one pose"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_way_through_places_starts_here_passes_them_and_faces_where_it_goes():
    start = look_at(torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 1.0])).double()
    places = torch.tensor([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [1.0, 2.0, 1.0]], dtype=torch.float64)
    path = through(start, places, 0.25)
    assert torch.allclose(path[0], start)
    assert torch.allclose(path[-1, :3, 3], places[-1])
    assert torch.allclose(path[-1, :3, 2], torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), atol=1e-6)
    steps = path[:, :3, 3].diff(dim=0).norm(dim=1)
    assert steps.max() <= 0.25 + 1e-9
    assert float((path[:, :3, 3] - places[0]).norm(dim=1).min()) < 0.13
    assert len(through(start, places, 0.25, most=4)) == 4
    with pytest.raises(ValueError, match="waypoints: expected a place away from the start"):
        through(start, start[None, :3, 3], 0.25)


def test_turn_and_go_goes_where_it_looks_then():
    start = torch.eye(4, dtype=torch.float64)
    way = turn_and_go(start, math.pi / 2, 0.8)
    assert way.shape == (6, 4, 4)
    assert torch.equal(way[0], start)
    torch.testing.assert_close(way[-1, :3, 3], torch.tensor([0.8, 0, 0], dtype=torch.float64))
    torch.testing.assert_close(way[-1, :3, :3], way[2, :3, :3])
    assert len(turn_and_go(start, 0.0, 0.8)) == 4
    assert len(turn_and_go(start, 0.5, 0.0)) == 3
    assert torch.equal(turn_and_go(start, 0.0, 0.0), start[None])


def test_a_turn_goes_on_the_way_it_was():
    poses = pan(START, 0.1, 2, axis=(0.2, 1, 0.1))
    torch.testing.assert_close(turned_on(poses, 0.5), pan(START, 0.6, 2, axis=(0.2, 1, 0.1))[1])
    moved = dolly(START, 0.3, 2)
    assert turned_on(moved, 0.5) is None
    assert turned_on(pan(START, 0.004, 2), 0.5) is None
