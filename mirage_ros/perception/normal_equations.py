"""Normal equations of aligning frames with the memory: residuals of depth and features, and their derivatives."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mirage_ros.geometry import Camera, invert, transform
from mirage_ros.memory.latent_memory import LatentMemory

_TUKEY = 4.685
# Relative difference of depth beyond which a point is another surface.
_SAME_SURFACE = 0.15
# Pixels along each side of a cell that are looked at, like the memory's own.
_SAMPLES = 8
# Weight of all feature channels together against depth.
FEATURE_WEIGHT = 3.0


@dataclass(frozen=True, eq=False)
class Target:
    """Remembered points: positions (T, N, 3) world, features (T, N, C), known (T, N) bool."""

    positions: Tensor
    features: Tensor
    known: Tensor


@dataclass(frozen=True, eq=False)
class System:
    """Normal equations (T, 6, 6) and (T, 6), mean robust cost (T,), points (T,) and the deviation of depth (T,)."""

    hessian: Tensor
    gradient: Tensor
    cost: Tensor
    points: Tensor
    scale: Tensor


def remembered_points(memory: LatentMemory, camera: Camera) -> Target:
    """The elements that win cells, at their very places."""
    readout = memory.read(camera)
    depth = readout.depth.squeeze(1).double()
    pixels = camera.pixel_centres() + readout.offset.movedim(1, -1).double()
    fx, cx, fy, cy = (camera.intrinsics[:, r, c, None, None] for r, c in ((0, 0), (0, 2), (1, 1), (1, 2)))
    skew = camera.intrinsics[:, 0, 1, None, None]
    y = (pixels[..., 1] - cy) / fy
    x = (pixels[..., 0] - cx - skew * y) / fx
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1) * depth.unsqueeze(-1)
    return Target(
        positions=transform(camera.cam2world, local.flatten(1, 2)),
        features=readout.latents.double().flatten(2).mT,
        known=readout.visible.flatten(1) > 0,
    )


def shift_of(target: Target, camera: Camera, other: Camera) -> Tensor:
    """(T,) root mean square distance between the points' places in two cameras, cells."""
    moved = (camera.project(target.positions)[0] - other.project(target.positions)[0]).square().sum(dim=-1)
    counted = target.known & moved.isfinite()
    return (torch.where(counted, moved, 0.0).sum(dim=-1) / counted.sum(dim=-1).clamp(min=1)).sqrt()


class MeasuredImage:
    """What frames measured, ready to be sampled with derivatives."""

    def __init__(self, inverse: Tensor, camera: Camera, features: Tensor | None, side: int) -> None:
        self.inverse, self.camera, self.features, self.side = inverse, camera, features, side

    def system(self, target: Target, cam2world: Tensor, scale: Tensor | None = None) -> System:
        """Linearise at poses (T, 4, 4); `scale` is the deviation to weight with, by default that of the residuals."""
        local = transform(invert(cam2world), target.positions)
        x, y, z = local.unbind(-1)
        front = target.known & (z > 0.05)
        z = torch.where(front, z, 1.0)
        intrinsics = self.camera.intrinsics
        fx, cx, fy, cy = (intrinsics[:, r, c, None] for r, c in ((0, 0), (0, 2), (1, 1), (1, 2)))
        u, v = fx * x / z + cx, fy * y / z + cy
        value, du, dv = _window(self.inverse, u, v, self.side)
        residual = z * value - 1
        good = front & residual.isfinite() & (residual.abs() < _SAME_SURFACE)
        residual = torch.where(good, residual, 0.0)
        # Columns: translation, then rotation, of a motion of the points in the camera frame.
        zero = torch.zeros_like(x)
        move_u = torch.stack([fx / z, zero, -fx * x / z**2], dim=-1)
        move_v = torch.stack([zero, fy / z, -fy * y / z**2], dim=-1)
        along_z = torch.stack([zero, zero, value], dim=-1)
        slope = along_z + z.unsqueeze(-1) * (du.unsqueeze(-1) * move_u + dv.unsqueeze(-1) * move_v)
        jacobian = torch.where(good.unsqueeze(-1), _with_rotation(slope, local), 0.0)
        number = good.sum(dim=-1)
        if scale is None:
            spread = torch.where(good, residual.abs(), torch.nan).nanmedian(dim=-1).values
            scale = (1.4826 * spread).nan_to_num(1.0).clamp(min=5e-4)
        cut = _TUKEY * scale.unsqueeze(-1)
        inside = (1 - (residual / cut).square()).clamp(min=0)
        weights = inside.square() * good / scale.square().unsqueeze(-1)
        cost = ((1 - inside**3) * good).sum(dim=-1) / number.clamp(min=1)
        weighted = jacobian * weights.unsqueeze(-1)
        hessian, gradient = weighted.mT @ jacobian, (weighted.mT @ residual.unsqueeze(-1)).squeeze(-1)
        if self.features is not None:
            ratio_y = self.features.shape[-2] / self.camera.height
            ratio_x = self.features.shape[-1] / self.camera.width
            value, du, dv = _sample(self.features, u * ratio_x, v * ratio_y)
            wrong = value - target.features
            seen = (good & wrong.isfinite().all(dim=-1)).unsqueeze(-1)
            wrong = torch.where(seen, wrong, 0.0)
            spread = torch.where(seen, wrong.abs(), torch.nan).nanmedian(dim=1, keepdim=True).values
            deviation = (1.4826 * spread).nan_to_num(1.0).clamp(min=1e-3)
            share = (1 - (wrong / (_TUKEY * deviation)).square()).clamp(min=0).square() * seen
            weights = FEATURE_WEIGHT / wrong.shape[-1] * share / deviation.square()
            slope = (du * ratio_x).unsqueeze(-1) * move_u.unsqueeze(-2)
            slope = slope + (dv * ratio_y).unsqueeze(-1) * move_v.unsqueeze(-2)
            jacobian = torch.where(seen.unsqueeze(-1), _with_rotation(slope, local.unsqueeze(-2)), 0.0)
            flat = jacobian.flatten(1, 2)
            weighted = flat * weights.flatten(1).unsqueeze(-1)
            hessian = hessian + weighted.mT @ flat
            gradient = gradient + (weighted.mT @ wrong.flatten(1).unsqueeze(-1)).squeeze(-1)
        return System(hessian, gradient, cost, number, scale)


def _with_rotation(slope: Tensor, local: Tensor) -> Tensor:
    """(..., 6) derivative by a rigid motion of points: d(R q + t) = t + omega x q."""
    return torch.cat([slope, torch.linalg.cross(local.expand_as(slope), slope)], dim=-1)


def _window(inverse: Tensor, u: Tensor, v: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Inverse depth (T, N) at pixels (T, N) from windows as large as a cell, and its derivatives along u and v.

    A remembered point has the lower median depth of its cell, which on a slope is up to half a pixel from the cell's
    centre. The same median is taken here, so that this cancels. NaN where the window is not one surface.
    """
    height, width = inverse.shape[-2:]
    step = max(1, side // _SAMPLES)
    places = (torch.arange(side // step, device=u.device, dtype=u.dtype) - (side // step - 1) / 2) * step
    # The first pixel of the window whose centre is nearest to the point.
    half = (side // step - 1) / 2 * step
    left, top = (u - 0.5 - half).round(), (v - 0.5 - half).round()
    reach = 2 * half
    inside = (left >= 0) & (top >= 0) & (left + reach < width) & (top + reach < height)
    left, top = torch.where(inside, left, 0.0), torch.where(inside, top, 0.0)
    near = torch.arange(len(places), device=u.device) * step
    index = (top.long()[..., None, None] + near[:, None]).clamp(max=height - 1) * width
    index = (index + (left.long()[..., None, None] + near).clamp(max=width - 1)).flatten(2)
    values = inverse.flatten(1).gather(1, index.flatten(1)).unflatten(1, index.shape[1:])
    # The lower median of depth is the upper one of its inverse.
    median = -(-values).median(dim=-1).values
    along_x, along_y = places.repeat(len(places)), places.repeat_interleave(len(places))
    du = (values @ along_x) / along_x.square().sum()
    dv = (values @ along_y) / along_y.square().sum()
    plane = values.mean(dim=-1, keepdim=True) + du.unsqueeze(-1) * along_x + dv.unsqueeze(-1) * along_y
    flat = (values - plane).abs().amax(dim=-1) < _SAME_SURFACE * median
    at = median + du * (u - 0.5 - half - left) + dv * (v - 0.5 - half - top)
    return torch.where(inside & flat, at, torch.nan), du, dv


def _sample(image: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Bilinear values (T, N, C) of images (T, C, H, W) at pixels (T, N), NaN outside; derivatives along u and v."""
    height, width = image.shape[-2:]
    x, y = u - 0.5, v - 0.5
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    left = torch.where(inside, x, 0.0).floor().long().clamp(max=width - 2)
    top = torch.where(inside, y, 0.0).floor().long().clamp(max=height - 2)
    flat = image.flatten(2).mT

    def take(row: Tensor, column: Tensor) -> Tensor:
        index = (row * width + column).unsqueeze(-1).expand(-1, -1, flat.shape[-1])
        return flat.gather(1, index)

    a, b, c, d = take(top, left), take(top, left + 1), take(top + 1, left), take(top + 1, left + 1)
    wx, wy = (x - left).unsqueeze(-1), (y - top).unsqueeze(-1)
    value = a * (1 - wx) * (1 - wy) + b * wx * (1 - wy) + c * (1 - wx) * wy + d * wx * wy
    du = (b - a) * (1 - wy) + (d - c) * wy
    dv = (c - a) * (1 - wx) + (d - b) * wx
    return torch.where(inside.unsqueeze(-1), value, torch.nan), du, dv
