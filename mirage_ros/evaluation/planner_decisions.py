"""Decisions of a planner in the simulator: several short moves from one place, and an image of where to get to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.evaluation.cases import Case
from mirage_ros.evaluation.metrics import masked_ssim
from mirage_ros.evaluation.protocols.sim import draw_walk
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.sim.paths import collides, is_blank, plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.sim.splits import SEEDS, Split
from mirage_ros.world.likeness import frame_likeness, picture_latents
from mirage_ros.world.model import WorldModel

# Moves: degrees to turn left and metres to go, at once, over `POSES` poses.
MOVES = ((60.0, 0.3), (30.0, 0.6), (0.0, 0.8), (-30.0, 0.6), (-60.0, 0.3))
POSES = 9
# A place with fewer of them offers no choice.
LEAST_MOVES = 4
# Depth beyond this counts as so much free space, metres.
FAR = 5.0
# A planner has arrived this near, metres and degrees.
NEAR, FACING = 0.5, 30.0
# Pictures are compared at a quarter of their size: a planner looks for a place, not for pixels.
SHRINK = 4


@dataclass(frozen=True, eq=False)
class Decision:
    """One choice.

    Attributes:
        name: of the place.
        candidates: moves that touch nothing, with what the camera would really see before and after.
        goal: (H, W, 3) view of the place to get to.
        goal_pose: (4, 4) of that view.
    """

    name: str
    candidates: tuple[Case, ...]
    goal: NDArray[np.uint8]
    goal_pose: Tensor


def move(start: Tensor, turn: float, distance: float, poses: int = POSES) -> Tensor:
    """Poses of an arc on the floor.

    Args:
        start: (4, 4) float64 optical, the first of them; upright world with z up.
        turn: degrees to the left.
        distance: metres along the arc.
        poses: how many.

    Returns:
        (poses, 4, 4) float64.
    """
    angles = torch.deg2rad(torch.linspace(0, turn, poses, dtype=torch.float64))
    turns = torch.eye(4, dtype=torch.float64).repeat(poses, 1, 1)
    turns[:, 0, 0] = turns[:, 1, 1] = angles.cos()
    turns[:, 1, 0], turns[:, 0, 1] = angles.sin(), -angles.sin()
    heading = start[:3, 2] * torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    heading = heading / heading.norm()
    result = start.repeat(poses, 1, 1)
    result[:, :3, :3] = turns[:, :3, :3] @ start[:3, :3]
    # Half way through each step the heading is the mean of its ends.
    middle = (angles[1:] + angles[:-1]) / 2
    steps = torch.stack(
        [heading[0] * middle.cos() - heading[1] * middle.sin(), heading[0] * middle.sin() + heading[1] * middle.cos()],
        dim=-1,
    ) * (distance / (poses - 1))
    result[1:, :2, 3] += steps.cumsum(dim=0)
    return result


class PlannerPlace:
    """A scene without moving things, with a renderer and a start, that of a path through it.

    Raises:
        ValueError: the scene has no room for a path.
    """

    def __init__(self, family: str, seed: int, size: tuple[int, int]) -> None:
        self.scene = build_scene(seed, family, 0)
        self.start = plan_path(self.scene, 9, seed % 89).double()[0]
        self.renderer = Renderer(self.scene, *size)
        self.name = f"{family}-{seed}"

    def case(self, poses: Tensor, label: str) -> Case:
        """What the camera sees at both ends of poses (T, 4, 4)."""
        return Case(draw_walk(f"{self.name}-{label}", self.renderer, poses[[0, -1]]))

    def view(self, pose: Tensor) -> NDArray[np.uint8]:
        """(H, W, 3) picture from a pose."""
        return self.renderer.render(pose).rgb

    def moves(self, start: Tensor | None = None) -> list[Tensor]:
        """The moves, (POSES, 4, 4) each, from a pose or the place's start, that touch nothing."""
        moves = [move(self.start if start is None else start, *each) for each in MOVES]
        return [poses for poses in moves if not collides(self.scene, poses[:, :3, 3], 0.2)]

    def close(self) -> None:
        """Free the renderer."""
        self.renderer.close()


def places(count: int, size: tuple[int, int], split: Split = "held-out") -> Iterator[PlannerPlace]:
    """Places where a planner has something to choose, families in turn, each closed after use.

    Raises:
        ValueError: there are not so many.
    """
    given = 0
    for seed in SEEDS[split]:
        for family in ("rooms", "halls"):
            if given == count:
                return
            try:
                place = PlannerPlace(family, seed, size)
            except ValueError:
                continue
            with closing(place):
                if len(place.moves()) >= LEAST_MOVES and not is_blank(place.renderer.render(place.start)):
                    given += 1
                    yield place
    if given < count:
        raise ValueError(f"decisions: expected at most {given}, which the {split} scenes have, got {count}")


def decisions(count: int, size: tuple[int, int], split: Split = "held-out") -> Iterator[Decision]:
    """Frozen decisions: the goal lies a little beyond the end of one of the moves."""
    for index, place in enumerate(places(count, size, split)):
        moves = place.moves()
        generator = np.random.default_rng(index)
        towards = moves[int(generator.integers(len(moves)))][-1]
        goal_pose = move(towards, float(generator.uniform(-10, 10)), 0.25)[-1]
        yield Decision(
            place.name,
            tuple(place.case(poses, str(number)) for number, poses in enumerate(moves)),
            place.view(goal_pose),
            goal_pose,
        )


def goal_score(view: NDArray[np.uint8], goal: NDArray[np.uint8]) -> float:
    """How much a view looks like the goal: structural similarity at a quarter of the size."""
    height, width = goal.shape[0] // SHRINK, goal.shape[1] // SHRINK
    ours, theirs = (
        np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)[None]
        for picture in (view, goal)
    )
    return masked_ssim(ours, theirs)


def content_score(world: WorldModel, view: ImaginedFrame, goal: NDArray[np.uint8]) -> float:
    """How much a view shows what the goal does, as `score_views` tells it."""
    return frame_likeness(world.networks, view, picture_latents(world.networks, goal))


def nearness(pose: Tensor, goal: Tensor) -> float:
    """How near a pose (4, 4) is to another: minus the metres by `NEAR` and the degrees by `FACING`."""
    angle = torch.rad2deg(torch.arccos((pose[:3, 2] @ goal[:3, 2]).clamp(-1, 1)))
    return -float((pose[:2, 3] - goal[:2, 3]).norm() / NEAR + angle / FACING)


def space_score(depth: NDArray[np.floating]) -> float:
    """Free space ahead: mean depth of a view in metres, at most `FAR`, as in the sky; unknown counts as none."""
    return float(np.where(depth > 0, np.minimum(depth, FAR), 0).mean())
