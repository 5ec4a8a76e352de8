"""The demo's story: the robot looks around, the planner previews, imagines a path, and compares three ways on."""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mirage_ros.ros.dds import use_default_profile

use_default_profile()

import numpy as np  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
from tqdm import tqdm  # noqa: E402

from mirage_ros.client import Mirage  # noqa: E402
from mirage_ros.demo.bag_writer import BagWriter  # noqa: E402
from mirage_ros.demo.maps import ask_prospect  # noqa: E402
from mirage_ros.demo.recorder import Recorder  # noqa: E402
from mirage_ros.demo.results import DemoResult, draw  # noqa: E402
from mirage_ros.demo.robots import RecordedRobot, Robot, SimRobot  # noqa: E402
from mirage_ros.recordings.rgbd_folder import RgbdFolder  # noqa: E402
from mirage_ros.resources import weights_directory  # noqa: E402
from mirage_ros.ros.executable import parameter_arguments, running  # noqa: E402
from mirage_ros.ros.parameters import PRESETS  # noqa: E402
from mirage_ros.sim.paths import plan_path  # noqa: E402
from mirage_ros.sim.scene import FAMILIES, build_scene  # noqa: E402

# A scene that the shipped weights were not trained on (`mirage_ros.sim.splits`).
SEED = 1_000_036
# Drawing shares the cores with the model: no faster than the story needs.
CAMERA_RATE = 5.0
# Loading the model on a slow and busy machine; a chunk there.
START_TIMEOUT, WORK_TIMEOUT = 900.0, 900.0
# Between looks whether the node is still there.
PATIENCE = 20.0
UNTRAINED = "Untrained weights: this shows that everything runs and how fast, not what it can draw."


def play(robot: Robot, recorder: Recorder, mirage: Mirage, rate: float, timings: dict[str, float]) -> DemoResult:
    """Act out the story over ROS topics, services and the action; adds to the timings."""
    plan = robot.plan
    indices = tqdm(range(len(plan.walk)), desc="the robot looks around", unit="frame")
    walk = [robot.show(mirage, index) for index in indices]
    previews, delays = [], []
    for pose in tqdm(plan.path, desc="what the memory knows", unit="view"):
        begin = time.perf_counter()
        previews.append(mirage.preview(pose))
        delays.append(1000 * (time.perf_counter() - begin))
        recorder.executor.spin_once(timeout_sec=0)

    start = time.monotonic()
    recorder.frames.clear()
    recorder.send_path(plan.path, rate)
    with tqdm(total=len(plan.path), desc="imagine a path", unit="frame") as bar:

        def complete() -> bool:
            bar.update(len(recorder.frames) - bar.n)
            return len(recorder.frames) >= len(plan.path)

        recorder.spin_until(complete, WORK_TIMEOUT, "the whole imagined path")
    imagined = sorted(recorder.frames, key=lambda frame: frame.stamp)
    received = [frame.received - start for frame in imagined]

    labels, candidates = zip(*plan.candidates, strict=True)
    total = sum(map(len, candidates))
    with tqdm(total=total, desc=f"compare {len(candidates)} candidates", unit="frame") as bar:
        goal = mirage.start(
            candidates, labels=labels, on_feedback=lambda feedback: bar.update(feedback.frames_done - bar.n)
        )
        recorder.spin_until(goal.done, WORK_TIMEOUT, "the action's result")
    result = goal.result(0)
    prospect = ask_prospect(mirage, plan.candidates)
    recorder.spin_until(lambda: "memory/points" in recorder.last, 30.0, "a cloud")
    indices = tqdm(range(len(plan.path)), desc="what is really there", unit="view")
    truth = [robot.look(index) for index in indices]
    timings |= {
        "pose to preview, median, ms": statistics.median(delays),
        "pose to preview, 95th percentile, ms": float(np.percentile(delays, 95)),
        "path: seconds to the first frame": min(received),
        "path: frames a second as received": len(received) / max(received),
        "action: frames a second, all candidates": 1 / result.seconds_per_frame,
    }
    stamps = {int(frame.stamp) for frame in imagined}
    recorder.spin_until(lambda: stamps <= recorder.uncertainty.keys(), 30.0, "how sure imagined depth is")
    doubt = [recorder.uncertainty[int(frame.stamp)] for frame in imagined]
    return DemoResult(walk, truth, previews, imagined, doubt, result, prospect, timings)


def connected(process: subprocess.Popen[bytes]) -> Mirage:
    """A client of the node, however long that takes to load, as long as its process lives."""
    limit = time.monotonic() + START_TIMEOUT
    while True:
        try:
            return Mirage(timeout=WORK_TIMEOUT, connect_timeout=PATIENCE)
        except TimeoutError:
            if process.poll() is not None:
                raise RuntimeError(f"the node ended with status {process.returncode}") from None
            if time.monotonic() > limit:
                raise


@contextlib.contextmanager
def started_robot(options: argparse.Namespace, recorder: Recorder) -> Iterator[Robot]:
    """A robot in a simulated room, or one that walked in the past."""
    if options.rgbd:
        yield RecordedRobot(options.rgbd, options.walk, options.frames)
        return
    arguments = {"family": options.family, "seed": options.seed, "rate": CAMERA_RATE, "motion": "hold", "moving": 0}
    path = plan_path(build_scene(options.seed, options.family, 0), options.walk + options.frames, options.seed)
    with running("sim_camera", parameter_arguments(arguments), log=options.out / "sim_camera.log"):
        yield SimRobot(recorder, options.walk, options.frames, path)


def main() -> None:
    """Run the demo."""
    options = _options()
    options.out.mkdir(parents=True, exist_ok=True)
    # A domain of its own, so that the demo neither hears nor disturbs other ROS programs on this machine.
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    trained = {"test": False, "default": (weights_directory() / "default").is_dir()}.get(options.preset, True)
    if not trained:
        print(f"demo: no weights of preset {options.preset}. {UNTRAINED}")
    log = options.out / "mirage.log"
    log.write_bytes(b"")
    parameters: dict[str, Any] = {
        "preset": options.preset,
        "random_weights": not trained,
        "observation.enabled": False,
        "memory.folder": str(options.out.resolve()),
        "memory.restore": False,
        "memory.autosave": 0.0,
    }
    arguments = parameter_arguments(parameters)
    if not options.rgbd:
        # The simulated camera calls its pose the true one.
        arguments += ["-r", "camera_pose:=true_pose"]
    print("starting the camera and the node, loading the model ...", flush=True)
    start = time.monotonic()
    try:
        with (
            BagWriter(options.out / "bag") as bag,
            running("mirage", arguments, log=log) as node,
            contextlib.closing(Recorder(bag)) as recorder,
            started_robot(options, recorder) as robot,
            connected(node) as mirage,
        ):
            timings = {"seconds until the node was active": time.monotonic() - start}
            shown = play(robot, recorder, mirage, options.rate, timings)
            draw(shown, robot, mirage, recorder, options.out, options.rate, "" if trained else UNTRAINED)
    except (RuntimeError, TimeoutError, OSError, ValueError) as error:
        sys.exit(f"demo: {error}\n{log.read_text(errors='replace')[-3000:]}")
    print(f"done in {time.monotonic() - start:.0f} s:")
    for name in (
        "index.html",
        "side_by_side.mp4",
        "contact_sheet.png",
        "candidates.png",
        "maps.png",
        "cloud.ply",
        "cloud.png",
    ):
        print(f"  {options.out / name}")
    print(f"  {options.out / 'bag'}  {options.out / 'timings.json'}")
    print(f"drive through it in a browser: mirage view {options.out / 'memory.safetensors'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A robot camera, the node and a planner, and a page that shows them.")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    parser.add_argument("--rgbd", type=Path, help="a recorded walk instead of the simulator, see recordings.rgbd")
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--walk", type=int, default=24, help="camera frames for the memory")
    parser.add_argument("--frames", type=int, default=25, help="frames to imagine")
    parser.add_argument("--rate", type=float, default=10.0, help="frames a second of the film")
    parser.add_argument("--family", choices=FAMILIES, default="rooms", help="of the simulated scene")
    parser.add_argument("--seed", type=int, default=SEED, help="of the simulated scene")
    options = parser.parse_args()
    if options.walk < 2 or options.frames < 4 or options.frames // 2 > options.walk:
        parser.error(
            f"expected --walk >= 2, --frames >= 4 and at most twice the walk, got {options.walk}, {options.frames}"
        )
    if options.rgbd is not None:
        try:
            RgbdFolder(options.rgbd)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    return options
