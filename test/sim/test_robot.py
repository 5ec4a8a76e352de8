"""The camera's carrier: driving, jumping, following, stopping before things."""

import math

import pytest
import torch

from mirage_ros.poses import body_to_optical, optical_to_body
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.robot import MAX_PITCH, CameraRobot
from mirage_ros.sim.scene import build_scene

SCENE = build_scene(0, moving=0)


def robot():
    return CameraRobot(SCENE, plan_path(SCENE, 2, 0)[0])


def test_driving_forward_follows_the_heading():
    carrier = robot()
    before = optical_to_body(carrier.pose)
    carrier.drive((0.2, 0.0, 0.0), (0.0, 0.0, 0.0), 0.5)
    moved = optical_to_body(carrier.pose)[:3, 3] - before[:3, 3]
    assert moved.norm().item() == pytest.approx(0.1)
    assert moved[2].item() == pytest.approx(0)
    heading = before[:3, 0] * torch.tensor([1.0, 1.0, 0.0])
    assert torch.dot(moved, heading / heading.norm()).item() == pytest.approx(0.1, rel=1e-6)


def test_positive_yaw_turns_left_and_pitch_is_limited():
    carrier = CameraRobot(SCENE, body_to_optical(torch.eye(4)))
    carrier.drive((0, 0, 0), (0, 0, math.pi / 2), 1.0)
    torch.testing.assert_close(carrier.pose[:3, 2], torch.tensor([0.0, 1, 0], dtype=torch.float64), atol=1e-6, rtol=0)
    for _ in range(50):
        carrier.drive((0, 0, 0), (0, 1.0, 0), 0.1)
    assert math.asin(-carrier.pose[2, 2].item()) == pytest.approx(MAX_PITCH)


def test_walls_stop_it_but_it_still_turns():
    carrier = robot()
    for _ in range(200):
        carrier.drive((0.5, 0, 0), (0, 0, 0.02), 0.1)
    assert abs(carrier.pose[0, 3].item()) < SCENE.length / 2 - 0.14
    assert abs(carrier.pose[1, 3].item()) < SCENE.width / 2 - 0.14
    stuck = CameraRobot(SCENE, carrier.pose)
    place = stuck.pose[:3, 3].clone()
    while stuck.drive((0.5, 0, 0), (0, 0, 0), 0.1):
        place = stuck.pose[:3, 3].clone()
    turned = stuck.pose.clone()
    assert not stuck.drive((0.5, 0, 0), (0, 0, 0.5), 0.1)
    assert stuck.collided
    torch.testing.assert_close(stuck.pose[:3, 3], place)
    assert not torch.equal(stuck.pose, turned)


def test_speed_does_not_carry_it_through_things():
    for seed in range(20):
        carrier = CameraRobot(SCENE, plan_path(SCENE, 2, seed)[0])
        before = carrier.pose.clone()
        slow = CameraRobot(SCENE, before)
        reached = all(slow.drive((0.5, 0, 0), (0, 0, 0), 0.1) for _ in range(40))
        assert carrier.drive((20.0, 0, 0), (0, 0, 0), 0.1) == reached


def test_jumping_into_something_is_refused():
    carrier = robot()
    before = carrier.pose.clone()
    inside = before.clone()
    obstacle = SCENE.obstacles[0]
    inside[:3, 3] = torch.tensor([obstacle.x, obstacle.y, 0.5])
    assert not carrier.jump(inside)
    assert torch.equal(carrier.pose, before)
    assert carrier.jump(plan_path(SCENE, 2, 9)[0])
    with pytest.raises(ValueError, match="pose: expected"):
        carrier.jump(torch.zeros(4, 4))


def test_a_path_is_walked_back_and_forth():
    path = plan_path(SCENE, 4, 0).double()
    carrier = robot()
    carrier.follow(path)
    seen = []
    for _ in range(9):
        carrier.step()
        seen.append(carrier.pose)
    for pose, index in zip(seen, [0, 1, 2, 3, 2, 1, 0, 1, 2], strict=True):
        assert torch.equal(pose, path[index])


def test_a_twist_must_be_finite():
    with pytest.raises(ValueError, match="twist: expected finite"):
        robot().drive((math.nan, 0, 0), (0, 0, 0), 0.1)
