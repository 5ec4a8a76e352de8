"""ROS node `sim_camera`: a simulated robot's camera, publishing what a depth camera would, and its true pose.

Topics, parameters and commands are listed in the README. Rendering happens in the executor's thread, because an OpenGL
context belongs to the thread that made it.
"""

from __future__ import annotations

import math
import sys

from mirage_ros.ros.dds import use_default_profile

use_default_profile()

import rclpy  # noqa: E402  (the DDS profile must be chosen first)
from builtin_interfaces.msg import Time  # noqa: E402
from geometry_msgs.msg import PoseStamped, Twist  # noqa: E402
from rclpy.executors import ExternalShutdownException  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rosgraph_msgs.msg import Clock  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

from mirage_ros.ros.conversions import (  # noqa: E402
    camera_to_info,
    depth_from_metres,
    numpy_to_image,
    pose_from_stamped,
    pose_to_msg,
    stamp_from_ns,
)
from mirage_ros.ros.parameters import Parameter, declare  # noqa: E402
from mirage_ros.ros.qos import RELIABILITIES, sensor_qos  # noqa: E402
from mirage_ros.sim.paths import plan_path  # noqa: E402
from mirage_ros.sim.renderer import Renderer  # noqa: E402
from mirage_ros.sim.robot import CameraRobot  # noqa: E402
from mirage_ros.sim.scene import FAMILIES, build_scene  # noqa: E402

PARAMETERS = (
    Parameter("seed", 0, "Integer that the whole scene grows from.", 0, 2**31 - 1),
    Parameter("family", "rooms", "Kind of scene.", choices=FAMILIES),
    Parameter("moving", -1, "Number of moving objects; -1 lets the seed decide.", -1, 3),
    Parameter("width", 192, "Image width, pixels.", 16, 4096),
    Parameter("height", 128, "Image height, pixels.", 16, 4096),
    Parameter("vertical_fov", 1.0, "Vertical field of view, radians.", 0.1, 2.5),
    Parameter("rate", 10.0, "Frames per second.", 0.1, 120.0),
    Parameter("motion", "path", "What the camera does before the first command.", choices=("path", "hold")),
    Parameter("path_length", 60, "Poses of the path that is walked back and forth.", 2, 10000),
    Parameter("command_timeout", 0.5, "A velocity command holds for this many seconds.", 0.01, 60.0),
    Parameter("depth_encoding", "32FC1", "Encoding of `depth`: metres or millimetres.", choices=("32FC1", "16UC1")),
    Parameter("reliability", "reliable", "Quality of service of the images.", choices=RELIABILITIES),
    Parameter("publish_clock", False, "Publish /clock and stamp with simulated time, which starts at zero."),
    Parameter("world_frame", "map", "Frame that poses refer to."),
    Parameter("camera_frame", "camera_optical_frame", "Optical frame of the images."),
)


class SimCamera(Node):
    """Publishes image, depth, labels, camera_info and true_pose of one simulated scene; obeys cmd_vel and cmd_pose."""

    def __init__(self) -> None:
        # Set first: rclpy destroys a node whose constructor fails.
        self._renderer: Renderer | None = None
        super().__init__("sim_camera")
        self._settings = declare(self, PARAMETERS)
        get = self._settings.__getitem__
        scene = build_scene(get("seed"), get("family"), None if get("moving") < 0 else get("moving"))
        self._renderer = Renderer(scene, get("height"), get("width"), vertical_fov=get("vertical_fov"))
        path = plan_path(scene, get("path_length"), get("seed"))
        self._robot = CameraRobot(scene, path[0])
        if get("motion") == "path":
            self._robot.follow(path)
        self._period = 1.0 / get("rate")
        self._frames = 0
        self._twist: Twist | None = None
        self._twist_age = 0.0

        qos = sensor_qos(get("reliability"))
        self._image = self.create_publisher(Image, "image", qos)
        self._depth = self.create_publisher(Image, "depth", qos)
        self._labels = self.create_publisher(Image, "labels", qos)
        self._info = self.create_publisher(CameraInfo, "camera_info", qos)
        self._pose = self.create_publisher(PoseStamped, "true_pose", qos)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10) if get("publish_clock") else None
        self.create_subscription(Twist, "cmd_vel", self._on_twist, 10)
        self.create_subscription(PoseStamped, "cmd_pose", self._on_pose, 10)
        self.create_timer(self._period, self._on_timer)
        self.get_logger().info(
            f"{get('family')} {get('seed')}: {get('width')}x{get('height')} at {get('rate'):g} Hz "
            f"on {self._image.topic_name}, frame {get('camera_frame')} in {get('world_frame')}"
        )

    def destroy_node(self) -> None:
        """Also release the OpenGL context."""
        if self._renderer is not None:
            self._renderer.close()
        super().destroy_node()

    def _on_twist(self, twist: Twist) -> None:
        numbers = [getattr(part, axis) for part in (twist.linear, twist.angular) for axis in "xyz"]
        if not all(map(math.isfinite, numbers)):
            self.get_logger().warning(f"cmd_vel: expected finite numbers, got {numbers}; ignored")
            return
        self._twist, self._twist_age = twist, 0.0

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            pose, frame, _ = pose_from_stamped(message)
            if frame not in ("", self._settings["world_frame"]):
                raise ValueError(f"header.frame_id: expected {self._settings['world_frame']!r}, got {frame!r}")
        except ValueError as error:
            self.get_logger().warning(f"cmd_pose: {error}; ignored")
            return
        self._twist = None
        if not self._robot.jump(pose):
            self.get_logger().warning(f"cmd_pose: {pose[:3, 3].tolist()} is inside or beside something; ignored")

    def _on_timer(self) -> None:
        self._move()
        seconds = self._frames * self._period
        if self._clock_publisher is not None:
            stamp = stamp_from_ns(round(seconds * 1e9))
            self._clock_publisher.publish(Clock(clock=stamp))
        else:
            stamp = self.get_clock().now().to_msg()
        self._publish(stamp, seconds)
        self._frames += 1

    def _move(self) -> None:
        if self._twist is None:
            self._robot.step()
            return
        if self._twist_age < self._settings["command_timeout"]:
            linear, angular = self._twist.linear, self._twist.angular
            self._robot.drive((linear.x, linear.y, linear.z), (angular.x, angular.y, angular.z), self._period)
            if self._robot.collided:
                self.get_logger().warning("cmd_vel: something is in the way", throttle_duration_sec=2.0)
        self._twist_age += self._period

    def _publish(self, stamp: Time, seconds: float) -> None:
        assert self._renderer is not None
        frame = self._renderer.render(self._robot.pose, seconds)
        header = Header(stamp=stamp, frame_id=self._settings["camera_frame"])
        pose = PoseStamped(header=Header(stamp=stamp, frame_id=self._settings["world_frame"]))
        pose.pose = pose_to_msg(self._robot.pose)
        self._pose.publish(pose)
        self._info.publish(camera_to_info(self._renderer.camera(self._robot.pose), header))
        self._image.publish(numpy_to_image(frame.rgb, "rgb8", header))
        self._depth.publish(depth_from_metres(frame.depth, self._settings["depth_encoding"], header))
        if self._labels.get_subscription_count():
            self._labels.publish(numpy_to_image(frame.labels, "mono8", header))


def main() -> None:
    """Run the node until it is interrupted."""
    rclpy.init()
    try:
        node = SimCamera()
    except (ValueError, RuntimeError) as error:
        rclpy.try_shutdown()
        sys.exit(f"sim_camera: {error}")
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # An interrupt in the middle of a callback invalidates the context under it; what fails then is no fault.
        if rclpy.ok():
            raise
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()
