"""A goal finder: given a picture of where to get to, takes again and again the move whose view is most like it.

Needs a running node `mirage`: docs/planner.md. The robot is a simulated one here, and the picture is taken where a move
and a half leads. Likeness is by content: views are moved by their depth before they are compared, so that a place is
recognised from half a metre off.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from mirage_ros.client import Mirage
from mirage_ros.sim.paths import collides, plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.trajectory import dolly, turn_and_go

# Degrees to turn right and metres to go then. The first is to stay, and is taken where no other shows more of the goal.
MOVES = ((0, 0.0), (-60, 0.3), (-30, 0.6), (0, 0.6), (30, 0.6), (60, 0.3))
RADIUS, RISK = 0.2, 0.3  # metres of the robot, and the most risk that it takes


def ways(pose: torch.Tensor) -> list[torch.Tensor]:
    """(T, 4, 4) poses of each move."""
    return [turn_and_go(pose, np.radians(turn), metres) for turn, metres in MOVES]


def main(arguments: list[str] | None = None) -> None:
    """Look for the goal, and say how near it is after each move."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="", help="of the node")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for each answer")
    parser.add_argument("--moves", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1_000_036, help="of the simulated room")
    parser.add_argument("--imagine", action="store_true", help="score by what is imagined along each way")
    options = parser.parse_args(arguments)
    scene = build_scene(options.seed, moving=0)
    pose = plan_path(scene, 1, options.seed).double()[0]
    with Renderer(scene, 128, 192) as camera, Mirage(options.namespace, timeout=options.timeout) as mirage:
        free = [way for way in ways(pose)[1:] if not collides(scene, way[:, :3, 3], RADIUS)]
        if not free:
            parser.error(f"seed: expected a room whose start has a free way, got {options.seed}")
        goal = dolly(free[options.seed % len(free)][-1], 0.2, 2)[-1]
        picture = camera.render(goal).rgb
        for number in range(options.moves + 1):
            print(f"after {number} moves the goal is {(pose - goal)[:2, 3].norm():.2f} m away")
            frame = camera.render(pose)
            mirage.observe(frame.rgb, frame.depth, frame.camera)
            paths = [way for way in ways(pose) if not collides(scene, way[:, :3, 3], RADIUS)]
            scores = mirage.score_views(paths, radius=RADIUS, goal=picture, imagine=options.imagine)
            # Of a way counts its best view, so the goal may lie on it. Off the map the risk is NaN, and not taken.
            best = max(range(len(paths)), key=lambda index: (scores[index].collision <= RISK, scores[index].similarity))
            if len(paths[best]) == 1:
                print("no move looks more like the goal than staying")
                break
            pose = paths[best][-1]


if __name__ == "__main__":
    main()
