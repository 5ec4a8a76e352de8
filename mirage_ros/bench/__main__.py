"""`mirage bench PART`: measurements that anyone can repeat; each prints its device, threads and number of runs."""

from __future__ import annotations

import importlib
import sys

# Modules of this package whose main() measures something, and what.
PARTS = {
    "conversions": "ROS images to arrays and back",
    "memory": "the latent memory: time of reads, bytes, coverage",
    "conditioning": "what it costs to show a chunk what is remembered, at full size",
    "rollout": "seconds for each imagined frame, by stage, with three kinds of cache",
    "node": "the node over DDS: previews, frames, losses, cancelling",
    "soak": "the node over minutes of steady commands: resident memory, cap",
    "occupancy": "maps out of depth, and scores of views from the readout",
    "perception": "what is found of moving things, against the simulator's truth",
    "sim": "frames per second of the simulator",
}


def main() -> None:
    """Run the measurement named on the command line."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in PARTS:
        if name and not name.startswith("-"):
            print(f"mirage bench: unknown part {name!r}\n")
        rows = "\n".join(f"  {part:<12} {what}" for part, what in PARTS.items())
        print(f"usage: mirage bench PART [options]\n\n{rows}")
        sys.exit(0 if name in ("-h", "--help") else 2)
    sys.argv = [f"mirage bench {name}", *sys.argv[2:]]
    importlib.import_module(f"mirage_ros.bench.{name}").main()


if __name__ == "__main__":
    main()
