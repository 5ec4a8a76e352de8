"""Everything that crosses between camera, node and planner: into a bag, and the imagined frames into arrays."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path
from numpy.typing import NDArray
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.client.received import PARTS, FrameParts, ReceivedFrame
from mirage_ros.demo.bag_writer import BagWriter
from mirage_ros.ros.conversions import depth_to_metres, ns_from_stamp, pose_to_stamped, poses_to_path, stamp_from_ns
from mirage_ros.ros.topics import OUTPUTS, topic


class Recorder:
    """A node that hears every topic. It spins in the caller's thread."""

    def __init__(self, bag: BagWriter) -> None:
        """Subscribe to the topics of the node `mirage` in the root namespace; every message goes to the bag."""
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self.node = rclpy.create_node("demo", context=self._context)
        self.executor = SingleThreadedExecutor(context=self._context)
        self.executor.add_node(self.node)
        self._bag = bag
        self._parts = FrameParts()
        self.frames: list[ReceivedFrame] = []
        self.uncertainty: dict[int, NDArray[np.float32]] = {}
        self.last: dict[str, Any] = {}
        for row in OUTPUTS:
            record = functools.partial(self.record, row.name)
            self.node.create_subscription(row.kind, row.name, record, row.qos(output="reliable"))
        self._path = self.node.create_publisher(Path, "path", topic("path").qos())
        self._poses = self.node.create_publisher(PoseStamped, "cmd_pose", 10)

    def record(self, name: str, message: Any) -> None:
        """Write a message to the bag; keep parts of imagined frames."""
        self._bag.write("/" + name.lstrip("/"), message, time.time_ns())
        self.last[name] = message
        if name == "imagined/uncertainty":
            self.uncertainty[ns_from_stamp(message.header.stamp)] = depth_to_metres(message)
        if name in PARTS and (frame := self._parts.add(name, message)) is not None:
            self.frames.append(frame)

    def spin_until(self, done: Callable[[], Any], timeout: float, what: str) -> None:
        """Receive until something holds.

        Raises:
            TimeoutError: it did not within the seconds; names what was waited for.
        """
        limit = time.monotonic() + timeout
        while not done():
            if time.monotonic() > limit:
                faults = getattr(self.last.get("/diagnostics"), "status", ())
                says = "; ".join(status.message for status in faults if status.level != b"\0")
                raise TimeoutError(f"{what} did not happen within {timeout:g} s; the node says: {says or 'nothing'}")
            self.executor.spin_once(timeout_sec=0.05)

    def send_path(self, poses: Tensor, rate: float) -> None:
        """Publish a path of optical poses (T, 4, 4), `rate` of them a second."""
        self.spin_until(self._path.get_subscription_count, 30.0, "a subscriber of path")
        now = self.node.get_clock().now().nanoseconds
        stamps = [now + round(index * 1e9 / rate) for index in range(len(poses))]
        header = Header(stamp=stamp_from_ns(now), frame_id="map")
        message = poses_to_path(poses.double(), header, stamps)
        self._path.publish(message)
        self._bag.write("/path", message, time.time_ns())

    def send_camera_to(self, pose: Tensor) -> None:
        """Publish an optical pose (4, 4) for the simulated camera."""
        self.spin_until(self._poses.get_subscription_count, 30.0, "a subscriber of cmd_pose")
        header = Header(stamp=self.node.get_clock().now().to_msg(), frame_id="map")
        self._poses.publish(pose_to_stamped(pose.double(), header))

    def close(self) -> None:
        """Leave the graph."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)
