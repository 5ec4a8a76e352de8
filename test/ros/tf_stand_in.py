"""A small stand-in of tf2_ros' Buffer and TransformListener over real /tf messages, and tf2_msgs from its one file.

The wheels have neither. The stand-in gives what the node uses: `lookup_transform(target, source, time, timeout)`, which
interpolates between two transforms and raises for what is unknown, in the future or too old; `clear`; `unregister`.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
import subprocess
import sys
import types
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from scipy.spatial.transform import Rotation, Slerp
from std_msgs.msg import Header

from mirage_ros.poses import body_to_optical
from mirage_ros.ros.conversions import pose_to_msg, stamp_from_ns

ROOT = Path(__file__).parents[2]
PACKAGE_XML = """<package format="3"><name>tf2_msgs</name><version>0.0.0</version>
<description>TF's message.</description>
<maintainer email="nobody@example.com">nobody</maintainer><license>BSD-3-Clause</license>
<buildtool_depend>ament_cmake</buildtool_depend><depend>geometry_msgs</depend>
<member_of_group>rosidl_interface_packages</member_of_group></package>"""
CMAKE = """cmake_minimum_required(VERSION 3.20)
project(tf2_msgs LANGUAGES C CXX)
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
find_package(geometry_msgs REQUIRED)
rosidl_generate_interfaces(${PROJECT_NAME} "msg/TFMessage.msg" DEPENDENCIES geometry_msgs)
ament_package()"""


def build_messages(folder: Path) -> Path:
    """Build tf2_msgs into a folder, with what built this package; the install prefix."""
    import rosidl_generator_c

    prefix, install = Path(rosidl_generator_c.__file__).resolve().parents[4], folder / "install"
    (folder / "msg").mkdir(parents=True)
    (folder / "msg" / "TFMessage.msg").write_text("geometry_msgs/TransformStamped[] transforms\n")
    (folder / "package.xml").write_text(PACKAGE_XML)
    (folder / "CMakeLists.txt").write_text(CMAKE)
    environment = dict(os.environ, AMENT_PREFIX_PATH=str(prefix), CMAKE_PREFIX_PATH=str(prefix))
    environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None)
    environment["LD_LIBRARY_PATH"] = f"{prefix}/lib:{environment.get('LD_LIBRARY_PATH', '')}"
    environment["PATH"] = f"{prefix}/bin:{environment['PATH']}"
    options = [f"-DCMAKE_INSTALL_PREFIX={install}", "-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={sys.executable}"]
    options.append(f"-DCMAKE_PROJECT_tf2_msgs_INCLUDE={ROOT / 'cmake' / 'pip_wheels.cmake'}")
    build = str(folder / "build")
    commands = [
        ["cmake", "-S", str(folder), "-B", build, "-G", "Ninja", *options],
        ["cmake", "--build", build, "--target", "install"],
    ]
    for command in commands:
        subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return install


def load_messages(install: Path) -> None:
    """Make tf2_msgs importable in this process."""
    # Found by their names when a topic is made, and by the loader's own list when they need one another.
    os.environ["LD_LIBRARY_PATH"] = f"{install}/lib:{os.environ.get('LD_LIBRARY_PATH', '')}"
    libraries = sorted((install / "lib").glob("*.so"), key=lambda path: "generator_c" not in path.name)
    for _ in range(3):
        for path in list(libraries):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            libraries.remove(path)
    (packages,) = install.glob("lib/python3*/site-packages")
    sys.path.append(str(packages))
    importlib.invalidate_caches()


def matrix(transform) -> np.ndarray:
    result = np.eye(4)
    q, p = transform.rotation, transform.translation
    result[:3, :3] = Rotation.from_quat([q.x, q.y, q.z, q.w]).as_matrix()
    result[:3, 3] = p.x, p.y, p.z
    return result


CACHE = 10 * 10**9


class UnknownTransformError(Exception):
    """What tf2's own exceptions are here."""


class Buffer:
    def __init__(self) -> None:
        self._links: dict[str, tuple[str, bool, dict[int, np.ndarray]]] = {}

    def clear(self) -> None:
        self._links = {child: link for child, link in self._links.items() if link[1]}

    def set_transform(self, message, static: bool) -> None:
        stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        link = self._links.setdefault(message.child_frame_id, (message.header.frame_id, static, {}))
        # As tf2's buffers do, for as long as they keep by default: first what is old goes, then what is not old comes.
        oldest = max(link[2], default=stamp) - CACHE
        for old in [known for known in link[2] if known < oldest and not static]:
            del link[2][old]
        if static or stamp >= oldest:
            link[2][stamp] = matrix(message.transform)

    def _chain(self, frame: str) -> list[str]:
        chain = [frame]
        while chain[-1] in self._links:
            chain.append(self._links[chain[-1]][0])
        return chain

    def _at(self, child: str, stamp: int) -> np.ndarray:
        _, static, known = self._links[child]
        times = sorted(known)
        if static:
            return known[times[-1]]
        if not times or not times[0] <= stamp <= times[-1]:
            raise UnknownTransformError(
                f"Lookup would require extrapolation of {child!r} to {stamp}; known are {times[:1]}..."
            )
        if stamp in known:
            return known[stamp]
        index = int(np.searchsorted(times, stamp))
        span = times[index - 1 : index + 1]
        share = (stamp - span[0]) / (span[1] - span[0])
        ends = [known[time] for time in span]
        result = np.eye(4)
        turn = Slerp([0, 1], Rotation.from_matrix([end[:3, :3] for end in ends]))
        result[:3, :3] = turn([share]).as_matrix()[0]
        result[:3, 3] = (1 - share) * ends[0][:3, 3] + share * ends[1][:3, 3]
        return result

    def lookup_transform(self, target: str, source: str, time, timeout=None):
        up, down = self._chain(source), self._chain(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            raise UnknownTransformError(f"{source!r} and {target!r} are not part of the same tree")
        moving = [child for chain in (up, down) for child in chain[: chain.index(common)] if not self._links[child][1]]
        # Zero means the latest moment that all links know.
        stamp = time.nanoseconds or min((max(self._links[child][2]) for child in moving), default=0)
        poses = []
        for chain in (up, down):
            pose = np.eye(4)
            for frame in chain[: chain.index(common)]:
                pose = self._at(frame, stamp) @ pose
            poses.append(pose)
        found = np.linalg.inv(poses[1]) @ poses[0]
        q, p = Rotation.from_matrix(found[:3, :3]).as_quat(), found[:3, 3]
        rotation = Quaternion(**dict(zip("xyzw", map(float, q), strict=True)))
        translation = Vector3(**dict(zip("xyz", map(float, p), strict=True)))
        return SimpleNamespace(transform=Transform(translation=translation, rotation=rotation))


class TransformListener:
    def __init__(self, buffer: Buffer, node) -> None:
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from tf2_msgs.msg import TFMessage

        self._node = node
        kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self._subscriptions = [
            node.create_subscription(
                TFMessage,
                topic,
                lambda message, static=static: [buffer.set_transform(each, static) for each in message.transforms],
                qos,
            )
            for topic, static, qos in (("/tf", False, QoSProfile(depth=100)), ("/tf_static", True, kept))
        ]

    def unregister(self) -> None:
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)


def module() -> types.ModuleType:
    """What `import tf2_ros` gives."""
    result = types.ModuleType("tf2_ros")
    result.Buffer, result.TransformListener = Buffer, TransformListener
    return result


class TfRobot:
    """Sends transforms to a node and camera frames in frames of TF."""

    @staticmethod
    def at(x=0.0, y=0.0, z=0.0, yaw=0.0):
        pose = torch.eye(4, dtype=torch.float64)
        cosine, sine = math.cos(yaw), math.sin(yaw)
        pose[:2, :2] = torch.tensor([[cosine, -sine], [sine, cosine]])
        pose[:3, 3] = torch.tensor([x, y, z])
        return pose

    camera = body_to_optical(at(z=0.5))

    def __init__(self, node):
        from rclpy.qos import DurabilityPolicy, QoSProfile
        from tf2_msgs.msg import TFMessage

        self.node, self.kind = node, TFMessage
        kept = QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.tf = node.tester.create_publisher(TFMessage, "/tf", 100)
        self.static = node.tester.create_publisher(TFMessage, "/tf_static", kept)
        node.spin_until(lambda: self.tf.get_subscription_count() and self.static.get_subscription_count())
        # What was written, whether or not it added anything to the memory.
        self.seen, session = {}, node.node.configured.context.session
        observe = session.observe

        def observed(frame):
            added = observe(frame)
            self.seen[frame.stamp] = frame.camera.cam2world
            return added

        session.observe = observed

    def now(self):
        return self.node.tester.get_clock().now().nanoseconds

    def send(self, parent, child, pose, stamp, static=False):
        message = pose_to_msg(pose)
        p = message.position
        stamped = TransformStamped(
            header=Header(stamp=stamp_from_ns(stamp), frame_id=parent),
            child_frame_id=child,
            transform=Transform(translation=Vector3(x=p.x, y=p.y, z=p.z), rotation=message.orientation),
        )
        (self.static if static else self.tf).publish(self.kind(transforms=[stamped]))

    def mount(self):
        self.send("base_link", "camera", self.camera, 0, static=True)
        self.send("base_link", "rear", self.at(yaw=math.pi) @ self.camera, 0, static=True)
        self.node.spin(0.2)

    def show(self, stamp, frame="camera", **options):
        for name, message in self.node.camera_frame(**options).items():
            if name != "camera_pose":
                message.header.stamp, message.header.frame_id = stamp_from_ns(stamp), frame
                self.node.publish(name, message)
