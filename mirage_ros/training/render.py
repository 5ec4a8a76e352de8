"""Clips out of the simulator: robot-like walks through procedural scenes, everything from one seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mirage_ros.recordings.clips import Clip
from mirage_ros.sim.paths import is_blank, plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import FAMILIES, Scene, build_scene

# Drawn walks that are tried before a scene is given up.
ATTEMPTS = 6
# Share of frames of a walk that may show next to nothing.
MOST_BLANK = 0.1


# What is to be seen in the scenes of a family, for models that take text.
PROMPTS = {
    "rooms": "a furnished room seen by a robot",
    "halls": "a storage hall seen by a robot",
    "flats": "the rooms of a flat seen by a robot",
    "warehouses": "racks in a warehouse seen by a robot",
}


@dataclass(frozen=True)
class ClipSettings:
    """How clips are drawn; each draws its own between the bounds."""

    # Frames of a clip, their pixels, and poses a second, for what moves.
    frames: int = 24
    height: int = 128
    width: int = 192
    fps: float = 10.0
    # Vertical field of view, radians; metres between poses of the walk.
    least_fov: float = 0.85
    greatest_fov: float = 1.15
    least_step: float = 0.03
    greatest_step: float = 0.08
    # Of a walk, every n-th pose is a frame, n from 1 to this: views then turn away from what they saw.
    most_skip: int = 3
    # Poses, up to this many, that come before the clip, so that it begins anywhere between two sights.
    most_lead: int = 40
    # Of the camera above the floor, metres.
    least_height: float = 0.35
    greatest_height: float = 1.5
    # Whether lamps throw them.
    shadows: bool = True


def render_clip(seed: int, family: str, settings: ClipSettings) -> Clip | None:
    """Draw the clip of a scene; the same arguments give the same one.

    Args:
        seed, family: of the scene, see `build_scene`.

    Returns:
        the clip, or None where the scene has no room for such a walk or shows next to nothing.
    """
    scene = build_scene(seed, family)
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, FAMILIES.index(family), 5])))
    for attempt in range(ATTEMPTS):
        fov = float(rng.uniform(settings.least_fov, settings.greatest_fov))
        drawn = _draw_path(scene, rng, settings, attempt)
        if drawn is None:
            continue
        path, interval = drawn
        with Renderer(scene, settings.height, settings.width, vertical_fov=fov, shadows=settings.shadows) as renderer:
            looks = [renderer.render(path[i], i * interval) for i in (0, settings.frames // 2, settings.frames - 1)]
            if any(is_blank(look) for look in looks):
                continue
            frames = [renderer.render(pose, index * interval) for index, pose in enumerate(path)]
            camera = renderer.camera(path)
        if np.mean([is_blank(frame) for frame in frames]) <= MOST_BLANK:
            return Clip(
                name=f"{family}-{seed:07d}",
                rgb=np.stack([frame.rgb for frame in frames]),
                depth=np.stack([frame.finite_depth for frame in frames]),
                labels=np.stack([frame.labels for frame in frames]),
                camera=camera,
                fps=1 / interval,
                prompt=PROMPTS[family],
            )
    return None


def _draw_path(
    scene: Scene, rng: np.random.Generator, settings: ClipSettings, attempt: int
) -> tuple[Tensor, float] | None:
    """Poses (frames, 4, 4) and the seconds between them; None where there is no room for the walk that was drawn."""
    style = str(rng.choice(["explore", "orbit", "dolly"], p=[0.8, 0.1, 0.1]))
    step = float(rng.uniform(settings.least_step, settings.greatest_step))
    height = float(rng.uniform(settings.least_height, min(settings.greatest_height, scene.height - 0.3)))
    # Straight walks and circles are as long as the room allows without skipping; they have no sights to wait for.
    skip = int(rng.integers(1, settings.most_skip + 1)) if style == "explore" else 1
    lead = int(rng.integers(0, settings.most_lead + 1)) if style == "explore" else 0
    backwards = rng.random() < 0.5
    try:
        path = plan_path(
            scene, lead + (settings.frames - 1) * skip + 1, attempt, style=style, step=step, height=height
        )[lead::skip]
    except ValueError:
        return None
    # Half of the walks go backwards, so that what comes into view comes from every side.
    return torch.flip(path, (0,)) if backwards else path, skip / settings.fps
