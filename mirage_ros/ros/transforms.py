"""From poses of messages to optical poses in the world frame: frame_id, what the pose describes, extrinsics, TF."""

from __future__ import annotations

from typing import Any

import torch
from geometry_msgs.msg import Point, Pose
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.time import Time
from scipy.spatial.transform import Rotation
from torch import Tensor

from mirage_ros.poses import body_to_optical
from mirage_ros.ros.conversions import pose_from_msg
from mirage_ros.ros.parameters import POSES_OF, ExtrinsicsParameters, MirageParameters
from mirage_ros.ros.waiting import TransformPendingError

WITHOUT_TF = "tf2_ros is not installed, so only poses in the world frame can be used"


def extrinsics(at: ExtrinsicsParameters) -> Tensor:
    """(4, 4) float64 pose of the camera body in the base: metres, radians about fixed axes as in URDF."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.from_numpy(Rotation.from_euler("xyz", [at.roll, at.pitch, at.yaw]).as_matrix())
    pose[:3, 3] = torch.tensor([at.x, at.y, at.z], dtype=torch.float64)
    return pose


def check_poses(poses: Tensor, max_distance: float, name: str) -> None:
    """Refuse poses too far from the origin to be meant, with a ValueError that names the field and the distance."""
    farthest = float(poses[..., :3, 3].abs().max())
    if farthest > max_distance:
        raise ValueError(
            f"{name}: expected within {max_distance:g} m of the world frame's origin (imagine.max_distance), "
            f"got {farthest:g} m"
        )


def standing_camera(ground: Tensor, height: float, pitch: float) -> Tensor:
    """(4, 4) optical pose of a level camera above a place of the ground, looking along the place's x axis.

    Args:
        ground: (4, 4) pose in the world frame, whose z is up; only its heading is used of its rotation.
        height: metres above it.
        pitch: radians; positive looks down.
    """
    heading = float(torch.atan2(ground[1, 0], ground[0, 0]))
    above = extrinsics(ExtrinsicsParameters(z=height, pitch=pitch, yaw=heading))
    above[:3, 3] += ground[:3, 3]
    return body_to_optical(above)


class FrameIds:
    """Turns poses into optical poses in the world frame.

    Attributes:
        camera_frame: frame_id of the camera's images, once one was seen.
    """

    def __init__(self, node: Node, parameters: MirageParameters) -> None:
        """Listen to TF where it is wanted (use_tf) and tf2_ros is installed.

        Args:
            node: owns the subscriptions.
            parameters: world_frame, base_frame, use_tf; extrinsics, which leave the camera in the base to TF where they
                are all zero and TF knows it.
        """
        self.camera_frame = ""
        self._world_frame, self._base_frame = parameters.world_frame, parameters.base_frame
        self._base_from_body = extrinsics(parameters.extrinsics)
        self._told = parameters.extrinsics != ExtrinsicsParameters()
        self._use_tf = parameters.use_tf
        self._buffer: Any = None
        self._listener: Any = None
        if parameters.use_tf:
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

    def in_world(self, frame_id: str) -> bool:
        """Whether a message of this frame_id needs no TF."""
        return bare(frame_id) in ("", bare(self._world_frame))

    def restart(self) -> None:
        """Forget what moved, as after a clock was set back; what is static stays."""
        if self._buffer is not None:
            self._buffer.clear()

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
            TransformPendingError: TF does not know a frame, or not at that moment (yet).
            ValueError: the frame cannot be reached; says why.
        """
        if isinstance(pose_of, int):
            if not 0 <= pose_of < len(POSES_OF):
                raise ValueError(f"pose_of: expected 0 (OPTICAL), 1 (BODY) or 2 (BASE), got {pose_of}")
            pose_of = POSES_OF[pose_of]
        if not self.in_world(frame_id):
            poses = self.transform(self._world_frame, frame_id, stamp, f"{name}.header.frame_id") @ poses
        if pose_of == "optical":
            return poses
        if pose_of == "body":
            return body_to_optical(poses)
        if self._told or not self._use_tf:
            return poses @ body_to_optical(self._base_from_body)
        if not self.has_tf:
            raise ValueError(
                "pose_of: base, but nothing says where on it the camera is: set extrinsics.* (or use_tf to false for a "
                "camera at the base's origin); tf2_ros, which could tell, is not installed"
            )
        if not self.camera_frame:
            raise TransformPendingError(
                "pose_of: base, but nothing says where on it the camera is: no image has come yet whose frame_id TF "
                f"could be asked for below {self._base_frame!r} (base_frame); show one, or set extrinsics.*",
                f"(no image yet) -> {self._base_frame}",
            )
        return poses @ self.transform(self._base_frame, self.camera_frame, 0, "base_frame")

    def transform(self, target: str, source: str, stamp: int, name: str) -> Tensor:
        """(4, 4) float64 transform from a source frame to a target frame.

        Args:
            target, source: frame ids; a leading slash, which TF 2 does not have, is left out.
            stamp: nanoseconds; zero for the latest.
            name: of what is asked for, for errors.

        Raises:
            TransformPendingError: TF does not know it (yet).
            ValueError: there is no TF.
        """
        target, source = bare(target), bare(source)
        if self._buffer is None:
            raise ValueError(f"{name}: expected {target!r} or empty, got {source!r}; {WITHOUT_TF}")
        if not source:
            raise ValueError(f"{name}: expected a frame_id that TF can be asked for, got none")
        try:
            found = self._buffer.lookup_transform(target, source, Time(nanoseconds=stamp), Duration()).transform
        except Exception as error:  # tf2 raises classes of its own compiled module
            reason = f"{name}: no transform from {source!r} to {target!r}: {error}"
            raise TransformPendingError(reason, f"{source} -> {target}") from None
        at = found.translation
        return pose_from_msg(Pose(position=Point(x=at.x, y=at.y, z=at.z), orientation=found.rotation), "tf")


def bare(frame_id: str) -> str:
    """A frame id without the leading slash of TF 1."""
    return frame_id.lstrip("/")
