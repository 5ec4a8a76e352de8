"""The subscriptions of an active node: each message goes to what handles it, and what is wrong becomes a diagnostic."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from torch import Tensor

from mirage_ros.ros.commanding import Commands
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import ns_from_stamp, path_to_poses, pose_from_stamped
from mirage_ros.ros.corrections import Corrections
from mirage_ros.ros.observing import Observing
from mirage_ros.ros.requests import frame_stamps
from mirage_ros.ros.topics import INPUTS, check_prompt_length
from mirage_ros.ros.transforms import FrameIds, check_poses, standing_camera
from mirage_ros.ros.waiting import Patience, TransformPendingError
from mirage_ros.ros.work_queue import BusyError

# Each of their messages must have a stamp of its own.
CAMERA_TOPICS = ("image", "camera_info", "depth", "camera_pose")


class Inputs:
    """Listens from activate to deactivate."""

    def __init__(
        self,
        context: NodeContext,
        frames: FrameIds,
        patience: Patience,
        commands: Commands,
        observing: Observing,
        corrections: Corrections,
    ) -> None:
        """Open the subscriptions.

        Args:
            context: of the node; its health is told of every message and of what is wrong with it.
            frames: brings poses into the world frame.
            patience: keeps messages whose transform is still to come.
            commands, observing: take poses and paths, and the camera's messages.
            corrections: takes new poses of camera frames.
        """
        self._corrections = corrections
        self._context, self._frames, self._patience, self._commands = context, frames, patience, commands
        handlers: dict[str, Callable[[Any], None]] = {
            "camera_pose": observing.pose,
            "pose": lambda message: commands.pose(*self._command(message, "pose")),
            "preview/pose": lambda message: commands.preview(*self._command(message, "preview/pose"), "preview/pose"),
            "standing/pose": lambda message: commands.pose(*self._standing(message, "standing/pose")),
            "standing/preview": lambda message: commands.preview(
                *self._standing(message, "standing/preview"), "standing/preview"
            ),
            "path": self._path,
            "repose/frames": self._repose,
            "prompt": self._prompt,
        }
        wanted = context.parameters.observation
        absent = {
            "image" if wanted.transport == "compressed" else "image/compressed",
            *(("depth", "depth/camera_info") if wanted.depth != "topic" else ()),
            "camera_pose" if wanted.pose != "topic" else "",
        }
        self._subscriptions = []
        for row in INPUTS:
            if row.name in absent:
                continue
            name = "image" if row.name == "image/compressed" else row.name
            handler = handlers.get(name, lambda message, name=name: observing.add(name, message))
            self._subscriptions.append(
                context.node.create_subscription(
                    row.kind,
                    row.name,
                    lambda message, name=name, handler=handler: self._receive(name, handler, message),
                    row.qos(camera=wanted.reliability),
                )
            )
        camera = [name for name in CAMERA_TOPICS if name == "image" or name not in absent]
        context.health.expect(*(camera if wanted.enabled else ()))

    def close(self) -> None:
        """Take the subscriptions away."""
        for subscription in self._subscriptions:
            self._context.node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._context.health.expect()

    def _receive(self, name: str, handler: Callable[[Any], None], message: Any) -> None:
        """Every message passes here: an error in it never reaches the executor."""
        health = self._context.health
        health.heard(name)

        def refuse(error: Exception) -> None:
            if isinstance(error, TransformPendingError):
                health.event(f"tf {error.link}", str(error))
            if isinstance(error, ValueError | TypeError | OverflowError | BusyError):
                health.refuse(name, str(error))
            else:
                # A fault of this package; the robot should not lose the node for it.
                trace = "".join(traceback.format_exception(error))
                self._context.node.get_logger().error(f"{name}: {trace}", throttle_duration_sec=10.0)
                health.refuse(name, f"{type(error).__name__}: {error}")

        def act() -> None:
            handler(message)

        try:
            if name in CAMERA_TOPICS:
                health.stamped(name, ns_from_stamp(message.header.stamp))
        except ValueError as error:
            refuse(error)
        else:
            self._patience.attempt(name, act, refuse)

    def _command(self, message: Any, name: str) -> tuple[Tensor, int]:
        pose, frame, stamp = pose_from_stamped(message, name)
        pose = self._optical(pose, frame, stamp, name)
        return pose, stamp or self._context.now()

    def _standing(self, message: Any, name: str) -> tuple[Tensor, int]:
        """The camera of somebody who stands at a place of the ground and looks along its x axis."""
        stamped = message if isinstance(message, PoseStamped) else PoseStamped(header=message.header)
        if stamped is not message:
            stamped.pose = message.pose.pose
        pose, frame, stamp = pose_from_stamped(stamped, name)
        parameters = self._context.parameters
        pose = self._frames.optical(pose, frame, "optical", stamp, name)
        pose = standing_camera(pose, parameters.standing.height, parameters.standing.pitch)
        check_poses(pose, parameters.imagine.max_distance, name)
        return pose, stamp or self._context.now()

    def _path(self, message: Any) -> None:
        limit = self._context.parameters.imagine.max_frames
        if len(message.poses) > limit:
            raise ValueError(f"path.poses: expected at most {limit} (imagine.max_frames), got {len(message.poses)}")
        poses, frame, stamps = path_to_poses(message)
        # A path's own stamp is the moment that its frame is meant at; its poses may be of the future.
        stamp = ns_from_stamp(message.header.stamp, "path.header.stamp") or stamps[0]
        poses = self._optical(poses, frame, stamp, "path")
        fps = self._context.session.world.preset.fps
        self._commands.path(poses, frame_stamps(stamps, self._context.now(), fps, "path"))

    def _repose(self, message: Any) -> None:
        poses, frame, stamps = path_to_poses(message)
        poses = self._frames.optical(poses, frame, "optical", stamps[0], "repose/frames")
        check_poses(poses, self._context.parameters.imagine.max_distance, "repose/frames")
        self._corrections.repose(poses, stamps)

    def _optical(self, poses: Tensor, frame: str, stamp: int, name: str) -> Tensor:
        """Optical poses in the world frame, near enough to be meant."""
        parameters = self._context.parameters
        poses = self._frames.optical(poses, frame, parameters.pose_of, stamp, name)
        check_poses(poses, parameters.imagine.max_distance, name)
        return poses

    def _prompt(self, message: Any) -> None:
        check_prompt_length(message.data)
        session = self._context.session
        called = self._context.worker.call(lambda: session.set_prompt(message.data), slot="prompt")
        self._context.health.watch(called, "prompt")
