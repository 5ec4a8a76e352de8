"""Where a robot's camera goes and looks: collision-free, smooth, and into the room."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from mirage_ros.rgbd import RgbdFrame
from mirage_ros.sim.scene import Scene
from mirage_ros.trajectory import look_at

# Metres that the camera keeps from walls and furniture: half of a small robot and a little air.
CLEARANCE = 0.3
# At most this much turning from frame to frame, radians.
MAX_TURN = math.radians(5)
# A view must show something nearer than the walls, or at least not a wall at arm's length.
MIN_VIEW = 1.0
ATTEMPTS = 60
# Where there are doorways: share of walks that begin near one, and of legs that lead through one.
NEAR_DOORWAY, THROUGH_DOORWAY = 0.6, 0.7

Points = NDArray[np.float64]


def collides(scene: Scene, position: Tensor | Points, radius: float = CLEARANCE) -> bool:
    """Whether a robot that carries its camera there touches anything.

    The robot is a column from the floor up to the camera, so a camera above a table collides with it.

    Args:
        position: (3,) or (N, 3) of the camera, metres; any of them counts.
        radius: of the column, metres.
    """
    points = np.asarray(position, dtype=np.float64).reshape(-1, 3)
    limits = np.array([scene.length, scene.width]) / 2 - radius
    if (np.abs(points[:, :2]) > limits).any() or (points[:, 2] < 0).any() or (points[:, 2] > scene.height - 0.1).any():
        return True
    return any(
        ((obstacle.distance(points[:, :2]) < radius) & (points[:, 2] + radius > obstacle.bottom)).any()
        for obstacle in scene.obstacles
    )


def plan_path(
    scene: Scene, count: int, seed: int = 0, *, style: str = "explore", step: float = 0.05, height: float | None = None
) -> Tensor:
    """A path for the camera; the same arguments give the same one.

    Args:
        style: "explore" wanders and looks at one thing after another, "orbit" circles something, "dolly" goes straight.
        step: metres between poses: 0.05 is half a metre a second at 10 frames a second.
        height: of the camera above the floor, metres; drawn between 0.7 and 1.5 by default.

    Returns:
        (count, 4, 4) float32 cam2world, optical axes.

    Raises:
        ValueError: an argument is out of range, or the scene has no room for such a path.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count: expected a positive whole number of poses, got {count!r}")
    if style not in STYLES:
        raise ValueError(f"style: expected one of {', '.join(STYLES)}, got {style!r}")
    if not (math.isfinite(step) and step > 0):
        raise ValueError(f"step: expected a positive number of metres, got {step}")
    if height is not None and not 0.1 <= height <= scene.height - 0.2:
        raise ValueError(f"height: expected 0.1 to {scene.height - 0.2:.2f} metres, got {height}")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([scene.seed, seed, STYLES.index(style)])))
    for _ in range(ATTEMPTS):
        level = float(rng.uniform(0.7, 1.5)) if height is None else height
        path = _WALKS[style](scene, rng, count, step, level)
        if path is not None and not collides(scene, path[0], CLEARANCE * 0.9) and _sees_enough(scene, *path):
            eyes, targets = (torch.from_numpy(points) for points in path)
            return look_at(eyes, targets).float()
    raise ValueError(f"scene: {scene.family} {scene.seed} has no room for {count} poses of style {style!r}")


def is_blank(frame: RgbdFrame) -> bool:
    """Whether a view shows next to nothing: one flat surface, or no edges and no texture."""
    assert frame.depth is not None
    grey = frame.rgb.mean(axis=-1)
    edges = np.abs(np.diff(grey, axis=0))[:, :-1] + np.abs(np.diff(grey, axis=1))[:-1]
    known = frame.depth[np.isfinite(frame.depth) & (frame.depth > 0)]
    flat = known.size == 0 or known.max() < MIN_VIEW or np.ptp(np.quantile(known, [0.02, 0.98])) < 0.25
    return bool(flat or (edges > 12).mean() < 0.01)


def _free_point(scene: Scene, rng: Generator, height: float) -> Points | None:
    for _ in range(100):
        x, y = rng.uniform(-0.5, 0.5, 2) * [scene.length, scene.width]
        point = np.array([x, y, height])
        if not collides(scene, point):
            return point
    return None


def _first_point(scene: Scene, rng: Generator, height: float) -> Points | None:
    """A free point, often not far from a doorway."""
    if scene.doorways and rng.random() < NEAR_DOORWAY:
        for _ in range(100):
            door = scene.doorways[rng.integers(len(scene.doorways))]
            side = 1 if rng.random() < 0.5 else -1
            x, y = door.place(float(rng.uniform(-1.2, 1.2)), side * float(rng.uniform(0.7, 2.2)))
            point = np.array([x, y, height])
            if not collides(scene, point):
                return point
    return _free_point(scene, rng, height)


def _next_points(scene: Scene, rng: Generator, here: Points, height: float) -> list[Points] | None:
    """A free point to go to, or one before a doorway and one behind it."""
    if scene.doorways and rng.random() < THROUGH_DOORWAY:
        door = scene.doorways[rng.integers(len(scene.doorways))]
        ends = [np.array([*door.place(0, side * 0.6), height]) for side in (-1, 1)]
        return sorted(ends, key=lambda end: float(np.linalg.norm(end - here)))
    there = _free_point(scene, rng, height)
    return None if there is None else [there]


def hidden_by_walls(scene: Scene, eye: Points, points: Points) -> NDArray[np.bool_]:
    """(N,) whether inner walls stand between an eye (3,) and points (N, 3)."""
    ways = eye[:2] + np.linspace(0, 0.95, 120)[:, None, None] * (points[:, :2] - eye[:2])
    behind = [(wall.distance(ways) == 0).any(axis=0) for wall in scene.walls if wall.bottom == 0]
    return np.any(behind, axis=0) if behind else np.zeros(len(points), np.bool_)


def _sights(scene: Scene) -> Points:
    """(N, 3) what is worth looking at: furniture, points along the walls at eye height and, at the end, doorways."""
    furniture = [(o.x, o.y, min(0.6 * o.top, 1.3)) for o in scene.obstacles if o.top > 0.2 and o.bottom == 0]
    doorways = [(door.x, door.y, 1.2) for door in scene.doorways]
    a, b = scene.length / 2, scene.width / 2
    walls = [(a, 0, 1.3), (-a, 0, 1.3), (0, b, 1.3), (0, -b, 1.3), (a, b / 2, 1.2), (-a, -b / 2, 1.2)]
    return np.array(furniture + walls + doorways, dtype=np.float64)


def _explore(scene: Scene, rng: Generator, count: int, step: float, height: float) -> tuple[Points, Points] | None:
    """Walk between free points that see each other; look at sights ahead, turning steadily."""
    here = _first_point(scene, rng, height)
    if here is None:
        return None
    corners, length = [here], 0.0
    needed = step * (count - 1)
    while length < needed:
        for _ in range(40):
            points = _next_points(scene, rng, here, height)
            if points is None or (distance := float(np.linalg.norm(points[0] - here))) <= 0.6:
                continue
            if not any(
                collides(scene, np.linspace(a, b, max(2, int(np.linalg.norm(b - a) / 0.08))))
                for a, b in pairwise([here, *points])
            ):
                break
        else:
            return None
        length += distance + sum(float(np.linalg.norm(b - a)) for a, b in pairwise(points))
        corners += points
        here = points[-1]
    eyes = _walk(np.array(corners), count, step)
    return eyes, _gaze(scene, rng, eyes)


def _walk(corners: Points, count: int, step: float) -> Points:
    """(count, 3) points every `step` metres along a polyline, its corners rounded."""
    lengths = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(corners, axis=0), axis=1))])
    wanted = np.arange(count) * step
    points = np.stack([np.interp(wanted, lengths, corners[:, axis]) for axis in range(3)], axis=1)
    return gaussian_filter1d(points, 2.5, axis=0, mode="nearest")


def _gaze(scene: Scene, rng: Generator, eyes: Points) -> Points:
    """(count, 3) points to look at: a sight is held for a while, then the view swings to another at a limited rate."""
    sights = _sights(scene)
    headings, pitches = np.empty(len(eyes)), np.empty(len(eyes))
    target, hold = sights[0], 0
    for i, eye in enumerate(eyes):
        if hold == 0 or math.hypot(*(target - eye)[:2]) < 0.9:
            distance = np.hypot(*(sights - eye)[:, :2].T)
            score = rng.random(len(sights)) + np.where((distance > 1.3) & (distance < 6), 1, 0)
            score -= 2 * hidden_by_walls(scene, eye, sights)
            score[len(sights) - len(scene.doorways) :] += 0.5
            target = sights[int(score.argmax())]
            hold = int(rng.integers(20, 45))
        hold -= 1
        x, y, z = target - eye
        headings[i] = math.atan2(y, x)
        pitches[i] = np.clip(math.atan2(z, math.hypot(x, y)), -0.4, 0.2)
    heading = _limited(headings, MAX_TURN, wrap=True)
    pitch = _limited(pitches, MAX_TURN / 3, wrap=False)
    direction = np.stack([np.cos(heading) * np.cos(pitch), np.sin(heading) * np.cos(pitch), np.sin(pitch)], axis=1)
    return eyes + direction


def _limited(angles: Points, most: float, *, wrap: bool) -> Points:
    """Follow angles with at most `most` radians a step, smoothly."""
    followed = np.empty_like(angles)
    current = followed[0] = angles[0]
    for i, wanted in enumerate(angles[1:], start=1):
        difference = math.remainder(wanted - current, 2 * math.pi) if wrap else wanted - current
        current += float(np.clip(0.2 * difference, -most, most))
        followed[i] = current
    return gaussian_filter1d(followed, 1.5, mode="nearest")


def _orbit(scene: Scene, rng: Generator, count: int, step: float, height: float) -> tuple[Points, Points] | None:
    """Circle around a sight, facing it."""
    sights = _sights(scene)
    for _ in range(40):
        centre = sights[rng.integers(len(sights))]
        radius = float(rng.uniform(1.0, 2.5))
        turn = step / radius * (1 if rng.random() < 0.5 else -1)
        angles = rng.uniform(-math.pi, math.pi) + turn * np.arange(count)
        eyes = np.stack([centre[0] + radius * np.cos(angles), centre[1] + radius * np.sin(angles)], axis=1)
        eyes = np.column_stack([eyes, np.full(count, height)])
        if not collides(scene, eyes):
            return eyes, np.broadcast_to(centre, eyes.shape).copy()
    return None


def _dolly(scene: Scene, rng: Generator, count: int, step: float, height: float) -> tuple[Points, Points] | None:
    """Go straight, looking ahead or to one side of it."""
    start = _free_point(scene, rng, height)
    if start is None:
        return None
    course = float(rng.uniform(-math.pi, math.pi))
    ahead = np.array([math.cos(course), math.sin(course), 0.0])
    eyes = start + ahead * step * np.arange(count)[:, None]
    gaze = course + float(rng.choice([0.0, 0.0, 0.6, -0.6]))
    return eyes, eyes + np.array([math.cos(gaze), math.sin(gaze), float(rng.uniform(-0.25, 0.05))])


# Their order is part of a path's seed: append, never insert.
_WALKS = {"explore": _explore, "orbit": _orbit, "dolly": _dolly}
STYLES = tuple(_WALKS)


def _sees_enough(scene: Scene, eyes: Points, targets: Points) -> bool:
    """Whether the wall in the middle of each view is far enough off, or something stands before it."""
    direction = targets - eyes
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    # (T,) metres from each eye to the shell along its view.
    limits = np.array([scene.length / 2, scene.width / 2])
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = (np.sign(direction[:, :2]) * limits - eyes[:, :2]) / direction[:, :2]
    room = np.where(np.abs(direction[:, :2]) < 1e-9, np.inf, reach).min(axis=1)
    if scene.walls:
        ahead = np.minimum(room, 1.3)[:, None, None] * np.linspace(0, 1, 14)[:, None] * direction[:, None, :2]
        blocked = np.any([wall.distance(eyes[:, None, :2] + ahead) == 0 for wall in scene.walls if wall.bottom == 0], 0)
        # Past a doorway the view may sweep over its side, but not rest there.
        if blocked[:, :6].any() or blocked.any(axis=1).mean() > 0.15:
            return False
    sights = np.array([(o.x, o.y) for o in scene.obstacles if o.top > 0.2]).reshape(-1, 2)
    offset = sights[None] - eyes[:, None, :2]
    distance = np.linalg.norm(offset, axis=-1)
    along = np.einsum("tnk,tk->tn", offset, direction[:, :2]) / np.maximum(distance, 1e-6)
    seen = ((along > math.cos(math.radians(35))) & (distance > 0.7)).sum(axis=1)
    return bool((room > 1.3).all() and ((seen >= 1) | (room > 2.5)).mean() > 0.9)
