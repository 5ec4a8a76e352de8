"""Exposure and white balance: a camera's frame brought to that of what the memory shows of it.

Cameras expose and balance by themselves. A memory of frames that were exposed differently would show seams, and the
networks would take them for edges.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.world.reading import was_observed

# Depths within this share of each other are one surface.
SAME_SURFACE = 0.05
# Values too near black or white say nothing of a gain; cells needed, and the share of a view.
DARKEST, BRIGHTEST, LEAST_CELLS, LEAST_SHARE = 0.04, 0.96, 24, 0.04
# Logarithms: spread of the cells' ratios beyond which it is not exposure that differs, gains that are not worth a
# change, and gains that no camera makes between two frames of one place.
WIDEST, SMALLEST, GREATEST = 0.2, 0.015, 1.2


def fitted_gain(
    memory: LatentMemory, image: Tensor, depth: Tensor, camera: Camera, keep: Tensor | None = None
) -> Tensor:
    """The gain of each channel that brings an image to the exposure of what the memory shows of it.

    The median over cells of the ratio of remembered to seen mean colours, where both show the same surface and the
    memory shows what a camera saw: what was imagined tells no exposure.

    Args:
        memory: that keeps colours.
        image: (3, H, W) 0..1.
        depth: (H', W') metres of the image at any resolution, invalid where unknown.
        camera: () of the image, at latent resolution.
        keep: (H', W') bool like the depth, false on what moves.

    Returns:
        (3,) float32; ones where too little overlaps or where the cells do not agree on a gain.
    """
    readout = memory.read(Camera.stacked([camera]), observed_first=True)
    height, width = camera.height, camera.width
    seen = F.interpolate(image[None].float(), size=(height, width), mode="area")[0]
    known = memory.cloud().colours[readout.index[0, 0].clamp(min=0)].movedim(-1, 0).float() / 255
    if keep is not None:
        depth = torch.where(keep, depth, torch.nan)
    observed = was_observed(memory.sources, readout)[0, 0]
    middles = F.interpolate(depth[None, None].float(), size=(height, width), mode="nearest-exact")[0, 0]
    near = (readout.depth[0, 0] / middles - 1).abs() < SAME_SURFACE
    exposed = ((seen > DARKEST) & (seen < BRIGHTEST) & (known > DARKEST) & (known < BRIGHTEST)).all(dim=0)
    counted = near & observed & exposed & (readout.visible[0, 0] > 0)
    unit = torch.ones(3, device=image.device)
    if int(counted.sum()) < max(LEAST_CELLS, LEAST_SHARE * height * width):
        return unit
    ratio = (known[:, counted] / seen[:, counted]).log()
    gain = ratio.median(dim=1).values
    spread = (ratio - gain[:, None]).abs().median(dim=1).values
    if bool((spread > WIDEST).any()) or bool((gain.abs() > GREATEST).any()):
        return unit
    return torch.where(gain.abs() > SMALLEST, gain.exp(), unit)
