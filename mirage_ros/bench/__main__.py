"""`mirage bench PART`: measurements that anyone can repeat; each prints its device, threads and number of runs."""

from __future__ import annotations

import importlib
import sys

PARTS = {
    # name: (module whose main() measures it, what it measures)
    "conversions": ("mirage_ros.bench.conversions", "ROS images to arrays and back"),
    "memory": ("mirage_ros.bench.memory", "the latent memory: time of reads, bytes, coverage"),
    "rollout": ("mirage_ros.bench.rollout", "seconds for each imagined frame, by stage, with three kinds of cache"),
    "node": ("mirage_ros.bench.node", "the node over DDS: previews, frames, losses, cancelling"),
    "soak": ("mirage_ros.bench.soak", "the node over minutes of steady commands: resident memory, cap"),
    "perception": ("mirage_ros.bench.perception", "moving things, depth and cameras against the simulator's truth"),
    "sim": ("mirage_ros.bench.sim", "frames per second of the simulator"),
}


def main() -> None:
    """Run the measurement named on the command line."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help") or sys.argv[1] not in PARTS:
        rows = "\n".join(f"  {name:<12} {what}" for name, (_, what) in PARTS.items())
        if sys.argv[1:] and not sys.argv[1].startswith("-"):
            print(f"mirage bench: unknown part {sys.argv[1]!r}\n")
        print(f"usage: mirage bench PART [options]\n\n{rows}")
        sys.exit(0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2)
    name = sys.argv[1]
    module = importlib.import_module(PARTS[name][0])
    sys.argv = [f"mirage bench {name}", *sys.argv[2:]]
    module.main()


if __name__ == "__main__":
    main()
