"""A planner that imagines before it moves: of five short paths, take the one that would show most that is new.

Needs a running node `mirage` that has seen a camera frame: docs/planner.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from queue import Empty, Queue
from sys import stderr
from typing import Any

import numpy as np
import torch

from mirage_ros.client import Imagined, Mirage
from mirage_ros.ros.conversions import pose_from_stamped
from mirage_ros.trajectory import dolly, pan

FRAMES = 9  # of a candidate
CLEARANCE = 0.4  # metres to keep


def candidates(pose: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """Go ahead, or turn by up to 60 degrees and go: labels and (T, 4, 4) poses of the optical frame."""
    for degrees in (-60, -30, 0, 30, 60):
        turn = pan(pose, np.radians(degrees), 4, axis=(0, 1, 0)) if degrees else pose[None]
        yield f"{degrees:+d}", torch.cat([turn, dolly(turn[-1], 0.5, FRAMES - len(turn) + 1)[1:]])


def score(imagined: Imagined) -> float:
    """The share of what is seen that would be new; -inf where the way is blocked."""
    height, width = imagined.depth.shape[1:]
    ahead = imagined.depth[:, height // 3 : 2 * height // 3, width // 3 : 2 * width // 3]
    # Metres along the optical axis; +inf in the sky, 0 where it is unknown.
    nearest = np.where(ahead > 0, ahead, np.inf).min()
    return -np.inf if nearest < CLEARANCE else float((1 - imagined.visible).mean())


def camera_pose(mirage: Mirage, topic: str, timeout: float) -> tuple[torch.Tensor, str]:
    """(4, 4) where the camera is and the frame of that, from whatever publishes it."""
    poses: Queue[Any] = Queue()
    mirage.listen("camera_pose", poses.put, at=topic)
    try:
        return pose_from_stamped(poses.get(timeout=timeout))[:2]
    except Empty:
        raise TimeoutError(f"camera_pose: nothing came on {topic} within {timeout:g} s") from None


def main(arguments: list[str] | None = None) -> None:
    """Ask the node once, and say which way to take."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="", help="of the node")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for the answer")
    parser.add_argument("--camera-pose", help="topic of the optical frame's pose, such as /true_pose; else the origin")
    options = parser.parse_args(arguments)
    with Mirage(options.namespace, timeout=options.timeout) as mirage:
        here, frame_id = torch.eye(4, dtype=torch.float64), ""
        if options.camera_pose:
            here, frame_id = camera_pose(mirage, options.camera_pose, options.timeout)
        else:
            print("as if the camera stood at the origin, looking along z: see --camera-pose", file=stderr)
        labels, paths = zip(*candidates(here), strict=True)
        # Where nothing was seen, the mean of what may be there rather than one of it.
        ask = {"labels": labels, "frame_id": frame_id, "unseen": "mean", "timeout": options.timeout}
        result = mirage.imagine(paths, **ask)
    best = max(result.trajectories, key=score)
    if np.isinf(score(best)):
        print("every way is blocked")
        return
    print(f"take {best.label}: {1 - best.visible.mean():.0%} would be new, {result.seconds_per_frame:.3f} s a frame")


if __name__ == "__main__":
    main()
