"""`mirage bench sim`: frames per second of the simulator in one process."""

from __future__ import annotations

import argparse
import os
import statistics

from mirage_ros.bench.timing import median_ms
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


def frame_ms(family: str, seed: int, frames: int, height: int, width: int, shadows: bool, samples: int) -> float:
    """Median milliseconds to draw colour, depth and classes of one frame, with moving objects in the scene."""
    scene = build_scene(seed, family, moving=2)
    path = plan_path(scene, frames, seed)
    # The first pose twice: once to warm up.
    views = iter([(path[0], 0.0), *((pose, index / 10) for index, pose in enumerate(path))])
    with Renderer(scene, height, width, shadows=shadows, samples=samples) as renderer:
        return median_ms(lambda: renderer.render(*next(views)), frames)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=positive, nargs=2, default=(128, 192), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--frames", type=positive, default=60, help="frames of each scene")
    parser.add_argument("--seeds", type=positive, default=3, help="scenes of each family")
    options = parser.parse_args()
    threads = os.environ.setdefault("LP_NUM_THREADS", "1")
    height, width = options.size
    print(
        f"colour + depth + classes at {width}x{height}, {threads} drawing thread(s), median of {options.frames} frames"
    )
    for family in FAMILIES:
        for name, variant in VARIANTS.items():
            medians = [frame_ms(family, seed, options.frames, height, width, *variant) for seed in range(options.seeds)]
            print(
                f"{family:<6} {name:<22} {1000 / statistics.median(medians):6.1f} frames/s "
                f"(slowest scene {1000 / max(medians):.1f})"
            )
