"""An explorer: looks, asks what each of five moves would show that nobody saw, takes the best, and looks again.

Needs a running node `mirage`: docs/planner.md. The robot is a simulated one here; yours drives
where `pose` says, and its camera takes the frame. docs/planning.md says what scores are worth to such a robot.
"""

from __future__ import annotations

import argparse

import numpy as np

from mirage_ros.client import Mirage
from mirage_ros.sim.paths import collides, plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.trajectory import turn_and_go

# Degrees to turn right and metres to go then.
MOVES = ((-90, 0.0), (-45, 0.4), (0, 0.8), (45, 0.4), (90, 0.0))
RADIUS, RISK = 0.2, 0.3  # metres of the robot, and the most risk that it takes


def main(arguments: list[str] | None = None) -> None:
    """Explore, and say how much is known after each move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="", help="of the node")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for each answer")
    parser.add_argument("--moves", type=int, default=6)
    parser.add_argument("--seed", type=int, default=1_000_036, help="of the simulated room")
    parser.add_argument("--imagine", action="store_true", help="score by what is imagined along each way")
    options = parser.parse_args(arguments)
    scene = build_scene(options.seed, moving=0)
    pose = plan_path(scene, 1, options.seed).double()[0]
    with Renderer(scene, 128, 192) as camera, Mirage(options.namespace, timeout=options.timeout) as mirage:
        for number in range(options.moves + 1):
            frame = camera.render(pose)
            mirage.observe(frame.rgb, frame.depth, frame.camera)
            paths = [turn_and_go(pose, np.radians(turn), metres) for turn, metres in MOVES]
            # Risk by what was seen, for what is imagined is mostly empty floor; square metres of news by either. Both
            # are NaN for a way that leaves the map, which is as good as too risky.
            known = mirage.score_views(paths, radius=RADIUS)
            news = mirage.score_views(paths, radius=RADIUS, imagine=True) if options.imagine else known
            value = [
                (risk.collision <= RISK, np.nan_to_num(score.new_area)) for risk, score in zip(known, news, strict=True)
            ]
            grid = mirage.occupancy()
            print(f"after {number} moves {(grid.cells >= 0).sum() * grid.resolution**2:.1f} square metres are known")
            best = max(range(len(paths)), key=value.__getitem__)
            if collides(scene, paths[best][:, :3, 3], RADIUS):
                print("something is in the way that nobody expected")
                break
            pose = paths[best][-1]


if __name__ == "__main__":
    main()
