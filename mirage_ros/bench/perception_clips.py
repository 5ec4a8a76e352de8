"""Simulated walks with truth about what moves, and depth as an estimator might spoil it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.protocols.sim import FPS, draw_walk
from mirage_ros.geometry import Camera
from mirage_ros.images import as_images
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


def draw_clip(seed: int, family: str, *, moving: int, frames: int) -> TrueClip:
    """Walk at half a metre a second through a simulated scene, ten frames of 192x128 pixels a second.

    Args:
        seed, family, moving: of the scene.
        frames: of the clip.

    Raises:
        ValueError: the scene has no room for such a walk.
    """
    scene = build_scene(seed, family, moving=moving)
    path = plan_path(scene, frames, 0, step=0.5 / FPS)
    with Renderer(scene, 128, 192) as renderer:
        clip = draw_walk(f"{family}-{seed}", renderer, path)
    depth, labels = torch.from_numpy(clip.depth), torch.from_numpy(clip.labels)
    return TrueClip(
        as_images(clip.rgb), depth, labels, image_speed(scene.movers, depth, labels, clip.camera), clip.camera
    )


def image_speed(movers: tuple[Mover, ...], depth: Tensor, labels: Tensor, camera: Camera) -> Tensor:
    """(T, H, W) pixels by which each moving pixel moves to the next frame, the camera's own motion apart."""
    speed = torch.zeros_like(depth)
    if not movers:
        return speed
    for t in range(len(depth)):
        # The last frame is compared with the one before.
        other = t + 1 if t + 1 < len(depth) else t - 1
        here, there = (torch.tensor([mover.pose(time / FPS)[0] for mover in movers]) for time in (t, other))
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


def spoil_depth(depth: Tensor, share: float, generator: torch.Generator, *, bleed: int = 0) -> Tensor:
    """Depth as an estimator might give it.

    Args:
        depth: (T, H, W) metres.
        share: standard deviation of the multiplicative noise; half of its variance is of each pixel, half is smooth,
            with bumps of an eighth of the image, as estimators err.
        bleed: pixels by which edges are blurred, so that they hold depths between their two sides.
    """
    rough = torch.randn(depth.shape, generator=generator)
    smooth = F.interpolate(torch.randn((len(depth), 1, 10, 10), generator=generator), depth.shape[1:], mode="bicubic")
    smooth = smooth[:, 0] / smooth.std()
    spoiled = depth
    if bleed:
        inverse = torch.where(depth > 0, 1 / depth.clamp(min=1e-6), 0.0)
        padded = F.pad(inverse.unsqueeze(1), (bleed,) * 4, mode="replicate")
        blurred = F.avg_pool2d(padded, 2 * bleed + 1, stride=1).squeeze(1)
        spoiled = torch.where(depth > 0, 1 / blurred.clamp(min=1e-6), 0.0)
    return spoiled * (1 + share * (rough + smooth) / 2**0.5).clamp(min=0.2)
