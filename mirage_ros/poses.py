"""Rigid transforms and quaternions, (..., 4, 4) and (..., 4) xyzw, under the conventions of `geometry`.

Quaternions appear only at the borders (ROS messages, trajectory files).
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

# Columns: the optical axes seen from the body (REP-103). Optical x is body -y, y is body -z, z is body x.
_BODY_FROM_OPTICAL = ((0.0, 0.0, 1.0, 0.0), (-1.0, 0.0, 0.0, 0.0), (0.0, -1.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0))
# How far a rotation block may be from orthonormal before a pose is refused: float32 products of many poses stay inside.
ROTATION_TOLERANCE = 1e-3


def check_pose(pose: Tensor, name: str = "pose") -> None:
    """Refuse anything but finite rigid (..., 4, 4) transforms."""
    if not isinstance(pose, Tensor) or pose.shape[-2:] != (4, 4) or not pose.is_floating_point():
        got = f"{tuple(pose.shape)} {pose.dtype}" if isinstance(pose, Tensor) else type(pose)
        raise ValueError(f"{name}: expected a floating-point tensor (..., 4, 4), got {got}")
    if not torch.isfinite(pose).all():
        raise ValueError(f"{name}: expected finite values, got {pose.tolist()}")
    if not (pose[..., 3, :] == pose.new_tensor([0, 0, 0, 1])).all():
        raise ValueError(f"{name}: expected a last row of 0 0 0 1, got {pose[..., 3, :].tolist()}")
    rotation = pose[..., :3, :3].double()
    error = (rotation @ rotation.mT - torch.eye(3, dtype=torch.float64, device=pose.device)).abs()
    if error.numel() and (error.max() > ROTATION_TOLERANCE or (torch.linalg.det(rotation) < 0).any()):
        raise ValueError(f"{name}: expected a rotation in the upper left 3x3 block, got {pose[..., :3, :3].tolist()}")


def transform(pose: Tensor, points: Tensor) -> Tensor:
    """Apply poses (..., 4, 4) to points (..., N, 3)."""
    return (pose[..., None, :3, :3] @ points.unsqueeze(-1)).squeeze(-1) + pose[..., None, :3, 3]


def invert(pose: Tensor) -> Tensor:
    """Inverse of rigid transforms (..., 4, 4), by transposing the rotation."""
    inverse = torch.zeros_like(pose)
    rotation = pose[..., :3, :3].mT
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ pose[..., :3, 3:]).squeeze(-1)
    inverse[..., 3, 3] = 1
    return inverse


def body_to_optical(world_from_body: Tensor) -> Tensor:
    """Pose (..., 4, 4) of the optical frame of a camera whose body (x forward, y left, z up) has this one; REP-103."""
    return world_from_body @ world_from_body.new_tensor(_BODY_FROM_OPTICAL)


def optical_to_body(world_from_optical: Tensor) -> Tensor:
    """Pose (..., 4, 4) of the body frame of a camera whose optical frame has this one; REP-103."""
    return world_from_optical @ world_from_optical.new_tensor(_BODY_FROM_OPTICAL).mT


def pose_from_quaternion(translation: Tensor, quaternion: Tensor) -> Tensor:
    """Poses from translations (..., 3) and quaternions (..., 4) xyzw of any length but zero.

    Returns:
        (..., 4, 4) in the translation's type and device.

    Raises:
        ValueError: wrong shapes, non-finite values or a quaternion shorter than 1e-6.
    """
    if translation.shape[-1:] != (3,) or not torch.isfinite(translation).all():
        raise ValueError(f"translation: expected finite (..., 3) metres, got {translation.tolist()}")
    if quaternion.shape[-1:] != (4,) or not torch.isfinite(quaternion).all():
        raise ValueError(f"quaternion: expected finite (..., 4) xyzw, got {quaternion.tolist()}")
    if (quaternion.norm(dim=-1) < 1e-6).any():
        raise ValueError(f"quaternion: expected unit length, got {quaternion.tolist()}, which is no rotation")
    shape = np.broadcast_shapes(translation.shape[:-1], quaternion.shape[:-1])
    xyzw = quaternion.detach().expand(*shape, 4).reshape(-1, 4).double().cpu().numpy()
    rotation = torch.from_numpy(Rotation.from_quat(xyzw).as_matrix()).reshape(*shape, 3, 3)
    pose = torch.zeros(*shape, 4, 4, dtype=translation.dtype, device=translation.device)
    pose[..., :3, :3] = rotation.to(pose)
    pose[..., :3, 3] = translation
    pose[..., 3, 3] = 1
    return pose


def quaternion_from_pose(pose: Tensor) -> Tensor:
    """Unit quaternions (..., 4) xyzw with w >= 0 of poses (..., 4, 4)."""
    check_pose(pose)
    matrices = pose[..., :3, :3].detach().reshape(-1, 3, 3).double().cpu().numpy()
    xyzw = Rotation.from_matrix(matrices).as_quat(canonical=True)
    return torch.from_numpy(xyzw).reshape(*pose.shape[:-2], 4).to(pose)
