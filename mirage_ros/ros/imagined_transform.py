"""Where the imagined camera is, on /tf, so that RViz, depth_image_proc and costmaps can place its frames."""

from __future__ import annotations

from collections import deque
from typing import Any

from geometry_msgs.msg import Transform, TransformStamped, Vector3
from rclpy.node import Node
from rclpy.qos import QoSProfile
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.ros.conversions import ns_from_stamp, pose_to_msg
from mirage_ros.ros.parameters import MirageParameters
from mirage_ros.ros.pose_buffer import CLOCK_RESET

# What tf2_ros' own broadcaster asks for.
TF_QOS = QoSProfile(depth=100)
# Seconds ahead of now beyond which a transform is kept back: tf2's buffers keep 10 s before the newest of a frame, and
# would refuse those of now after it.
FARTHEST = 9.0


class ImaginedTransform:
    """Broadcasts world_frame -> imagined_frame; does nothing where that is off or tf2_msgs is not installed."""

    def __init__(self, node: Node, parameters: MirageParameters) -> None:
        """Open /tf, if it is wanted (tf_broadcast); says so where it cannot be had."""
        self._node, self._world_frame = node, parameters.world_frame
        self._publisher: Any = None
        # Stamps, nanoseconds, and poses.
        self._sent: deque[tuple[int, Tensor]] = deque(maxlen=1000)
        if not parameters.tf_broadcast:
            return
        try:
            from tf2_msgs.msg import TFMessage
        except ImportError:
            node.get_logger().info(
                f"tf_broadcast is off: tf2_msgs is not installed, so {parameters.imagined_frame} is not on /tf; "
                "imagined/pose says where it is"
            )
            return
        self._kind = TFMessage
        self._publisher = node.create_publisher(TFMessage, "/tf", TF_QOS)

    def close(self) -> None:
        """Take the topic away."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None

    def send(self, cam2world: Tensor, header: Header) -> None:
        """Broadcast a pose (4, 4) of what is published with this header."""
        if self._publisher is None:
            return
        stamp, cam2world = ns_from_stamp(header.stamp), cam2world.double().cpu()
        if self._sent and stamp < self._sent[-1][0] - CLOCK_RESET:
            # Where the clock was set back, listeners have forgotten.
            self._sent.clear()
        # A preview and the frame that follows have one stamp; some listeners complain of what they know already.
        if any(stamp == known and cam2world.equal(pose) for known, pose in self._sent):
            return
        if stamp - self._node.get_clock().now().nanoseconds > FARTHEST * 1e9:
            self._node.get_logger().warning(
                f"imagined frames stamped more than {FARTHEST:g} s ahead are not on /tf, whose listeners would refuse "
                "those of now after them; imagined/pose has them",
                throttle_duration_sec=30.0,
            )
            return
        self._sent.append((stamp, cam2world))
        pose = pose_to_msg(cam2world)
        place = Vector3(x=pose.position.x, y=pose.position.y, z=pose.position.z)
        stamped = TransformStamped(
            header=Header(stamp=header.stamp, frame_id=self._world_frame),
            child_frame_id=header.frame_id,
            transform=Transform(translation=place, rotation=pose.orientation),
        )
        try:
            self._publisher.publish(self._kind(transforms=[stamped]))
        except Exception:
            # As with every topic: an interrupt shuts ROS down under a running job.
            if self._node.context.ok():
                raise
