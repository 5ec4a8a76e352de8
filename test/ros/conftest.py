"""A node `mirage` inside the test's own process, heard over DDS, one for each module: loading it costs seconds."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

# The minute preset on one thread: waiting for a second one costs more than it brings.
PARAMETERS = {"preset": "test", "random_weights": True, "threads": 1, "memory.restore": False, "observation.rate": 0.0}
# Seconds. Generous: on a busy machine a step takes as long as it takes.
TIMEOUT = 240.0
# After so many a camera frame is sent again, more than a loaded machine takes for one.
REPEAT = 40.0


class RunningNode:
    """A `MirageNode` that spins in a thread, and a tester's node in a graph participant of its own."""

    def __init__(self, domain: int, folder: Path, namespace: str = "", **parameters: object) -> None:
        from rclpy.context import Context
        from rclpy.executors import SingleThreadedExecutor
        from rclpy.parameter import Parameter

        from mirage_ros.ros.node import MirageNode

        self.folder, self.namespace = folder, namespace
        self.contexts = [Context(), Context()]
        for context in self.contexts:
            context.init(domain_id=domain)
        values = {**PARAMETERS, "memory.folder": str(folder), **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        self.node = MirageNode(context=self.contexts[0], namespace=namespace, parameter_overrides=overrides)
        self._executor = SingleThreadedExecutor(context=self.contexts[0])
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._spin, daemon=True)
        import rclpy

        self.tester = rclpy.create_node("tester", namespace=namespace, context=self.contexts[1])
        self.executor = SingleThreadedExecutor(context=self.contexts[1])
        self.executor.add_node(self.tester)
        self.received: dict[str, list] = {}
        self._publishers: dict[str, object] = {}
        self.failure: BaseException | None = None

    def _spin(self) -> None:
        from rclpy.executors import ExternalShutdownException

        try:
            self._executor.spin()
        except ExternalShutdownException:
            pass
        except BaseException as error:
            self.failure = error

    def start(self) -> RunningNode:
        """Configure and activate."""
        from mirage_ros.ros.node import start

        assert start(self.node)
        self._thread.start()
        return self

    def spin_in_background(self) -> RunningNode:
        """Only spin; transitions are the test's own."""
        self._thread.start()
        return self

    def close(self) -> None:
        self._executor.shutdown()
        if self._thread.is_alive():
            self._thread.join(TIMEOUT)
        self.node.destroy_node()
        self.executor.shutdown()
        self.tester.destroy_node()
        for context in self.contexts:
            context.try_shutdown()
        assert self.failure is None, self.failure

    def listen(self, *names: str) -> None:
        """Keep what comes on these topics of the node in `received`."""
        from mirage_ros.ros.topics import topic

        for name in names:
            if name in self.received:
                continue
            self.received[name] = []
            row = topic(name)
            self.tester.create_subscription(row.kind, row.name, self.received[name].append, row.qos())
            if not name.startswith("/"):
                self.spin_until(lambda name=name: self.tester.count_publishers(self.tester.resolve_topic_name(name)))
        # Matching is mutual, not simultaneous: the node may need another moment to know the listener.
        self.spin(0.3)

    def publish(self, name: str, message: object) -> None:
        """Publish on a topic of the node, once it listens."""
        from mirage_ros.ros.topics import topic

        if name not in self._publishers:
            row = topic(name)
            self._publishers[name] = self.tester.create_publisher(row.kind, row.name, row.qos(camera="reliable"))
            self.spin_until(self._publishers[name].get_subscription_count)
        self._publishers[name].publish(message)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def spin_until(self, condition, timeout: float = TIMEOUT) -> None:
        """Receive until the condition holds."""
        end = time.monotonic() + timeout
        while not condition():
            assert self.failure is None, self.failure
            if time.monotonic() > end:
                pytest.fail(f"not within {timeout:g} s; received { {k: len(v) for k, v in self.received.items()} }")
            self.executor.spin_once(timeout_sec=0.02)

    def stamp(self):
        return self.tester.get_clock().now().to_msg()

    def camera_frame(self, seed: int = 0, x: float = 0.0, metres: float = 2.0) -> dict[str, object]:
        """Messages of one camera frame: a textured wall in front of the camera."""
        from std_msgs.msg import Header

        from mirage_ros.geometry import pinhole
        from mirage_ros.ros.conversions import camera_to_info, depth_from_metres, numpy_to_image, pose_to_stamped

        stamp = self.stamp()
        optics, world = Header(stamp=stamp, frame_id="camera"), Header(stamp=stamp, frame_id="map")
        pose = torch.eye(4, dtype=torch.float64)
        pose[0, 3] = x
        rgb = np.random.default_rng(seed).integers(0, 255, (80, 120, 3), dtype=np.uint8)
        return {
            "camera_pose": pose_to_stamped(pose, world),
            "camera_info": camera_to_info(pinhole(80, 120, vertical_fov=0.9), optics),
            "depth": depth_from_metres(np.full((80, 120), metres, np.float32), header=optics),
            "image": numpy_to_image(rgb, "rgb8", optics),
        }

    def observe(self, **frame: object) -> None:
        """Show a camera frame and wait until the memory has it."""
        session = self.node.configured.context.session
        before, messages, end = session.snapshot.changes, self.camera_frame(**frame), time.monotonic() + TIMEOUT
        while session.snapshot.changes == before and time.monotonic() < end:
            for name, message in messages.items():
                self.publish(name, message)
            # The node may not know the publisher yet whose subscriber it is: what came then is lost, and is sent again.
            again = time.monotonic() + REPEAT
            self.spin_until(lambda again=again: session.snapshot.changes > before or time.monotonic() > again)
        assert session.snapshot.changes > before, "the node did not take the camera frame"

    def call(self, name: str, **fields: object):
        """Call a service of the node."""
        from mirage_ros.ros.topics import SERVICES

        kind = next(kind for service, kind, _ in SERVICES if service == name)
        client = self.tester.create_client(kind, name)
        try:
            self.spin_until(client.service_is_ready)
            future = client.call_async(kind.Request(**fields))
            self.spin_until(future.done)
            return future.result()
        finally:
            self.tester.destroy_client(client)

    def diagnosis(self, part: str) -> str:
        """The newest message of one part of /diagnostics."""
        messages = [
            status.message
            for array in self.received.get("/diagnostics", [])
            for status in array.status
            if status.name == f"{self.node.get_fully_qualified_name()}: {part}"
        ]
        return messages[-1] if messages else ""


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Iterator[int]:
    """A DDS domain of the module's own, in the environment too, under the shipped profile."""
    import socket

    from mirage_ros.ros.dds import use_default_profile

    with pytest.MonkeyPatch.context() as patch, socket.socket(socket.AF_UNIX) as claim:
        for domain in range(10, 102):
            try:
                # The same claim as the fixture domain_id makes.
                claim.bind(f"\0mirage_ros_test_domain_{domain}")
                break
            except OSError:
                continue
        else:
            raise RuntimeError("every DDS domain is taken by a running test")
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_LOG_DIR", str(tmp_path_factory.mktemp("log")))
        patch.setenv("ROS_HOME", str(tmp_path_factory.mktemp("home")))
        profile = {name: os.environ.get(name) for name in ("FASTDDS_DEFAULT_PROFILES_FILE",)}
        use_default_profile()
        yield domain
        for name, value in profile.items():
            if value is None:
                os.environ.pop(name, None)


@pytest.fixture(scope="module")
def new_node(graph, tmp_path_factory) -> Iterator:
    """Makes nodes that end with the module."""
    nodes, threads = [], torch.get_num_threads()

    def make(namespace: str = "", **parameters: object) -> RunningNode:
        nodes.append(RunningNode(graph, tmp_path_factory.mktemp("memory"), namespace, **parameters))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def mirage(new_node) -> RunningNode:
    """An active node, shared by the tests of a module."""
    return new_node().start()


@pytest.fixture(scope="module")
def tf(tmp_path_factory):
    """tf2_ros' interface and tf2_msgs, those installed or the stand-ins."""
    spec = importlib.util.spec_from_file_location("tf_stand_in", Path(__file__).with_name("tf_stand_in.py"))
    tf_stand_in = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tf_stand_in)
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("tf2_msgs") is None:
            if not ((importlib.util.find_spec("rosidl_generator_c") and shutil.which("cmake")) or _cmake()):
                pytest.skip("neither tf2_msgs nor what builds it is installed")
            tf_stand_in.load_messages(tf_stand_in.build_messages(tmp_path_factory.mktemp("tf2_msgs") / "source"))
        if importlib.util.find_spec("tf2_ros") is None:
            patch.setitem(sys.modules, "tf2_ros", tf_stand_in.module())
        yield tf_stand_in.TfRobot


def _cmake():
    return Path(sys.executable).with_name("cmake").exists()
