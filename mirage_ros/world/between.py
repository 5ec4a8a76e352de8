"""Frames between keyframes: nothing is invented there, the memory that holds the keyframes is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, pixel_unshuffle

from mirage_ros.geometry import Camera
from mirage_ros.images import fit_nearest
from mirage_ros.models import log_depth
from mirage_ros.models.branch_input import fill_views, pack_filled
from mirage_ros.visibility import pixels_of
from mirage_ros.world.networks import Networks
from mirage_ros.world.reading import Reading, read_views
from mirage_ros.world.spatial_memory import SpatialMemory

# A frame of which the keyframes leave more open than this becomes a keyframe itself.
LEAST_SHOWN = 0.98
# Two depths within this share are the same surface.
SAME_SURFACE = 0.05
# Earlier keyframes that are compared with all points in view, before the others are with what is left.
LATELY = 2


@dataclass(frozen=True, eq=False)
class Keyframe:
    """A frame that was imagined, or was known beforehand.

    Attributes:
        latents: (C, h, w), with depth channels where the preset has them.
        depth: (2h, 2w) metres, `log_depth.SKY_DEPTH` where it is too far to measure, NaN where it is unknown.
        known: (h, w) bool, cells that the memory showed before the trajectory.
        camera: single, at latent resolution.
    """

    latents: Tensor
    depth: Tensor
    known: Tensor
    camera: Camera

    @staticmethod
    def of(latents: Tensor, depth: Tensor, known: Tensor, camera: Camera) -> Keyframe:
        """A keyframe from depth (H, W) metres and the camera of a frame; see the attributes for the others."""
        rows, columns = known.shape
        metres = torch.where(depth == torch.inf, log_depth.SKY_DEPTH, depth)
        fine = fit_nearest(metres, rows * log_depth.FINE, columns * log_depth.FINE)
        return Keyframe(latents, fine, known, camera.resized(rows, columns))


@dataclass(frozen=True, eq=False)
class Between:
    """What is between two keyframes; T frames.

    Attributes:
        latents: (C, T, h, w) without depth channels, with something in every cell.
        depth: (T, 2h, 2w) metres.
        known: (T, h, w) bool, cells that the memory showed before the trajectory.
        shown: (T,) share of cells that the memory or the sky of a keyframe gives.
    """

    latents: Tensor
    depth: Tensor
    known: Tensor
    shown: Tensor


class Inventions:
    """What a trajectory invented so far, so that it does not count as known to the rest of it."""

    def __init__(self) -> None:
        """Nothing yet."""
        self._keyframes: list[Keyframe] = []

    def add(self, keyframes: Iterable[Keyframe]) -> None:
        """Take in keyframes of a finished chunk."""
        self._keyframes += [each for each in keyframes if not each.known.all()]

    def known(self, reading: Reading, keyframes: Iterable[Keyframe]) -> Tensor:
        """(T, h, w) bool, cells that a reading shows and that neither these keyframes nor earlier ones invented."""
        known = reading.visible[:, 0] > 0
        points = reading.camera.lift(reading.depth).flatten(0, 2)
        # What a camera saw is known.
        doubtful = known & torch.isfinite(reading.depth)
        if reading.observed is not None:
            doubtful &= ~reading.observed[:, 0]
        left = doubtful.flatten().nonzero().squeeze(1)
        known = (known & ~doubtful).flatten()
        # What was invented was mostly lately, so that little is left for the many keyframes of a long walk.
        for some in ([*keyframes], self._keyframes[-LATELY:], self._keyframes[:-LATELY]):
            if some and len(left):
                left = left[~_invented(some, points[left])]
        known[left] = True
        return known.reshape(doubtful.shape)


def read_between(
    networks: Networks, memory: SpatialMemory, cameras: Camera, keyframes: list[Keyframe], earlier: Inventions
) -> Between:
    """Read frames out of a memory that holds the keyframes around them.

    Args:
        networks: and their preset, which has depth channels.
        memory: to read.
        cameras: (T,) at latent resolution.
        keyframes: around these frames. No memory holds the sky, so it is taken from them by its direction alone.
        earlier: what the trajectory invented before those.
    """
    preset, channels = networks.preset, networks.autoencoder.channels
    reading = read_views(memory, cameras, preset, networks.unfolder, with_observed=True)
    shown = reading.visible > 0
    latents, depth = reading.latents, reading.fine_depth
    for keyframe in keyframes:
        sky, seen = _sky_of(keyframe, cameras, channels)
        taken = seen & ~shown
        latents = torch.where(taken, sky.to(latents), latents)
        fine = taken.repeat_interleave(log_depth.FINE, dim=-2).repeat_interleave(log_depth.FINE, dim=-1).squeeze(1)
        depth = torch.where(fine, log_depth.SKY_DEPTH, depth)
        shown = shown | taken
    filled = torch.where(shown, latents, fill_views(latents, shown.to(latents)))
    packed = pack_filled(depth, preset.log_depth_mean, preset.log_depth_std)
    return Between(
        latents=filled.transpose(0, 1),
        depth=log_depth.unpack(packed, preset.log_depth_mean, preset.log_depth_std),
        known=earlier.known(reading, keyframes),
        shown=shown.float().mean(dim=(1, 2, 3)),
    )


def _sky_of(keyframe: Keyframe, cameras: Camera, channels: int) -> tuple[Tensor, Tensor]:
    """Latents (T, C, h, w) of the keyframe in the directions of other cameras, and (T, 1, h, w) where they are sky."""
    height, width = keyframe.camera.height, keyframe.camera.width
    pixels, distance = keyframe.camera.project(keyframe.camera.cam2world[:3, 3] + cameras.rays())
    grid = (pixels / pixels.new_tensor([width, height]) * 2 - 1).float()
    inside = (distance > 0) & (grid.abs() <= 1).all(dim=-1)
    far = (keyframe.depth > log_depth.SKY_FROM).float()
    sky = avg_pool2d(far[None], log_depth.FINE)
    image = torch.cat([keyframe.latents[:channels].float(), sky]).expand(len(cameras), -1, -1, -1)
    # Smooth, because the sky is: the nearest cell would make it jump from frame to frame.
    sampled = grid_sample(image, grid.nan_to_num(), padding_mode="border", align_corners=False)
    return sampled[:, :-1], (sampled[:, -1:] > 0.5) & inside[:, None]


def _invented(keyframes: Sequence[Keyframe], points: Tensor) -> Tensor:
    """(N,) bool, which points (N, 3) lie on what one of the keyframes invented."""
    cell, distance = pixels_of(Camera.stacked([each.camera for each in keyframes]), points)
    inside = cell.clamp(min=0)
    # Any of the cell's samples: edges are a matter of a pixel.
    fine = pixel_unshuffle(torch.stack([each.depth for each in keyframes])[:, None], log_depth.FINE).flatten(2)
    samples = fine.gather(2, inside[:, None].expand(-1, fine.shape[1], -1))
    same = ((distance[:, None] / samples - 1).abs() < SAME_SURFACE).any(dim=1)
    known = torch.stack([each.known.flatten() for each in keyframes]).gather(1, inside)
    return ((cell >= 0) & same & ~known).any(dim=0)
