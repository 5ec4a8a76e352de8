"""`mirage bench node`: the node as a process, measured by a subscriber in another one, over DDS.

Pose to preview with the node idle and while it imagines, imagined frames a second as received, messages lost of a long
stream of previews, and time from a cancel to its answer in denoising steps.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from mirage_ros.ros.dds import use_default_profile

use_default_profile()

import numpy as np  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
import rclpy  # noqa: E402
import torch  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from torch import Tensor  # noqa: E402
from tqdm import trange  # noqa: E402

from mirage_ros.bench.timing import neighbours, surroundings  # noqa: E402
from mirage_ros.client import ImaginationCancelled, Mirage  # noqa: E402
from mirage_ros.ros.conversions import ns_from_stamp, pose_to_stamped, poses_to_path, stamp_from_ns  # noqa: E402
from mirage_ros.ros.executable import parameter_arguments, running  # noqa: E402
from mirage_ros.ros.parameters import PRESETS  # noqa: E402
from mirage_ros.ros.topics import topic  # noqa: E402
from mirage_ros.sim.paths import plan_path  # noqa: E402
from mirage_ros.sim.renderer import Renderer  # noqa: E402
from mirage_ros.sim.scene import build_scene  # noqa: E402

TIMEOUT = 300.0


class Subscriber:
    """Sends commands and notes when what they ask for arrives.

    Attributes:
        previews, imagined: seconds by `time.perf_counter` at which images came, by their stamps in nanoseconds.
    """

    def __init__(self) -> None:
        """Join the graph."""
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("bench", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.previews: dict[int, float] = {}
        self.imagined: dict[int, float] = {}
        for name, times in (("preview/image", self.previews), ("imagined/image", self.imagined)):
            row = topic(name)
            self._node.create_subscription(
                row.kind, name, lambda message, times=times: self._note(times, message), row.qos()
            )
        self._publishers: dict[str, Any] = {}
        for name in ("path", "pose", "preview/pose"):
            row = topic(name)
            self._publishers[name] = self._node.create_publisher(row.kind, name, row.qos())
        self.spin_until(lambda: all(p.get_subscription_count() for p in self._publishers.values()))

    def _note(self, times: dict[int, float], message: Any) -> None:
        times[ns_from_stamp(message.header.stamp)] = time.perf_counter()

    def spin_until(self, done: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
        """Receive until something holds; whether it did in time."""
        end = time.monotonic() + timeout
        while not done():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def send_pose(self, name: str, pose: Tensor) -> int:
        """Send a pose to the topic `pose` or `preview/pose`; its stamp in nanoseconds."""
        stamp = int(self._node.get_clock().now().nanoseconds)
        header = Header(stamp=stamp_from_ns(stamp), frame_id="map")
        self._publishers[name].publish(pose_to_stamped(pose.double(), header))
        return stamp

    def send_path(self, poses: Tensor) -> list[int]:
        """Send a path; the stamps of its frames."""
        now = self._node.get_clock().now().nanoseconds
        stamps = [now + index for index in range(len(poses))]
        self._publishers["path"].publish(poses_to_path(poses.double(), Header(frame_id="map"), stamps))
        return stamps

    def preview(self, pose: Tensor, timeout: float) -> list[float]:
        """Milliseconds from sending a pose to receiving its preview; empty if it did not come."""
        start = time.perf_counter()
        stamp = self.send_pose("preview/pose", pose)
        came = self.spin_until(lambda: stamp in self.previews, timeout)
        return [1000 * (self.previews[stamp] - start)] if came else []

    def follow(self, poses: Tensor) -> tuple[float, float]:
        """Seconds until the first frame of a path, and frames a second from then on, as received."""
        start = time.perf_counter()
        stamps = self.send_path(poses)
        if not self.spin_until(lambda: stamps[-1] in self.imagined):
            raise TimeoutError(f"the path's frames did not arrive within {TIMEOUT:g} s")
        times = [self.imagined[stamp] for stamp in stamps if stamp in self.imagined]
        if len(times) < len(stamps):
            raise RuntimeError(f"{len(stamps) - len(times)} of {len(stamps)} imagined frames were lost")
        return times[0] - start, len(times) / (times[-1] - start)

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def node_options(description: str | None) -> argparse.ArgumentParser:
    """A parser of the options that `node` and `soak` share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--random-weights", action="store_true", help="measure the preset untrained")
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0 measures how many are worth it")
    return parser


@contextmanager
def started(
    options: argparse.Namespace, more: Mapping[str, object] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Mirage]]:
    """The node as a process in a domain of its own, and its client, while the context lasts.

    Args:
        options: of `node_options`.
        more: further parameters of the node.
    """
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    with tempfile.TemporaryDirectory() as folder:
        parameters = {
            "preset": options.preset,
            "random_weights": options.random_weights,
            "threads": options.threads,
            "memory.folder": folder,
            "memory.restore": False,
            "observation.enabled": False,
            **(more or {}),
        }
        with (
            running("mirage", parameter_arguments(parameters), log=Path(folder, "mirage.log")) as process,
            Mirage(timeout=TIMEOUT) as mirage,
        ):
            yield process, mirage


def print_figures(figures: dict[str, Any]) -> None:
    """A line each."""
    for name, value in figures.items():
        print(f"{name:<45} {value:.1f}" if isinstance(value, float) else f"{name:<45} {value}", flush=True)


def measure(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Figures by name, as they are measured."""
    start = time.perf_counter()
    with ExitStack() as stack:
        _, mirage = stack.enter_context(started(options))
        yield {"start to active, s": time.perf_counter() - start}
        subscriber = stack.enter_context(closing(Subscriber()))
        scene = build_scene(3, "rooms", 0)
        path = plan_path(scene, 24 + options.frames, 3)
        walk = path[16 : 16 + options.frames]
        with Renderer(scene, 128, 192) as renderer:
            for pose in path[:24]:
                frame = renderer.render(pose)
                mirage.observe(frame.rgb, frame.depth, frame.camera)
        for pose in path[:5]:
            subscriber.preview(pose, TIMEOUT)
        came: list[float] = []
        for index in trange(options.previews, desc="previews", mininterval=2, leave=False):
            came += subscriber.preview(path[index % len(path)], 30.0)
        yield {"previews asked for": options.previews, "previews lost": options.previews - len(came)}
        yield spread("pose to preview", came)
        yield spread("the same while imagining", busy(subscriber, path, walk, options.busy))
        subscriber.follow(walk)
        first, rate = subscriber.follow(walk)
        yield {"path: first frame after, s": first, "path: frames a second as received": rate}
        answered, step = cancel(mirage, path)
        yield {"cancel answered after, ms": answered, "one denoising step, ms": step}
        status = mirage.status()
        yield {"memory bytes / cap": f"{status.bytes} / {status.max_bytes}"}
        for stage in ("read", "denoise", "decode", "perceive", "write"):
            yield {f"last chunk: {stage}, ms a frame": 1000 * getattr(status, f"{stage}_time")}


def spread(name: str, milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    median, high = np.percentile(milliseconds, [50, 95])
    return {f"{name}, median, ms": float(median), f"{name}, 95th percentile, ms": float(high)}


def busy(subscriber: Subscriber, path: Tensor, walk: Tensor, count: int) -> list[float]:
    """Milliseconds from pose to preview while one walk after the other is imagined; poses at irregular moments."""
    came: list[float] = []
    last = subscriber.send_path(walk)[-1]
    for index, pause in enumerate(np.random.default_rng(0).uniform(0.05, 0.25, count)):
        if last in subscriber.imagined:
            last = subscriber.send_path(walk)[-1]
        subscriber.spin_until(lambda: False, pause)
        came += subscriber.preview(path[index % len(path)], TIMEOUT)
    subscriber.spin_until(lambda: last in subscriber.imagined)
    return came


def cancel(mirage: Mirage, path: Tensor) -> tuple[float, float]:
    """Milliseconds from a cancel to its answer, and of one denoising step (median over five goals)."""
    answers: list[float] = []
    steps: list[float] = []
    for _ in range(5):
        times: list[float] = []

        def note(feedback: Any, times: list[float] = times) -> None:
            if feedback.stage == "denoise":
                times.append(time.perf_counter())

        goal = mirage.start([path], on_feedback=note, frames=False)
        while len(times) < 2:
            time.sleep(0.001)
        start = time.perf_counter()
        goal.cancel()
        try:
            goal.result(TIMEOUT)
        except ImaginationCancelled:
            answers.append(time.perf_counter() - start)
        steps += list(np.diff(times))
    return 1000 * float(np.median(answers)), 1000 * float(np.median(steps))


def main() -> None:
    """Print the figures."""
    parser = node_options(__doc__)
    parser.add_argument("--frames", type=int, default=25, help="of a path")
    parser.add_argument("--previews", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=100, help="previews while imagining")
    parser.add_argument("--neighbours", type=int, default=0, help="processes that keep a core busy each")
    options = parser.parse_args()
    beside = surroundings(options.neighbours)
    print(f"preset {options.preset}, {platform.machine()}, {beside}, torch {torch.__version__}", flush=True)
    with neighbours(options.neighbours):
        for figures in measure(options):
            print_figures(figures)
