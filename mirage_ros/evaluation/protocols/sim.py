"""Held-out simulated scenes: short walks, walks that return to their start, long ones, and unfamiliar places.

The lists are frozen in frozen_walks.json: family, seed, moving things, seed and style of the path, metres between
poses. The scenes are never trained on (`mirage_ros.sim.splits`).
"""

from __future__ import annotations

import json
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mirage_ros.evaluation.cases import Case, CaseList
from mirage_ros.recordings.clips import Clip
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

# Frames a second, for what moves.
FPS = 10.0


@cache
def frozen_lists() -> dict[str, Any]:
    """The content of frozen_walks.json."""
    content: dict[str, Any] = json.loads(Path(__file__).with_name("frozen_walks.json").read_text())
    return content


def sim_cases(name: str, height: int, width: int, limit: int | None = None) -> CaseList:
    """Walks through held-out scenes.

    Args:
        name: 'sim' for walks of 25 frames, 'closed-loop' for 21 poses there and 20 back, 'drift' for walks of 81
            frames, ten chunks of the default preset; 'unfamiliar' for walks of 25 frames through flats, and through
            warehouses, which are never trained on.
        height, width: pixels.
        limit: use only the first so many cases.
    """
    content = frozen_lists()[name]
    return CaseList(
        name, [partial(_case, name, content["frames"], (height, width), entry) for entry in content["cases"][:limit]]
    )


def _case(name: str, frames: int, size: tuple[int, int], entry: dict[str, Any]) -> Case:
    scene = build_scene(entry["seed"], entry["family"], entry["moving"])
    poses = plan_path(scene, frames, entry["path"], style=entry["style"], step=entry["step"]).double()
    scored: tuple[int, ...] = ()
    if name == "closed-loop":
        poses = torch.cat([poses, poses[:-1].flip(0)])
        # The last quarter counts: the robot is back where it started.
        scored = tuple(range(len(poses) - len(poses) // 4, len(poses)))
    with Renderer(scene, *size) as renderer:
        return Case(draw_walk(f"{entry['family']}-{entry['seed']}-{entry['style']}", renderer, poses), scored)


def draw_walk(name: str, renderer: Renderer, poses: Tensor) -> Clip:
    """What a simulated camera sees along poses (T, 4, 4), the first at time 0."""
    drawn = [renderer.render(pose, time=index / FPS) for index, pose in enumerate(poses)]
    parts = ("rgb", "finite_depth", "labels")
    rgb, depth, labels = (np.stack([getattr(frame, part) for frame in drawn]) for part in parts)
    return Clip(rgb=rgb, depth=depth, camera=renderer.camera(poses), name=name, labels=labels, fps=FPS)
