"""From poses of messages to optical poses in the world frame: frame_id, what the pose describes, extrinsics, TF."""

from __future__ import annotations

from typing import Any

import torch
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from torch import Tensor

from mirage_ros.geometry import body_to_optical
from mirage_ros.ros.conversions import pose_from_msg
from mirage_ros.ros.node_parameters import POSES_OF

WITHOUT_TF = "tf2_ros is not installed, so only poses in the world frame can be used"


def extrinsics(x: float, y: float, z: float, roll: float, pitch: float, yaw: float) -> Tensor:
    """(4, 4) float64 pose of the camera body in the base: metres, radians about fixed axes as in URDF."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(Rotation.from_euler("xyz", [roll, pitch, yaw]).as_matrix())
    pose[:3, 3] = torch.tensor([x, y, z], dtype=torch.float64)
    return pose


class FrameIds:
    """Turns poses into optical poses in the world frame.

    Attributes:
        has_tf: TF is listened to.
        camera_frame: frame_id of the camera's images, once one was seen.
    """

    def __init__(
        self, node: Node, world_frame: str, base_from_body: Tensor, use_tf: bool = True, base_frame: str = "base_link"
    ) -> None:
        """Listen to TF where it is wanted and tf2_ros is installed.

        Args:
            node: owns the subscriptions.
            world_frame: where poses end up.
            base_from_body: (4, 4) camera body in the base; the identity leaves it to TF, where that knows it.
            use_tf: listen to TF.
            base_frame: the robot's base, for TF.
        """
        self.camera_frame = ""
        self._base_frame = base_frame
        self.world_frame = world_frame
        self._base_from_body = base_from_body
        self._buffer: Any = None
        self._listener: Any = None
        if use_tf:
            try:
                from tf2_ros import Buffer, TransformListener
            except ImportError:
                return
            self._buffer = Buffer()
            self._listener = TransformListener(self._buffer, node)

    @property
    def has_tf(self) -> bool:
        """Whether TF is listened to."""
        return self._buffer is not None

    def close(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            self._listener.unregister()
        self._buffer = self._listener = None

    def optical(self, poses: Tensor, frame_id: str, pose_of: str | int, stamp: int, name: str = "pose") -> Tensor:
        """Optical poses in the world frame.

        Args:
            poses: (..., 4, 4) in the frame.
            frame_id: of the message; empty for the world frame.
            pose_of: 'optical', 'body' or 'base', or its number in the action.
            stamp: nanoseconds for TF; zero for the latest.
            name: of the field, for errors.

        Raises:
            ValueError: the frame cannot be reached; says why.
        """
        if isinstance(pose_of, int):
            if not 0 <= pose_of < len(POSES_OF):
                raise ValueError(f"pose_of: expected 0 (OPTICAL), 1 (BODY) or 2 (BASE), got {pose_of}")
            pose_of = POSES_OF[pose_of]
        if frame_id not in ("", self.world_frame):
            poses = self.lookup(self.world_frame, frame_id, stamp, f"{name}.header.frame_id") @ poses
        if pose_of == "base":
            return poses @ self._base_from_optical()
        return poses if pose_of == "optical" else body_to_optical(poses)

    def _base_from_optical(self) -> Tensor:
        told = not torch.equal(self._base_from_body, torch.eye(4, dtype=torch.float64))
        if self.has_tf and self.camera_frame and not told:
            return self.lookup(self._base_frame, self.camera_frame, 0, "base_frame")
        return body_to_optical(self._base_from_body)

    def lookup(self, target: str, source: str, stamp: int, name: str = "frame_id") -> Tensor:
        """(4, 4) float64 transform from a source frame to a target frame.

        Raises:
            ValueError: TF does not know it, or is not there.
        """
        if self._buffer is None:
            raise ValueError(f"{name}: expected {target!r} or empty, got {source!r}; {WITHOUT_TF}")
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp), Duration())
        except Exception as error:  # tf2 raises classes of its own compiled module
            raise ValueError(f"{name}: no transform from {source!r} to {target!r}: {error}") from None
        return _matrix(found.transform)


def _matrix(transform: Any) -> Tensor:
    """(4, 4) of a geometry_msgs/Transform."""
    from geometry_msgs.msg import Point, Pose

    shift = transform.translation
    return pose_from_msg(Pose(position=Point(x=shift.x, y=shift.y, z=shift.z), orientation=transform.rotation), "tf")
