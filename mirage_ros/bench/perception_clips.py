"""Simulated walks with truth about what moves, for the measurements of perception."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.sim.mjcf import Label
from mirage_ros.sim.movers import Mover
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene


@dataclass(frozen=True, eq=False)
class TrueClip:
    """A walk as a simulator knows it.

    Attributes:
        rgb: (T, 3, H, W) float32 0..1.
        depth: (T, H, W) float32 metres, 0 for sky.
        labels: (T, H, W) uint8, values of Label.
        speed: (T, H, W) float32 pixels by which a moving pixel moves to the next frame beside what the camera does;
            zero where nothing moves.
        camera: (T,) cameras.
    """

    rgb: Tensor
    depth: Tensor
    labels: Tensor
    speed: Tensor
    camera: Camera

    def __len__(self) -> int:
        return len(self.rgb)

    @property
    def still(self) -> Tensor:
        """(T, H, W) bool, where there is something that does not move."""
        return self.labels == Label.STATIC


def draw_clip(
    seed: int,
    family: str = "rooms",
    *,
    moving: int = 0,
    frames: int = 25,
    height: int = 128,
    width: int = 192,
    fps: float = 10.0,
    speed: float = 0.5,
    path_seed: int = 0,
) -> TrueClip:
    """Walk through a simulated scene.

    Args:
        seed, family, moving: of the scene.
        frames: of the clip.
        height, width: pixels.
        fps: frames a second.
        speed: of the camera, metres a second.
        path_seed: of the path.
    """
    scene = build_scene(seed, family, moving=moving)
    path = plan_path(scene, frames, path_seed, step=speed / fps)
    with Renderer(scene, height, width) as renderer:
        camera = renderer.camera(path)
        drawn = [renderer.render(pose, index / fps) for index, pose in enumerate(path)]
    rgb = torch.from_numpy(np.stack([frame.rgb for frame in drawn])).permute(0, 3, 1, 2).float() / 255
    depth = torch.from_numpy(np.stack([frame.finite_depth for frame in drawn]))
    labels = torch.from_numpy(np.stack([frame.labels for frame in drawn]))
    return TrueClip(rgb, depth, labels, image_speed(scene.movers, depth, labels, camera, fps), camera)


def image_speed(movers: tuple[Mover, ...], depth: Tensor, labels: Tensor, camera: Camera, fps: float) -> Tensor:
    """(T, H, W) pixels by which each moving pixel moves to the next frame, the camera's own motion apart."""
    speed = torch.zeros_like(depth)
    if not movers:
        return speed
    for t in range(len(depth)):
        # The last frame is compared with the one before.
        other = t + 1 if t + 1 < len(depth) else t - 1
        here = torch.tensor([mover.pose(t / fps)[0] for mover in movers])
        there = torch.tensor([mover.pose(other / fps)[0] for mover in movers])
        at = labels[t] == Label.MOVING
        points = camera[t].lift(depth[t])[at]
        if not len(points):
            continue
        # Courses do not overlap, so the nearest is the one.
        own = torch.cdist(points[:, :2], here[:, :2]).argmin(dim=1)
        before, _ = camera[other].project(points)
        after, _ = camera[other].project(points + (there - here)[own])
        # What leaves through the plane of the camera is fast.
        speed[t][at] = (after - before).norm(dim=-1).nan_to_num(torch.inf)
    return speed


def to_cells(mask: Tensor, stride: int) -> Tensor:
    """(T, H / stride, W / stride) share of true pixels of each cell."""
    return torch.nn.functional.avg_pool2d(mask.float().unsqueeze(1), stride).squeeze(1)


def spoil_depth(depth: Tensor, share: float, generator: torch.Generator, *, bleed: int = 0) -> Tensor:
    """Depth as an estimator might give it.

    Args:
        depth: (T, H, W) metres.
        share: standard deviation of the multiplicative noise; half of its variance is of each pixel, half is smooth,
            with bumps of an eighth of the image, as estimators err.
        generator: of the noise.
        bleed: pixels by which edges are blurred, so that they hold depths between their two sides.
    """
    count, height, width = depth.shape
    rough = torch.randn(depth.shape, generator=generator)
    coarse = torch.randn((count, 1, 10, 10), generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").squeeze(1)
    smooth = smooth / smooth.std()
    spoiled = depth
    if bleed:
        kernel = 2 * bleed + 1
        inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
        padded = torch.nn.functional.pad(inverse.unsqueeze(1), (bleed,) * 4, mode="replicate")
        blurred = torch.nn.functional.avg_pool2d(padded, kernel, stride=1).squeeze(1)
        spoiled = torch.where(depth > 0, 1 / blurred.clamp(min=1e-6), 0.0)
    return spoiled * (1 + share * (rough + smooth) / 2**0.5).clamp(min=0.2)
