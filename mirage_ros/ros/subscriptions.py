"""The subscriptions of an active node: each message goes to what handles it, and what is wrong becomes a diagnostic."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node
from torch import Tensor

from mirage_ros.ros.commanding import Commands
from mirage_ros.ros.conversions import path_to_poses, pose_from_stamped
from mirage_ros.ros.imagine_action import Active, check_poses, frame_stamps
from mirage_ros.ros.observing import Grounding
from mirage_ros.ros.services import MAX_PROMPT
from mirage_ros.ros.status import Health
from mirage_ros.ros.topics import INPUTS
from mirage_ros.ros.work_queue import BusyError


class Inputs:
    """Listens from activate to deactivate."""

    def __init__(
        self,
        node: Node,
        active: Active,
        commands: Commands,
        grounding: Grounding,
        settings: Mapping[str, Any],
        now: Callable[[str], Any],
        health: Health,
    ) -> None:
        """Open the subscriptions.

        Args:
            node: owns them.
            active: engine, worker and frames.
            commands, grounding: take poses and paths, and the camera's messages.
            settings: start-up parameters by name.
            now: run-time parameters by name.
            health: told of every message and of what is wrong with it.
        """
        self._node, self._active, self._commands, self._grounding = node, active, commands, grounding
        self._settings, self._now, self._health = settings, now, health
        handlers: dict[str, Callable[[Any], None]] = {
            "camera_pose": grounding.pose,
            "pose": lambda message: commands.pose(*self._command(message, "pose")),
            "preview/pose": lambda message: commands.preview(*self._command(message, "preview/pose"), "preview/pose"),
            "path": self._path,
            "prompt": self._prompt,
        }
        absent = self._absent()
        self._subscriptions = []
        for row in INPUTS:
            if row.name in absent:
                continue
            name = "image" if row.name == "image/compressed" else row.name
            handler = handlers.get(name, lambda message, name=name: grounding.add(name, message))
            self._subscriptions.append(
                node.create_subscription(
                    row.kind,
                    row.name,
                    lambda message, name=name, handler=handler: self._receive(name, handler, message),
                    row.qos(camera=settings["observation.reliability"]),
                    event_callbacks=health.subscription_events(name),
                )
            )
        camera = {"image", "camera_info", "depth", "camera_pose"} - absent | {"image"}
        health.expect(*sorted(camera) if now("observation.enabled") else ())

    def close(self) -> None:
        """Take the subscriptions away."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions.clear()
        self._health.expect()

    def _absent(self) -> set[str]:
        """Topics that the parameters leave out."""
        settings = self._settings
        absent = {"image" if settings["observation.transport"] == "compressed" else "image/compressed"}
        if settings["observation.depth"] != "topic":
            absent.add("depth")
        if settings["observation.pose"] != "topic":
            absent.add("camera_pose")
        return absent

    def _receive(self, name: str, handler: Callable[[Any], None], message: Any) -> None:
        """Every message passes here: an error in it never reaches the executor."""
        self._health.heard(name)
        try:
            handler(message)
        except (ValueError, TypeError, OverflowError, BusyError) as error:
            self._health.refuse(name, str(error))
        except Exception as error:
            # A fault of this package; the robot should not lose the node for it.
            self._node.get_logger().error(f"{name}: {traceback.format_exc()}", throttle_duration_sec=10.0)
            self._health.refuse(name, f"{type(error).__name__}: {error}")

    def _command(self, message: Any, name: str) -> tuple[Tensor, int]:
        pose, frame, stamp = pose_from_stamped(message, name)
        pose = self._active.frames.optical(pose, frame, self._settings["pose_of"], stamp, name)
        check_poses(pose[None], self._now("imagine.max_distance"), name)
        return pose, stamp or self._node.get_clock().now().nanoseconds

    def _path(self, message: Any) -> None:
        limit = self._now("imagine.max_frames")
        if len(message.poses) > limit:
            raise ValueError(f"path.poses: expected at most {limit} (imagine.max_frames), got {len(message.poses)}")
        poses, frame, stamps = path_to_poses(message)
        poses = self._active.frames.optical(poses, frame, self._settings["pose_of"], stamps[0], "path")
        check_poses(poses, self._now("imagine.max_distance"), "path")
        now, fps = self._node.get_clock().now().nanoseconds, self._active.engine.world.preset.fps
        self._commands.path(poses, frame_stamps(stamps, now, fps, "path"))

    def _prompt(self, message: Any) -> None:
        if len(message.data) > MAX_PROMPT:
            raise ValueError(f"prompt: expected at most {MAX_PROMPT} characters, got {len(message.data)}")
        engine = self._active.engine

        def done(future: Any) -> None:
            if not future.cancelled() and future.exception() is not None:
                self._health.refuse("prompt", str(future.exception()))

        self._active.worker.call(lambda: engine.set_prompt(message.data), slot="prompt").add_done_callback(done)
