"""Held-out simulated scenes: short walks, walks that return to their start, and long ones.

The lists are frozen in frozen_walks.json: family, seed, moving things, seed and style of the path, metres between
poses. The scenes are never trained on (`mirage_ros.sim.splits`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mirage_ros.evaluation.cases import Case
from mirage_ros.recordings.clips import Clip
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

LISTS = Path(__file__).with_name("frozen_walks.json")
FPS = 10.0


@cache
def frozen_lists() -> dict[str, Any]:
    """The file's content."""
    content: dict[str, Any] = json.loads(LISTS.read_text())
    return content


class SimProtocol:
    """Walks through held-out scenes.

    Args:
        name: 'sim' for walks of 25 frames, 'closed-loop' for 21 poses there and 20 back, 'drift' for walks of 81
            frames, ten chunks of the default preset.
        height, width: pixels.
        limit: use only the first so many cases.
    """

    def __init__(self, name: str, height: int, width: int, limit: int | None = None) -> None:
        lists = frozen_lists()
        if name not in lists:
            raise ValueError(f"protocol: expected one of {', '.join(lists)}, got {name!r}")
        self.name = name
        self._size = (height, width)
        self._entries = lists[name]["cases"][:limit]
        self._frames = int(lists[name]["frames"])

    def __len__(self) -> int:
        return len(self._entries)

    def cases(self) -> Iterator[Case]:
        """Render the cases one by one."""
        for entry in self._entries:
            yield self._case(entry)

    def _case(self, entry: dict[str, Any]) -> Case:
        returning = self.name == "closed-loop"
        clip = render_walk(
            entry["family"],
            entry["seed"],
            entry["moving"],
            self._frames,
            entry["path"],
            entry["style"],
            entry["step"],
            self._size,
            returning=returning,
        )
        # Of a return trip the last quarter counts: the robot is back where it started.
        scored = tuple(range(len(clip) - len(clip) // 4, len(clip))) if returning else ()
        return Case(clip, scored=scored)


def render_walk(
    family: str,
    seed: int,
    moving: int,
    frames: int,
    path_seed: int,
    style: str,
    step: float,
    size: tuple[int, int],
    *,
    returning: bool = False,
) -> Clip:
    """Render a walk through a scene.

    Args:
        family, seed, moving: of the scene.
        frames: poses on the way out.
        path_seed, style, step: of the path.
        size: pixels (height, width).
        returning: go back by the same poses.
    """
    scene = build_scene(seed, family, moving)
    poses = plan_path(scene, frames, path_seed, style=style, step=step).double()
    if returning:
        poses = torch.cat([poses, poses[:-1].flip(0)])
    with Renderer(scene, *size) as renderer:
        drawn = [renderer.render(pose, time=index / FPS) for index, pose in enumerate(poses)]
        camera = renderer.camera(poses)
    return Clip(
        name=f"{family}-{seed}-{style}",
        rgb=np.stack([frame.rgb for frame in drawn]),
        depth=np.stack([frame.depth for frame in drawn]),
        labels=np.stack([frame.labels for frame in drawn]),
        camera=camera,
        fps=FPS,
    )
