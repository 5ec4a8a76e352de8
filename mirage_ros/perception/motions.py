"""Small rigid motions: exponential, logarithm and differences of poses, in float64."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.geometry import invert


def _hat(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    return torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))


def exp_motion(twist: Tensor) -> Tensor:
    """(T, 4, 4) rigid motions of small twists (T, 6): translation, then a rotation vector."""
    generator = torch.zeros(*twist.shape[:-1], 4, 4, dtype=twist.dtype, device=twist.device)
    generator[..., :3, :3] = _hat(twist[..., 3:])
    generator[..., :3, 3] = twist[..., :3]
    motion: Tensor = torch.linalg.matrix_exp(generator)
    motion[..., 3, :] = motion.new_tensor([0, 0, 0, 1])
    return motion


def log_motion(motion: Tensor) -> Tensor:
    """(T, 6) translation and rotation vector of rigid motions (T, 4, 4) by less than half a turn."""
    rotation = motion[..., :3, :3]
    skew = (rotation - rotation.mT) / 2
    axis = torch.stack([skew[..., 2, 1], skew[..., 0, 2], skew[..., 1, 0]], dim=-1)
    sine = axis.norm(dim=-1, keepdim=True)
    cosine = ((rotation.diagonal(dim1=-2, dim2=-1).sum(dim=-1) - 1) / 2).unsqueeze(-1)
    angle = torch.atan2(sine, cosine)
    scale = torch.where(sine > 1e-9, angle / sine.clamp(min=1e-9), 1.0)
    return torch.cat([motion[..., :3, 3], axis * scale], dim=-1)


def pose_difference(poses: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Distance in metres and angle in radians, (T,) float64 each, between poses (T, 4, 4) and others."""
    moved = log_motion(invert(poses.double()) @ others.double())
    return moved[..., :3].norm(dim=-1), moved[..., 3:].norm(dim=-1)


def turned(poses: Tensor, distance: float, angle: float, generator: torch.Generator) -> Tensor:
    """Poses (T, 4, 4) moved by `distance` metres and turned by `angle` radians, each in a random direction."""
    twist = torch.randn(len(poses), 2, 3, generator=generator, dtype=torch.float64)
    twist = twist / twist.norm(dim=-1, keepdim=True)
    twist[:, 0] *= distance
    twist[:, 1] *= angle
    return (poses.double() @ exp_motion(twist.flatten(1)).to(poses.device)).to(poses.dtype)
