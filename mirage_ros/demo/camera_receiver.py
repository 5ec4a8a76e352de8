"""Receiving what a camera publishes, as numpy arrays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from mirage_ros.geometry import Camera
from mirage_ros.ros.camera_input import StampSynchroniser
from mirage_ros.ros.conversions import (
    camera_from_info,
    depth_to_metres,
    image_to_numpy,
    pose_from_stamped,
)
from mirage_ros.ros.topics import image_qos

CAMERA_TOPICS = {"image": Image, "depth": Image, "labels": Image, "camera_info": CameraInfo, "true_pose": PoseStamped}


@dataclass(frozen=True)
class CameraFrame:
    """One synchronised set of the simulated camera's topics.

    Attributes:
        stamp: nanoseconds.
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, +inf where too far to measure, 0 where there is none.
        labels: (H, W) uint8 classes of the simulator.
        camera: intrinsics and true pose in the world frame.
    """

    stamp: int
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    labels: NDArray[np.uint8]
    camera: Camera


class SimCameraReceiver:
    """Subscribes to a simulated camera on a node of the caller's."""

    def __init__(self, node: Node, namespace: str = "", on_message: Callable[[str, Any], None] | None = None) -> None:
        """Subscribe.

        Args:
            node: that owns the subscriptions.
            namespace: of the camera.
            on_message: called with topic and message for everything received, for recording.
        """
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
        try:
            complete = self._synchroniser.add(name, message)
        except ValueError as error:
            self._node.get_logger().warning(f"{name}: {error}; ignored", throttle_duration_sec=2.0)
            return
        if complete is not None:
            self._ready.append(complete)

    def next(self, executor: SingleThreadedExecutor, timeout: float) -> CameraFrame:
        """Wait for the next complete set.

        Args:
            executor: spins the node.
            timeout: seconds.

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
        return CameraFrame(
            stamp=stamp,
            rgb=image_to_numpy(messages["image"], "rgb8"),
            depth=depth_to_metres(messages["depth"]),
            labels=image_to_numpy(messages["labels"], "mono8"),
            camera=camera_from_info(messages["camera_info"], pose),
        )
