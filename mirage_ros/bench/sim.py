"""`mirage bench sim`: frames per second of the simulator in one process."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time

from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import FAMILIES, build_scene
from mirage_ros.sim.sheet import positive

# Name: shadows, samples for antialiasing.
VARIANTS = {
    "as shipped": (True, 4),
    "without shadows": (False, 4),
    "without antialiasing": (True, 0),
    "without both": (False, 0),
}


def measure(family: str, seed: int, frames: int, height: int, width: int, shadows: bool, samples: int) -> float:
    """Median seconds to draw colour, depth and classes of one frame, with moving objects in the scene."""
    scene = build_scene(seed, family, moving=2)
    path = plan_path(scene, frames, seed)
    with Renderer(scene, height, width, shadows=shadows, samples=samples) as renderer:
        renderer.render(path[0])
        durations = []
        for index, pose in enumerate(path):
            start = time.perf_counter()
            renderer.render(pose, index / 10)
            durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def main() -> None:
    """Print a table and, with --json, the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=positive, nargs=2, default=(128, 192), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=positive, default=60, help="frames of each scene")
    parser.add_argument("--seeds", type=positive, default=3, help="scenes of each family")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    threads = os.environ.setdefault("LP_NUM_THREADS", "1")
    height, width = options.size
    results = {}
    print(
        f"colour + depth + classes at {width}x{height}, {threads} drawing thread(s), median of {options.frames} frames"
    )
    for family in FAMILIES:
        for name, (shadows, samples) in VARIANTS.items():
            medians = [
                measure(family, seed, options.frames, height, width, shadows, samples) for seed in range(options.seeds)
            ]
            fps = 1 / statistics.median(medians)
            results[f"{family}, {name}"] = round(fps, 1)
            print(f"{family:<6} {name:<22} {fps:6.1f} frames/s (slowest scene {1 / max(medians):.1f})")
    if options.json:
        print(json.dumps({"threads": int(threads), "size": [height, width], "frames_per_second": results}))


if __name__ == "__main__":
    main()
