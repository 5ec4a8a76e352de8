"""`mirage bench soak`: steady pose commands for minutes; does resident memory stay flat, and the cap hold?

The node runs as a process of its own and is sent poses along a long path through a hall, with camera frames in between,
under a memory cap that it reaches.
"""

from __future__ import annotations

import argparse
import time
from contextlib import closing
from pathlib import Path
from typing import Any

# The DDS profile must be chosen before rclpy loads, which `node` sees to.
from mirage_ros.bench.node import Subscriber, node_options, print_figures, started
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

# Seconds between lines, and until the process counts as warmed up.
REPORT, WARM = 60.0, 120.0
# Pose commands between two camera frames.
OBSERVE_EVERY = 40


def resident_mebibytes(process: int) -> float:
    """Resident memory of a process, MiB."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/{process}/status has no VmRSS")


def soak(options: argparse.Namespace) -> dict[str, Any]:
    """Run for the time; all figures by name."""
    scene = build_scene(3, "halls", 0)
    path = plan_path(scene, 600, 3)
    with (
        started(options, {"memory.max_bytes": int(options.cap * 2**20)}) as (process, mirage),
        closing(Subscriber()) as subscriber,
        Renderer(scene, 128, 192) as renderer,
    ):
        start = reported = time.monotonic()
        begin = resident_mebibytes(process.pid)
        most_bytes = sent = 0
        warm: float | None = None
        while (seconds := time.monotonic() - start) < 60 * options.minutes:
            pose = path[sent % len(path)]
            if sent % OBSERVE_EVERY == 0:
                frame = renderer.render(pose)
                mirage.observe(frame.rgb, frame.depth, renderer.camera(pose.double()))
            subscriber.send_pose("pose", pose)
            sent += 1
            subscriber.spin_until(lambda: False, 1 / options.rate)
            status = mirage.status()
            most_bytes = max(most_bytes, status.bytes)
            if process.poll() is not None:
                raise RuntimeError(f"the node ended with status {process.returncode} after {seconds:.0f} s")
            if warm is None and seconds >= WARM:
                warm = resident_mebibytes(process.pid)
            if time.monotonic() - reported >= REPORT:
                reported = time.monotonic()
                print(
                    f"{seconds / 60:5.1f} min: {resident_mebibytes(process.pid):7.1f} MiB resident, {status.elements} "
                    f"elements in {status.bytes} of {status.max_bytes} bytes, {status.evicted} evicted, {sent} poses "
                    f"sent, {len(subscriber.imagined)} frames imagined",
                    flush=True,
                )
        status = mirage.status()
        return {
            "minutes": (time.monotonic() - start) / 60,
            "resident memory at the start, MiB": begin,
            f"resident memory after {WARM / 60:g} min, MiB": warm,
            "resident memory at the end, MiB": resident_mebibytes(process.pid),
            "poses sent": sent,
            "frames imagined": len(subscriber.imagined),
            "previews": len(subscriber.previews),
            "elements evicted": status.evicted,
            "most bytes of the memory": most_bytes,
            "cap, bytes": status.max_bytes,
            "cap held": most_bytes <= status.max_bytes,
        }


def main() -> None:
    """Print a line a minute, then the figures."""
    parser = node_options(__doc__)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--rate", type=float, default=5.0, help="pose commands a second")
    parser.add_argument("--cap", type=float, default=1.0, help="of the memory, MiB; small, so that it is reached")
    print_figures(soak(parser.parse_args()))
