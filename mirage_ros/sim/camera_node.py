"""ROS node `sim_camera`: a simulated robot's camera, publishing what a depth camera would, and its true pose.

Topics, parameters and commands are listed in docs/simulator.md. Rendering happens in the executor's thread, because an
OpenGL context belongs to the thread that made it.
"""

from __future__ import annotations

import time

from mirage_ros.ros.executable import run  # isort: skip  (chooses the DDS profile, which must come before rclpy)

from builtin_interfaces.msg import Time
from geometry_msgs.msg import PoseStamped, Twist
from rclpy.clock import Clock as TimerClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Header

from mirage_ros.ros.conversions import (
    camera_to_info,
    depth_from_metres,
    numpy_to_image,
    pose_from_stamped,
    pose_to_stamped,
    stamp_from_ns,
)
from mirage_ros.ros.parameter_declaration import declare
from mirage_ros.ros.topics import image_qos
from mirage_ros.sim.camera_parameters import PARAMETERS
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.robot import CameraRobot
from mirage_ros.sim.scene import build_scene

# The camera moves by the time that passed, but never by more than this at once: after a stall it must not leap.
MAX_STEP = 0.5
# Metres or radians per second: faster is a mistake.
MAX_COMMAND = 100.0


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
        self._seconds = 0.0
        self._last: float | None = None
        self._twist: Twist | None = None
        self._twist_left = 0.0  # seconds that the command still holds

        qos, reliable = image_qos(get("reliability")), image_qos()
        self._image = self.create_publisher(Image, "image", qos)
        self._depth = self.create_publisher(Image, "depth", qos)
        self._labels = self.create_publisher(Image, "labels", qos)
        self._info = self.create_publisher(CameraInfo, "camera_info", reliable)
        self._pose = self.create_publisher(PoseStamped, "true_pose", reliable)
        self._clock_publisher = self.create_publisher(Clock, "/clock", 10) if get("publish_clock") else None
        self.create_subscription(Twist, "cmd_vel", self._on_twist, 10)
        self.create_subscription(PoseStamped, "cmd_pose", self._on_pose, 10)
        # A steady clock: with use_sim_time the ROS clock may be the very one that this node drives.
        self.create_timer(self._period, self._on_timer, clock=TimerClock(clock_type=ClockType.STEADY_TIME))
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
        if all(abs(number) <= MAX_COMMAND for number in numbers):
            self._twist, self._twist_left = twist, self._settings["command_timeout"]
        else:
            expected = f"finite numbers, at most {MAX_COMMAND:g} m/s or rad/s"
            self.get_logger().warning(
                f"cmd_vel: expected {expected}, got {numbers}; ignored", throttle_duration_sec=2.0
            )

    def _on_pose(self, message: PoseStamped) -> None:
        try:
            pose, frame, _ = pose_from_stamped(message)
            if frame not in ("", self._settings["world_frame"]):
                raise ValueError(f"header.frame_id: expected {self._settings['world_frame']!r}, got {frame!r}")
        except ValueError as error:
            self.get_logger().warning(f"cmd_pose: {error}; ignored")
            return
        if self._robot.jump(pose):
            self._twist = None
        else:
            place = [round(value, 3) for value in pose[:3, 3].tolist()]
            self.get_logger().warning(f"cmd_pose: {place} is outside the scene or too close to something; ignored")

    def _on_timer(self) -> None:
        duration = self._elapsed()
        self._move(duration)
        self._seconds += duration
        stamp = self.get_clock().now().to_msg()
        if self._clock_publisher is not None:
            stamp = stamp_from_ns(round(self._seconds * 1e9))
            self._clock_publisher.publish(Clock(clock=stamp))
        self._publish(stamp)

    def _elapsed(self) -> float:
        """Seconds since the last frame: real ones, or the period where this node makes the time."""
        now = time.monotonic()
        before, self._last = self._last, now
        if before is None:
            # Not zero: that stamp means "unset" or "the latest" to other nodes.
            return self._period
        if now - before > 1.5 * self._period:
            self.get_logger().warning(
                f"drawing takes {now - before:.3f} s a frame, more than the {self._period:.3f} s of the rate",
                throttle_duration_sec=10.0,
            )
        return self._period if self._clock_publisher is not None else min(now - before, MAX_STEP)

    def _move(self, duration: float) -> None:
        if self._twist is None:
            self._robot.step()
            return
        duration = min(duration, self._twist_left)
        self._twist_left -= duration
        if duration > 0:
            linear, angular = self._twist.linear, self._twist.angular
            self._robot.drive((linear.x, linear.y, linear.z), (angular.x, angular.y, angular.z), duration)
            if self._robot.collided:
                self.get_logger().warning("cmd_vel: something is in the way", throttle_duration_sec=2.0)

    def _publish(self, stamp: Time) -> None:
        assert self._renderer is not None
        frame = self._renderer.render(self._robot.pose, self._seconds)
        header = Header(stamp=stamp, frame_id=self._settings["camera_frame"])
        world = Header(stamp=stamp, frame_id=self._settings["world_frame"])
        self._pose.publish(pose_to_stamped(frame.camera.cam2world, world))
        self._info.publish(camera_to_info(frame.camera, header))
        self._image.publish(numpy_to_image(frame.rgb, "rgb8", header))
        self._depth.publish(depth_from_metres(frame.depth, self._settings["depth_encoding"], header))
        if self._labels.get_subscription_count():
            self._labels.publish(numpy_to_image(frame.labels, "mono8", header))


def main() -> None:
    """Run the node until it is interrupted."""
    run("sim_camera", SimCamera)
