"""`mirage bench node`: the node as a process, measured by a subscriber in another one, over DDS.

Pose to preview with the node idle and while it imagines, imagined frames a second as received, messages lost of a long
stream of previews, and time from a cancel to its answer in denoising steps.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mirage_ros.ros.dds_profile import use_default_profile

use_default_profile()

import numpy as np  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
import rclpy  # noqa: E402
import torch  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from torch import Tensor  # noqa: E402

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
    """Sends commands and notes when what they ask for arrives."""

    def __init__(self) -> None:
        """Join the graph."""
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("bench", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self.arrived: dict[str, dict[int, float]] = {"preview/image": {}, "imagined/image": {}}
        for name, times in self.arrived.items():
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

    def spin_until(self, done: Any, timeout: float = TIMEOUT) -> bool:
        """Receive until something holds; whether it did in time."""
        end = time.monotonic() + timeout
        while not done():
            if time.monotonic() > end:
                return False
            self._executor.spin_once(timeout_sec=0.02)
        return True

    def preview(self, pose: Tensor, timeout: float) -> float | None:
        """Seconds from sending a pose to receiving its preview; None if it did not come."""
        stamp = self._node.get_clock().now().nanoseconds
        message = pose_to_stamped(pose.double(), Header(stamp=stamp_from_ns(stamp), frame_id="map"))
        start = time.perf_counter()
        self._publishers["preview/pose"].publish(message)
        if not self.spin_until(lambda: stamp in self.arrived["preview/image"], timeout):
            return None
        return self.arrived["preview/image"][stamp] - start

    def stream(self, pose: Tensor) -> None:
        """Send a pose command and wait for nothing."""
        stamp = stamp_from_ns(self._node.get_clock().now().nanoseconds)
        self._publishers["pose"].publish(pose_to_stamped(pose.double(), Header(stamp=stamp, frame_id="map")))

    def spin_for(self, seconds: float) -> None:
        """Receive for a while."""
        end = time.monotonic() + seconds
        self.spin_until(lambda: time.monotonic() >= end, seconds + 1)

    def path(self, poses: Tensor) -> tuple[float, float]:
        """Seconds until the first frame, and frames a second from then on, as received."""
        start = time.perf_counter()
        stamps = self._send_path(poses)
        arrived = self.arrived["imagined/image"]
        if not self.spin_until(lambda: stamps[-1] in arrived):
            raise TimeoutError(f"the path's frames did not arrive within {TIMEOUT:g} s")
        times = [arrived[stamp] for stamp in stamps if stamp in arrived]
        if len(times) < len(stamps):
            raise RuntimeError(f"{len(stamps) - len(times)} of {len(stamps)} imagined frames were lost")
        return times[0] - start, len(times) / (times[-1] - start)

    def begin_path(self, poses: Tensor) -> int:
        """Send a path; the stamp of its last frame."""
        return self._send_path(poses)[-1]

    def _send_path(self, poses: Tensor) -> list[int]:
        now = self._node.get_clock().now().nanoseconds
        stamps = [now + index for index in range(len(poses))]
        self._publishers["path"].publish(poses_to_path(poses.double(), Header(frame_id="map"), stamps))
        return stamps

    def close(self) -> None:
        """Leave the graph."""
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


def resident_mebibytes(process: int) -> float:
    """Resident memory of a process, MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{process}/status has no VmRSS")


def look_around(mirage: Mirage, poses: Tensor, seed: int) -> None:
    """Show the node simulated camera frames."""
    with Renderer(build_scene(seed, "rooms", 0), 128, 192) as renderer:
        for pose in poses:
            frame = renderer.render(pose)
            mirage.observe(frame.rgb, frame.sensed, renderer.camera(pose))


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All figures by name."""
    parameters = {
        "preset": options.preset,
        "random_weights": options.random_weights,
        "memory.folder": str(folder),
        "memory.restore": False,
        "observation.enabled": False,
        "threads": options.threads,
    }
    figures: dict[str, Any] = {}
    with ExitStack() as stack:
        start = time.perf_counter()
        stack.enter_context(running("mirage", parameter_arguments(parameters), log=folder / "mirage.log"))
        mirage = stack.enter_context(Mirage(timeout=TIMEOUT))
        figures["start to active, s"] = time.perf_counter() - start
        path = plan_path(build_scene(3, "rooms", 0), 24 + options.frames, 3)
        look_around(mirage, path[:24], 3)
        subscriber = Subscriber()
        stack.callback(subscriber.close)
        for pose in path[:5]:
            subscriber.preview(pose, TIMEOUT)
        delays = [subscriber.preview(path[index % len(path)], 30.0) for index in range(options.previews)]
        came = [1000 * delay for delay in delays if delay is not None]
        figures["previews asked for"], figures["previews lost"] = len(delays), len(delays) - len(came)
        figures |= spread("pose to preview", came)
        figures |= spread("the same while imagining", busy(subscriber, path, options.frames, options.busy))
        subscriber.path(path[16 : 16 + options.frames])
        first, rate = subscriber.path(path[16 : 16 + options.frames])
        figures["path: first frame after, s"], figures["path: frames a second as received"] = first, rate
        figures["cancel answered after, ms"], figures["one denoising step, ms"] = cancel(mirage, path)
        status = mirage.status()
        figures["memory bytes / cap"] = f"{status.bytes} / {status.max_bytes}"
        for stage in ("read", "denoise", "decode", "perceive", "write"):
            figures[f"last chunk: {stage}, ms a frame"] = 1000 * getattr(status, f"{stage}_time")
    return figures


def spread(name: str, milliseconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile."""
    median, high = np.percentile(milliseconds, [50, 95])
    return {f"{name}, median, ms": float(median), f"{name}, 95th percentile, ms": float(high)}


def busy(subscriber: Subscriber, path: Tensor, frames: int, count: int) -> list[float]:
    """Milliseconds from pose to preview while one path after the other is imagined; poses at irregular moments."""
    pauses, came = np.random.default_rng(0).uniform(0.05, 0.25, count), []
    last = subscriber.begin_path(path[16 : 16 + frames])
    for index, pause in enumerate(pauses):
        if last in subscriber.arrived["imagined/image"]:
            last = subscriber.begin_path(path[16 : 16 + frames])
        subscriber.spin_for(pause)
        delay = subscriber.preview(path[index % len(path)], TIMEOUT)
        if delay is not None:
            came.append(1000 * delay)
    subscriber.spin_until(lambda: last in subscriber.arrived["imagined/image"])
    return came


def cancel(mirage: Mirage, path: Tensor) -> tuple[float, float]:
    """Milliseconds from a cancel to its answer, and of one denoising step (median over five goals)."""
    answers, steps = [], []
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--random-weights", action="store_true", help="measure the preset untrained")
    parser.add_argument("--frames", type=int, default=25, help="of a path")
    parser.add_argument("--previews", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=100, help="previews while imagining")
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0 leaves it to torch")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, Path(folder))
    load = os.getloadavg()[0]
    print(
        f"preset {options.preset}, {os.cpu_count()} cores ({platform.machine()}), load average {load:.1f}, "
        f"torch {torch.__version__}"
    )
    for name, value in figures.items():
        print(f"{name:<45} {value:.1f}" if isinstance(value, float) else f"{name:<45} {value}")
    if options.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
