"""Trajectories: poses in order, between given ones and around given places.

A trajectory is a (T, 4, 4) tensor of cam2world poses in optical axes, or a batched `Camera`. Builders start at a given
pose and move relative to it, so they work in any world frame.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from mirage_ros.poses import check_pose

Vector = tuple[float, float, float]
Matrices = NDArray[np.float64]
# Radians: less than this is no turn but noise.
LEAST_TURN = 0.005


def interpolate(poses: Tensor, times: Tensor, queries: Tensor) -> Tensor:
    """Poses between poses: rotation by slerp, translation linearly.

    Args:
        poses: (T, 4, 4) rigid transforms.
        times: (T,) strictly increasing, any unit.
        queries: (Q,) in the same unit, within the first and the last time.

    Returns:
        (Q, 4, 4) in the type and on the device of `poses`.

    Raises:
        ValueError: shapes differ, times do not increase or a query lies outside them.
    """
    check_trajectory(poses)
    knots = times.double().cpu().numpy()
    wanted = queries.double().cpu().numpy()
    if knots.shape != (len(poses),):
        raise ValueError(f"times: expected ({len(poses)},), one for each pose, got {knots.shape}")
    if not np.isfinite(knots).all() or (np.diff(knots) <= 0).any():
        raise ValueError(f"times: expected strictly increasing numbers, got {knots.tolist()}")
    if wanted.ndim != 1 or not ((wanted >= knots[0]) & (wanted <= knots[-1])).all():
        raise ValueError(f"queries: expected (Q,) within {knots[0]:g}..{knots[-1]:g}, got {wanted.tolist()}")
    if len(poses) == 1:
        return poses.expand(len(wanted), 4, 4).clone()
    matrices = poses.detach().double().cpu().numpy()
    result = np.tile(np.eye(4), (len(wanted), 1, 1))
    result[:, :3, :3] = Slerp(knots, Rotation.from_matrix(matrices[:, :3, :3]))(wanted).as_matrix()
    for axis in range(3):
        result[:, axis, 3] = np.interp(wanted, knots, matrices[:, axis, 3])
    return torch.from_numpy(result).to(poses)


def dolly(start: Tensor, distance: float, count: int, *, direction: Vector = (0, 0, 1)) -> Tensor:
    """Move in a straight line without turning.

    Args:
        start: (4, 4) first pose.
        distance: metres, negative moves back.
        count: number of poses, the first is `start`.
        direction: in the start's optical axes; forward by default, (1, 0, 0) trucks to the right.
    """
    steps = _standing(count)
    steps[:, :3, 3] = np.linspace(0, _finite("distance", distance), count)[:, None] * _unit("direction", direction)
    return _relative(start, steps)


def pan(start: Tensor, angle: float, count: int, *, axis: Vector = (0, 1, 0)) -> Tensor:
    """Turn on the spot.

    Args:
        start: (4, 4) first pose.
        angle: radians about `axis` by the right-hand rule; positive looks to the right with the default axis.
        count: number of poses.
        axis: in the start's optical axes; (0, 1, 0) points down.
    """
    return _relative(start, _turns(axis, angle, count))


def turned_on(poses: Tensor, angle: float) -> Tensor | None:
    """The last of two poses, turned further the way it has turned.

    Args:
        poses: (2, 4, 4).
        angle: radians.

    Returns:
        (4, 4), or None where it has not turned.
    """
    before, last = poses.double().cpu().numpy()
    turn = Rotation.from_matrix(before[:3, :3].T @ last[:3, :3]).as_rotvec()
    size = float(np.linalg.norm(turn))
    if size < LEAST_TURN:
        return None
    result = last.copy()
    result[:3, :3] = last[:3, :3] @ Rotation.from_rotvec(turn * (angle / size)).as_matrix()
    return torch.from_numpy(result).to(poses)


def turn_and_go(start: Tensor, angle: float, distance: float, *, turning: int = 3, going: int = 4) -> Tensor:
    """Turn on the spot, then go where the camera looks; either is left out where it is zero.

    Args:
        start: (4, 4) first pose.
        angle: radians; positive looks to the right, see `pan`.
        distance: metres, see `dolly`.
        turning, going: numbers of poses of the two parts, which share one.
    """
    turned = pan(start, angle, turning) if angle else start[None]
    return torch.cat([turned, dolly(turned[-1], distance, going)[1:]]) if distance else turned


def orbit(start: Tensor, radius: float, angle: float, count: int) -> Tensor:
    """Circle around the point `radius` metres ahead, always facing it.

    Args:
        start: (4, 4) first pose.
        radius: metres from the camera to the centre of the circle.
        angle: radians; positive moves the camera to the left, so that the view turns to the right.
        count: number of poses.
    """
    if not _finite("radius", radius) > 0:
        raise ValueError(f"radius: expected a positive number of metres, got {radius}")
    ahead, back = np.eye(4), np.eye(4)
    ahead[2, 3], back[2, 3] = radius, -radius
    return _relative(start, ahead @ _turns((0, 1, 0), angle, count) @ back)


def through(start: Tensor, waypoints: Tensor, step: float, most: int = 1000) -> Tensor:
    """Move from a pose through places, turning on the way to face the next one, upright with respect to z.

    Args:
        start: (4, 4) first pose.
        waypoints: (N, 3) places of the camera; one that is no further than a millimetre from that before is left out.
        step: metres between poses, about: the last one is at the last waypoint.
        most: poses; where they do not suffice, the steps are longer.

    Raises:
        ValueError: no waypoint is left, the way goes straight up or down, or a number is out of range.
    """
    if not _finite("step", step) > 0 or most < 2:
        raise ValueError(f"step: expected a positive number of metres and at least 2 poses, got {step} and {most}")
    knots, times = [start.double()], [0.0]
    for place in waypoints.double():
        here = knots[-1][:3, 3]
        distance = float((place - here).norm())
        if distance > 1e-3:
            knots.append(look_at(place, place + (place - here)))
            times.append(times[-1] + distance)
    if len(knots) == 1:
        raise ValueError(f"waypoints: expected a place away from the start, got {waypoints.tolist()}")
    count = min(most, max(2, math.ceil(times[-1] / step) + 1))
    queries = torch.linspace(0, times[-1], count, dtype=torch.float64)
    return interpolate(torch.stack(knots), torch.tensor(times, dtype=torch.float64), queries).to(start)


def look_at(eye: Tensor, target: Tensor, up: Vector = (0, 0, 1)) -> Tensor:
    """Optical poses (..., 4, 4) at `eye` (..., 3) that face `target` (..., 3), upright with respect to `up`.

    Raises:
        ValueError: the view direction vanishes or is parallel to `up`.
    """
    if not (torch.isfinite(eye).all() and torch.isfinite(target).all()):
        raise ValueError(f"eye, target: expected finite metres, got {eye.tolist()} and {target.tolist()}")
    forward = target - eye
    forward, height = torch.broadcast_tensors(forward, forward.new_tensor(up))
    right = torch.linalg.cross(forward, height)
    if (forward.norm(dim=-1) < 1e-9).any() or (right.norm(dim=-1) < 1e-6 * forward.norm(dim=-1)).any():
        raise ValueError(f"target: expected away from eye and not along up={up}, got eye={eye} target={target}")
    forward, right = (torch.nn.functional.normalize(v, dim=-1) for v in (forward, right))
    pose = torch.zeros(*forward.shape[:-1], 4, 4, dtype=forward.dtype, device=forward.device)
    pose[..., :3, 0] = right
    pose[..., :3, 1] = torch.linalg.cross(forward, right)
    pose[..., :3, 2] = forward
    pose[..., :3, 3] = eye
    pose[..., 3, 3] = 1
    return pose


def check_trajectory(poses: Tensor, name: str = "poses") -> None:
    """Refuse anything but (T, 4, 4) rigid transforms with T >= 1."""
    check_pose(poses, name=name)
    if poses.ndim != 3 or len(poses) == 0:
        raise ValueError(f"{name}: expected (T, 4, 4) with at least one pose, got {tuple(poses.shape)}")


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value}")
    return value


def _unit(name: str, vector: Vector) -> Matrices:
    """The vector divided by its length."""
    values = np.asarray(vector, dtype=np.float64)
    length = float(np.linalg.norm(values))
    if values.shape != (3,) or not math.isfinite(length) or length == 0:
        raise ValueError(f"{name}: expected three numbers, not all zero, got {vector}")
    return values / length


def _standing(count: int) -> Matrices:
    """(count, 4, 4) identities."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"count: expected a positive whole number of poses, got {count!r}")
    return np.tile(np.eye(4), (count, 1, 1))


def _turns(axis: Vector, angle: float, count: int) -> Matrices:
    """(count, 4, 4) turns about an axis, from none to the angle."""
    turns = _standing(count)
    vectors = np.linspace(0, _finite("angle", angle), count)[:, None] * _unit("axis", axis)
    turns[:, :3, :3] = Rotation.from_rotvec(vectors).as_matrix()
    return turns


def _relative(start: Tensor, steps: Matrices) -> Tensor:
    """(T, 4, 4) float64 steps, each from the start's own axes."""
    check_pose(start, name="start")
    if start.ndim != 2:
        raise ValueError(f"start: expected one pose (4, 4), got {tuple(start.shape)}")
    return (start.double().cpu() @ torch.from_numpy(steps)).to(start)
