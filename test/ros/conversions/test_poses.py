"""Poses, paths and stamps."""

import math

import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path
from std_msgs.msg import Header

from mirage_ros.poses import pose_from_quaternion
from mirage_ros.ros.conversions import (
    ns_from_stamp,
    path_to_poses,
    pose_from_msg,
    pose_from_stamped,
    pose_to_msg,
    poses_to_path,
    stamp_from_ns,
)


def random_poses(count):
    generator = torch.Generator().manual_seed(0)
    return pose_from_quaternion(
        torch.randn(count, 3, generator=generator, dtype=torch.float64),
        torch.randn(count, 4, generator=generator, dtype=torch.float64),
    )


def test_round_trip():
    for pose in random_poses(5):
        torch.testing.assert_close(pose_from_msg(pose_to_msg(pose)), pose)


def test_a_known_quaternion():
    half = math.sqrt(0.5)
    pose = pose_from_msg(Pose(position=Point(x=1.0), orientation=Quaternion(z=half, w=half)))
    expected = torch.tensor([[0.0, -1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=torch.float64)
    torch.testing.assert_close(pose, expected)


def test_paths_keep_order_frame_and_stamps():
    poses = random_poses(4)
    stamps = [5, 7_000_000_001, 8_000_000_000, 9_999_999_999]
    path = poses_to_path(poses, Header(frame_id="map"), stamps)
    assert {pose.header.frame_id for pose in path.poses} == {"map"}
    back, frame, times = path_to_poses(path)
    torch.testing.assert_close(back, poses)
    assert (frame, times) == ("map", stamps)


def test_stamps():
    assert ns_from_stamp(Time(sec=3, nanosec=4)) == 3_000_000_004
    assert stamp_from_ns(3_000_000_004) == Time(sec=3, nanosec=4)
    for bad in (-1, 1 << 63):
        with pytest.raises(ValueError, match="nanoseconds: expected"):
            stamp_from_ns(bad)
    for bad in (1.5, "1", None, True):
        with pytest.raises(TypeError, match="nanoseconds: expected a whole number"):
            stamp_from_ns(bad)
    with pytest.raises(ValueError, match="stamp: expected sec >= 0"):
        ns_from_stamp(Time(sec=-1))


def test_a_frame_name_is_no_header():
    with pytest.raises(TypeError, match="header: expected std_msgs/Header, got str"):
        poses_to_path(random_poses(2), "map")


def test_slightly_long_quaternions_are_normalised():
    pose = pose_from_msg(Pose(orientation=Quaternion(z=1.005, w=0.0)))
    torch.testing.assert_close(pose[:3, :3], torch.diag(torch.tensor([-1.0, -1, 1], dtype=torch.float64)))


def stamped(frame="map", **orientation):
    return PoseStamped(header=Header(frame_id=frame), pose=Pose(orientation=Quaternion(**(orientation or {"w": 1.0}))))


@pytest.mark.parametrize(
    ("pose", "message"),
    [
        (stamped(w=0.0), "pose.pose.orientation: expected a quaternion of unit length"),
        (stamped(w=1.02), "pose.pose.orientation: expected a quaternion of unit length"),
        (stamped(w=0.98), "pose.pose.orientation: expected a quaternion of unit length"),
        (stamped(w=math.nan), "pose.pose.orientation: expected finite"),
        (PoseStamped(pose=Pose(position=Point(x=math.inf))), "pose.pose.position: expected finite"),
    ],
)
def test_bad_poses_are_refused_by_field(pose, message):
    with pytest.raises(ValueError, match=message):
        pose_from_stamped(pose)


@pytest.mark.parametrize(
    ("poses", "message"),
    [
        ([], "path.poses: expected at least one"),
        ([stamped("map"), stamped("odom")], "path.poses: expected one frame_id, got \\['map', 'odom'\\]"),
        ([stamped(), stamped(w=0.0)], "path.poses\\[1\\].pose.orientation: expected"),
    ],
)
def test_bad_paths_are_refused_by_index(poses, message):
    with pytest.raises(ValueError, match=message):
        path_to_poses(Path(poses=poses))


def test_every_pose_needs_a_stamp():
    with pytest.raises(ValueError, match="stamps: expected 3"):
        poses_to_path(random_poses(3), Header(), [1, 2])
    with pytest.raises(ValueError, match="pose: expected \\(4, 4\\)"):
        pose_to_msg(random_poses(3))
