"""`make demo`: a simulated robot camera on ROS topics, received over DDS and turned into pictures, a film and a bag."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from mirage_ros.ros.dds import use_default_profile

use_default_profile()

import numpy as np  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
import rclpy  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mirage_ros.media import VideoWriter, colour_depth, colour_labels, contact_sheet, save_png  # noqa: E402
from mirage_ros.ros.bag import BagWriter  # noqa: E402
from mirage_ros.ros.processes import parameter_arguments, running  # noqa: E402
from mirage_ros.ros.receiver import CameraFrame, SimCameraReceiver  # noqa: E402

SCENES = (("rooms", 3), ("rooms", 9), ("halls", 0))
RATE = 10.0
COLUMNS = 6
# Building a scene and compiling shaders for software rendering takes seconds on a slow machine.
START_TIMEOUT = 60.0


def record(family: str, seed: int, frames: int, bag: BagWriter, log: Path) -> list[CameraFrame]:
    """Start the camera node in another process, receive `frames` frames over DDS and record every message."""
    arguments = parameter_arguments(
        {"family": family, "seed": seed, "rate": RATE, "path_length": frames, "width": 288, "height": 192}
    )
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node("demo", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        receiver = SimCameraReceiver(
            node, on_message=lambda name, message: bag.write(f"/{name}", message, time.time_ns())
        )
        with running("sim_camera", arguments, log=log) as camera:
            received = []
            for _ in tqdm(range(frames), desc=f"{family} {seed}", unit="frame"):
                if camera.poll() is not None:
                    raise RuntimeError(f"the camera node ended with status {camera.returncode}; see {log}")
                received.append(receiver.next(executor, START_TIMEOUT))
            return received
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def show(recordings: list[tuple[str, list[CameraFrame]]], out: Path) -> None:
    """Write contact_sheet.png and camera.mp4."""
    rows = []
    for name, frames in recordings:
        picked = [frames[i] for i in np.linspace(0, len(frames) - 1, COLUMNS).round().astype(int)]
        rows.append((f"{name}: image", [frame.rgb for frame in picked]))
        rows.append((f"{name}: depth, yellow is near", [colour_depth(frame.depth, far=8.0) for frame in picked]))
        rows.append(
            (f"{name}: grey static, orange moving, blue sky", [colour_labels(frame.labels) for frame in picked])
        )
    save_png(out / "contact_sheet.png", contact_sheet(rows))
    with VideoWriter(out / "camera.mp4", RATE) as video:
        for _, frames in recordings:
            far = max(float(frame.depth.max()) for frame in frames)
            for frame in frames:
                video.append(np.concatenate([frame.rgb, colour_depth(frame.depth, far)], axis=1))


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for the results")
    parser.add_argument("--frames", type=int, default=40, help="frames per scene")
    options = parser.parse_args()
    if options.frames < 2:
        parser.error(f"--frames: expected at least 2, got {options.frames}")
    options.out.mkdir(parents=True, exist_ok=True)
    # A domain of its own, so that the demo neither hears nor disturbs other ROS programs on this machine.
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    log = options.out / "sim_camera.log"
    log.write_bytes(b"")
    try:
        with BagWriter(options.out / "bag") as bag:
            recordings = [
                (f"{family} {seed}", record(family, seed, options.frames, bag, log)) for family, seed in SCENES
            ]
    except (RuntimeError, TimeoutError, OSError) as error:
        sys.exit(f"demo: {error}\n{log.read_text(errors='replace')[-2000:]}")
    show(recordings, options.out)
    for name in ("contact_sheet.png", "camera.mp4", "bag"):
        print(options.out / name)


if __name__ == "__main__":
    main()
