"""Next best view: of a hundred places to look from, the one that promises most news without touching anything.

Needs a running node `mirage` that has seen a camera frame: docs/planner.md. All views are scored from the readout and
the maps, in one request; the best few are then imagined, and scored again by what is imagined there.
"""

from __future__ import annotations

import argparse
import math

import torch

from mirage_ros.client import Mirage, ViewScore

COUNT, BEST = 100, 3
RADIUS, RISK = 0.2, 0.3  # metres of the robot, and the most risk that it takes


def upright(x: float, y: float, yaw: float, height: float = 1.2) -> torch.Tensor:
    """(4, 4) optical pose of a camera that stands at a place and looks along a heading, radians about z."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 0] = torch.tensor([math.sin(yaw), -math.cos(yaw), 0])
    pose[:3, 1] = torch.tensor([0, 0, -1])
    pose[:3, 2] = torch.tensor([math.cos(yaw), math.sin(yaw), 0])
    pose[:3, 3] = torch.tensor([x, y, height])
    return pose


def ways(seed: int) -> list[torch.Tensor]:
    """Ways (2, 4, 4) from 1.2 m above the world's origin to places up to two metres around it, with any heading."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.rand(COUNT, 3, generator=random).tolist()
    places = [
        (2 * math.sqrt(r) * math.cos(a * math.tau), 2 * math.sqrt(r) * math.sin(a * math.tau)) for r, a, _ in drawn
    ]
    return [
        torch.stack([upright(0, 0, 0), upright(x, y, turn * math.tau)])
        for (x, y), (_, _, turn) in zip(places, drawn, strict=True)
    ]


def value(score: ViewScore) -> float:
    """Bits x square metres of news, nothing where the way is too risky, or leaves the map: then its scores are NaN."""
    if math.isnan(score.collision):
        return -math.inf
    return score.information_gain if score.collision <= RISK else -score.collision


def main(arguments: list[str] | None = None) -> None:
    """Ask the node twice, and say where to look from."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="", help="of the node")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for each answer")
    parser.add_argument("--seed", type=int, default=0, help="of the places")
    options = parser.parse_args(arguments)
    candidates = ways(options.seed)
    with Mirage(options.namespace, timeout=options.timeout) as mirage:
        scores = mirage.score_views(candidates, radius=RADIUS)
        order = sorted(range(len(candidates)), key=lambda index: value(scores[index]), reverse=True)[:BEST]
        again = mirage.score_views([candidates[index] for index in order], radius=RADIUS, imagine=True)
    best = max(range(len(order)), key=lambda place: value(again[place]))
    x, y = candidates[order[best]][-1, :2, 3].tolist()
    score = again[best]
    if not score.collision <= RISK:
        risk = "leaves the map" if math.isnan(score.collision) else f"has a risk of {score.collision:.0%}"
        print(f"no way is safe enough: the best one {risk}")
        return
    print(
        f"look from ({x:.2f}, {y:.2f}): {score.new_area:.1f} square metres of news, "
        f"{score.collision:.0%} risk on the way"
    )


if __name__ == "__main__":
    main()
