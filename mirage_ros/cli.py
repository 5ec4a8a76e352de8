"""The `mirage` command. Each subcommand imports what it needs when it is called, so that none pays for the others."""

from __future__ import annotations

import importlib
import sys

from mirage_ros.machine import wait_passively

COMMANDS: dict[str, tuple[str, str]] = {
    # name: (module whose main() runs it, what it does)
    "imagine": ("mirage_ros.imagine", "imagine a trajectory from an RGB-D image or a recorded walk, without ROS"),
    "doctor": ("mirage_ros.doctor", "say what works on this machine and what to do about the rest"),
    "demo": ("mirage_ros.demo.run", "run the demo and leave pictures, a film and a bag"),
    "sheet": ("mirage_ros.sim.sheet", "draw simulated scenes on a contact sheet"),
    "eval": ("mirage_ros.evaluation.__main__", "compare methods on held-out walks and write a report"),
    "view": ("mirage_ros.view", "drive through a saved memory or a running node in the browser; --rerun: its log"),
    "data": ("mirage_ros.training.data", "render training clips from the simulator, or cut them out of recorded walks"),
    "optics": ("mirage_ros.recordings.optics", "estimate what a recording does not tell of its cameras"),
    "train": ("mirage_ros.training.train", "train a preset, phase by phase; again to go on"),
    "text": ("mirage_ros.models.text_features", "encode prompts to a file, for machines without room for the encoder"),
    "measure": ("mirage_ros.training.measure", "measure the parts of a model on held-out clips, one by one"),
    "rank": ("mirage_ros.evaluation.ranking", "rank a planner's moves by imagined views, against the truth"),
    "bench": (
        "mirage_ros.bench.__main__",
        "measure a part: rollout, memory, occupancy, node, perception, soak, sim ...",
    ),
}


def usage() -> str:
    """What `mirage --help` prints."""
    rows = "\n".join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())
    return f"usage: mirage COMMAND [options]\n\n{rows}\n\nmirage COMMAND --help shows the options of a command."


def main() -> None:
    """Run a subcommand as if its module had been started."""
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(usage())
        sys.exit(0 if len(sys.argv) > 1 else 2)
    name = sys.argv[1]
    if name not in COMMANDS:
        sys.exit(f"mirage: unknown command {name!r}, expected one of {', '.join(COMMANDS)}")
    sys.argv = [f"mirage {name}", *sys.argv[2:]]
    wait_passively()
    try:
        importlib.import_module(COMMANDS[name][0]).main()
    except (ValueError, OSError, RuntimeError) as error:
        # What a user gave or lacks; anything else is a fault of ours and keeps its trace.
        sys.exit(f"mirage {name}: {error}")
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            raise
        # Raised by ourselves: an optional package is missing, and the message names it.
        sys.exit(f"mirage {name}: {error}")
