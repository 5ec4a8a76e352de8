"""geometry_msgs poses and nav_msgs paths <-> matrices, and stamps <-> nanoseconds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from nav_msgs.msg import Path
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.poses import check_pose, pose_from_quaternion, quaternion_from_pose
from mirage_ros.ros.conversions.checks import check_finite, check_message
from mirage_ros.trajectory import check_trajectory

NANOSECONDS = 1_000_000_000
# Quaternions this far from unit length are rounded ones; further off, the sender made a mistake.
LENGTH_TOLERANCE = 0.01


def pose_from_msg(message: Pose, name: str = "pose") -> Tensor:
    """(4, 4) float64 transform of a pose: metres, and a quaternion of unit length (within 1 %).

    Raises:
        ValueError: a number is not finite or the quaternion is not a rotation; begins with the name.
    """
    return _matrices([_numbers(message, name)])[0]


def _matrices(numbers: list[list[float]]) -> Tensor:
    # One conversion of all of them: a pose takes 0.1 ms on its own.
    values = torch.tensor(numbers, dtype=torch.float64)
    return pose_from_quaternion(values[:, :3], values[:, 3:])


def _numbers(message: Pose, name: str) -> list[float]:
    """Checked position xyz and orientation xyzw."""
    check_message(message, Pose, name)
    p, q = message.position, message.orientation
    position, orientation = [p.x, p.y, p.z], [q.x, q.y, q.z, q.w]
    check_finite(position, f"{name}.position")
    check_finite(orientation, f"{name}.orientation")
    if abs(math.hypot(*orientation) - 1) > LENGTH_TOLERANCE:
        raise ValueError(f"{name}.orientation: expected a quaternion of unit length, got {orientation}")
    return position + orientation


def pose_to_msg(pose: Tensor) -> Pose:
    """Pose message of a (4, 4) rigid transform, with w >= 0; a ValueError for anything else."""
    check_pose(pose)
    if pose.ndim != 2:
        raise ValueError(f"pose: expected (4, 4), got {tuple(pose.shape)}")
    return _messages(pose[None])[0]


def _messages(poses: Tensor) -> list[Pose]:
    """Messages of (T, 4, 4) checked transforms."""
    positions, orientations = poses[:, :3, 3].tolist(), quaternion_from_pose(poses.double()).tolist()
    return [
        Pose(position=Point(x=px, y=py, z=pz), orientation=Quaternion(x=x, y=y, z=z, w=w))
        for (px, py, pz), (x, y, z, w) in zip(positions, orientations, strict=True)
    ]


def pose_from_stamped(message: PoseStamped, name: str = "pose") -> tuple[Tensor, str, int]:
    """Transform (4, 4) float64, frame_id and stamp in nanoseconds; a ValueError as by `pose_from_msg`."""
    check_message(message, PoseStamped, name)
    pose = pose_from_msg(message.pose, f"{name}.pose")
    return pose, message.header.frame_id, ns_from_stamp(message.header.stamp, f"{name}.header.stamp")


def pose_to_stamped(pose: Tensor, header: Header) -> PoseStamped:
    """Stamped pose of a (4, 4) transform; a TypeError or ValueError if it is none, or the header no Header."""
    check_message(header, Header, "header")
    return PoseStamped(header=header, pose=pose_to_msg(pose))


def path_to_poses(message: Path) -> tuple[Tensor, str, list[int]]:
    """Poses of a path.

    Args:
        message: at least one pose; a pose's own frame_id may be empty, and must be the path's otherwise.

    Returns:
        (T, 4, 4) float64, the frame_id, and the poses' stamps in nanoseconds.

    Raises:
        ValueError: an empty path, mixed frames, or a bad pose, named by its index.
    """
    check_message(message, Path, "path")
    if not message.poses:
        raise ValueError("path.poses: expected at least one pose, got none")
    frames = {message.header.frame_id, *(pose.header.frame_id for pose in message.poses)} - {""}
    if len(frames) > 1:
        raise ValueError(f"path.poses: expected one frame_id, got {sorted(frames)}")
    numbers, stamps = [], []
    for index, stamped in enumerate(message.poses):
        numbers.append(_numbers(stamped.pose, f"path.poses[{index}].pose"))
        stamps.append(ns_from_stamp(stamped.header.stamp, f"path.poses[{index}].header.stamp"))
    return _matrices(numbers), next(iter(frames), ""), stamps


def poses_to_path(poses: Tensor, header: Header, stamps: Sequence[int] | None = None) -> Path:
    """Path of (T, 4, 4) transforms.

    Args:
        poses: in order.
        header: of the path; its frame_id is every pose's.
        stamps: (T,) nanoseconds, one for each pose; the header's by default.

    Raises:
        ValueError: not a trajectory, or not one stamp for each pose.
    """
    check_trajectory(poses)
    check_message(header, Header, "header")
    times = [header.stamp] * len(poses) if stamps is None else [stamp_from_ns(stamp) for stamp in stamps]
    if len(times) != len(poses):
        raise ValueError(f"stamps: expected {len(poses)}, one for each pose, got {len(times)}")
    stamped = [
        PoseStamped(header=Header(stamp=time, frame_id=header.frame_id), pose=pose)
        for pose, time in zip(_messages(poses), times, strict=True)
    ]
    return Path(header=header, poses=stamped)


def ns_from_stamp(stamp: Time, name: str = "stamp") -> int:
    """Nanoseconds of a stamp; a ValueError for a negative time, or nanoseconds of a second or more."""
    check_message(stamp, Time, name)
    if stamp.sec < 0 or stamp.nanosec >= NANOSECONDS:
        raise ValueError(f"{name}: expected sec >= 0 and nanosec < 1e9, got {stamp.sec} and {stamp.nanosec}")
    return int(stamp.sec) * NANOSECONDS + int(stamp.nanosec)


def stamp_from_ns(nanoseconds: int) -> Time:
    """Stamp of nanoseconds since the epoch.

    Raises:
        TypeError: not a whole number.
        ValueError: negative, or beyond what 32 bits of seconds hold (the year 2038).
    """
    if isinstance(nanoseconds, bool) or not isinstance(nanoseconds, int | np.integer):
        raise TypeError(f"nanoseconds: expected a whole number, got {nanoseconds!r}")
    seconds, rest = divmod(int(nanoseconds), NANOSECONDS)
    if not 0 <= seconds < 1 << 31:
        raise ValueError(f"nanoseconds: expected 0 to {(1 << 31) * NANOSECONDS - 1}, got {nanoseconds}")
    return Time(sec=seconds, nanosec=rest)
