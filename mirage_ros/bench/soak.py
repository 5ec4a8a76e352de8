"""`mirage bench soak`: steady pose commands for minutes; does resident memory stay flat, and the cap hold?

The node runs as a process of its own and is sent poses along a long path through a hall, with camera frames in between,
under a memory cap that it reaches.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mirage_ros.ros.dds_profile import use_default_profile

use_default_profile()

from mirage_ros.bench.node import TIMEOUT, Subscriber, resident_mebibytes  # noqa: E402  (the DDS profile comes first)
from mirage_ros.client import Mirage  # noqa: E402
from mirage_ros.ros.executable import parameter_arguments, running  # noqa: E402
from mirage_ros.ros.parameters import PRESETS  # noqa: E402
from mirage_ros.sim.paths import plan_path  # noqa: E402
from mirage_ros.sim.renderer import Renderer  # noqa: E402
from mirage_ros.sim.scene import build_scene  # noqa: E402

# Seconds between lines, and until the process counts as warmed up.
REPORT, WARM = 60.0, 120.0
# Pose commands between two camera frames.
OBSERVE_EVERY = 40


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run for the time; all figures by name."""
    parameters = {
        "preset": options.preset,
        "random_weights": options.random_weights,
        "threads": options.threads,
        "memory.folder": str(folder),
        "memory.restore": False,
        "memory.max_bytes": int(options.cap * 2**20),
        "observation.enabled": False,
    }
    scene = build_scene(3, "halls", 0)
    path = plan_path(scene, 600, 3)
    with ExitStack() as stack:
        process = stack.enter_context(running("mirage", parameter_arguments(parameters), log=folder / "mirage.log"))
        mirage = stack.enter_context(Mirage(timeout=TIMEOUT))
        subscriber = Subscriber()
        stack.callback(subscriber.close)
        renderer = stack.enter_context(Renderer(scene, 128, 192))
        start = time.monotonic()
        resident = [(0.0, resident_mebibytes(process.pid))]
        most_bytes = sent = 0
        warm: float | None = None
        while (seconds := time.monotonic() - start) < 60 * options.minutes:
            pose = path[sent % len(path)]
            if sent % OBSERVE_EVERY == 0:
                frame = renderer.render(pose)
                mirage.observe(frame.rgb, frame.sensed, renderer.camera(pose.double()))
            subscriber.stream(pose)
            sent += 1
            subscriber.spin_for(1 / options.rate)
            status = mirage.status()
            most_bytes = max(most_bytes, status.bytes)
            if process.poll() is not None:
                raise RuntimeError(f"the node ended with status {process.returncode} after {seconds:.0f} s")
            if warm is None and seconds >= WARM:
                warm = resident_mebibytes(process.pid)
            if seconds - resident[-1][0] >= REPORT:
                resident.append((seconds, resident_mebibytes(process.pid)))
                print(
                    f"{seconds / 60:5.1f} min: {resident[-1][1]:7.1f} MiB resident, {status.elements} elements in "
                    f"{status.bytes} of {status.max_bytes} bytes, {status.evicted} evicted, {sent} poses sent, "
                    f"{len(subscriber.arrived['imagined/image'])} frames imagined",
                    flush=True,
                )
        status = mirage.status()
        return {
            "minutes": (time.monotonic() - start) / 60,
            "resident memory at the start, MiB": resident[0][1],
            f"resident memory after {WARM / 60:g} min, MiB": warm,
            "resident memory at the end, MiB": resident_mebibytes(process.pid),
            "poses sent": sent,
            "frames imagined": len(subscriber.arrived["imagined/image"]),
            "previews": len(subscriber.arrived["preview/image"]),
            "elements evicted": status.evicted,
            "most bytes of the memory": most_bytes,
            "cap, bytes": status.max_bytes,
            "cap held": most_bytes <= status.max_bytes,
        }


def main() -> None:
    """Print a line a minute, then the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--random-weights", action="store_true", help="run the preset untrained")
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=5.0, help="pose commands a second")
    parser.add_argument("--cap", type=float, default=1.0, help="of the memory, MiB; small, so that it is reached")
    parser.add_argument("--threads", type=int, default=0, help="of the model; 0 leaves it to torch")
    options = parser.parse_args()
    os.environ.setdefault("ROS_DOMAIN_ID", str(10 + os.getpid() % 90))
    with tempfile.TemporaryDirectory() as folder:
        figures = soak(options, Path(folder))
    for name, value in figures.items():
        print(f"{name:<45} {value:.1f}" if isinstance(value, float) else f"{name:<45} {value}")


if __name__ == "__main__":
    main()
