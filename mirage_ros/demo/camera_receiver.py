"""Receiving what the simulated camera publishes, as frames."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from mirage_ros.ros.conversions import camera_from_info, depth_to_metres, image_to_numpy, pose_from_stamped
from mirage_ros.ros.stamp_synchroniser import StampSynchroniser
from mirage_ros.ros.topics import image_qos
from mirage_ros.sim.renderer import LabelledFrame

CAMERA_TOPICS = {"image": Image, "depth": Image, "labels": Image, "camera_info": CameraInfo, "true_pose": PoseStamped}


class SimCameraReceiver:
    """Subscribes to a simulated camera on a node of the caller's."""

    def __init__(self, node: Node, namespace: str = "", on_message: Callable[[str, Any], None] | None = None) -> None:
        """Subscribe to the camera in a namespace; `on_message` gets topic and message of all that is received."""
        self._node = node
        self._on_message = on_message
        self._synchroniser = StampSynchroniser(CAMERA_TOPICS)
        self._ready: list[dict[str, Any]] = []
        self._prefix = f"{namespace.rstrip('/')}/" if namespace else ""
        for name, kind in CAMERA_TOPICS.items():
            # Best effort hears both kinds of publisher.
            node.create_subscription(
                kind,
                self._prefix + name,
                lambda message, name=name: self._receive(name, message),
                image_qos("best_effort" if kind is Image else "reliable"),
            )

    def _receive(self, name: str, message: Any) -> None:
        if self._on_message is not None:
            self._on_message(name, message)
        now = time.monotonic()
        try:
            self._synchroniser.add(name, message, now)
        except ValueError as error:
            self._node.get_logger().warning(f"{name}: {error}; ignored", throttle_duration_sec=2.0)
            return
        self._ready += [parts for parts, _ in self._synchroniser.complete(now)]

    def next(self, executor: SingleThreadedExecutor, timeout: float) -> LabelledFrame:
        """Wait at most `timeout` seconds for the next complete set, spinning the node; its pose is the true one.

        Raises:
            TimeoutError: nothing complete came; names the topics without a publisher.
        """
        deadline = time.monotonic() + timeout
        while not self._ready:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                silent = [name for name in CAMERA_TOPICS if not self._node.count_publishers(self._prefix + name)]
                raise TimeoutError(f"no complete frame within {timeout:g} s; topics without a publisher: {silent}")
            executor.spin_once(timeout_sec=remaining)
        messages = self._ready.pop(0)
        pose, _, stamp = pose_from_stamped(messages["true_pose"])
        return LabelledFrame(
            image_to_numpy(messages["image"], "rgb8"),
            depth_to_metres(messages["depth"]),
            camera_from_info(messages["camera_info"], pose),
            stamp,
            labels=image_to_numpy(messages["labels"], "mono8"),
        )
