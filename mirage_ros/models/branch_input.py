"""What the memory branch is given: groups of channels made from a readout, in a stated order.

Shapes follow the memory's readouts, frames before channels: (..., T, C, h, w). The result is what a video network
takes: (..., K, T, h, w). Cells that the memory does not show are zero in every group but those that say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pixel_unshuffle

from mirage_ros.geometry import Camera
from mirage_ros.models import log_depth
from mirage_ros.poses import invert, transform

# Channels of each group; None stands for the channels of a latent token.
GROUPS: dict[str, int | None] = {
    # The readout's latents.
    "latents": None,
    # 1 where the memory shows something.
    "visible": 1,
    # The latent of an all-ones video, the same everywhere: what the public Mirage code feeds in place of visibility.
    "ones": None,
    # Latents with holes filled from the nearest seen cell of the same row (`fill_rows`).
    "fill": None,
    # From the cell's centre to the element, in cells.
    "offset": 2,
    # Logarithm of source depth over target depth: how far the token is magnified.
    "log_scale": 1,
    # Log depth on a grid twice as fine, unshuffled (`log_depth.pack`).
    "depth": log_depth.CHANNELS,
    # Pluecker coordinates of the cells' rays (`pluecker_rays`), known everywhere.
    "rays": 6,
    # Latents, and packed log depth, with walls and floors continued where nothing is seen; everywhere.
    "layout": None,
    "layout_depth": log_depth.CHANNELS,
}
_EVERYWHERE = ("ones", "fill", "rays", "layout", "layout_depth")


def input_channels(inputs: Sequence[str], latent_channels: int) -> int:
    """Number of input channels of these groups.

    Raises:
        ValueError: a group is unknown or given twice, or there is none.
    """
    unknown = [name for name in inputs if name not in GROUPS]
    if unknown or not inputs or len(set(inputs)) != len(inputs):
        raise ValueError(f"inputs: expected different names out of {', '.join(GROUPS)}, got {tuple(inputs)}")
    return sum(GROUPS[name] or latent_channels for name in inputs)


def group_channels(inputs: Sequence[str], names: Sequence[str], latent_channels: int) -> list[int] | None:
    """Places of the channels of some groups in the branch's input, one group after the other.

    Args:
        inputs: names of `GROUPS`, in the branch's order.
        latent_channels: channels of a latent token.

    Returns:
        places from 0; None where the input lacks a group.
    """
    places, start = {}, 0
    for name in inputs:
        end = start + (GROUPS[name] or latent_channels)
        places[name], start = list(range(start, end)), end
    return [place for name in names for place in places[name]] if all(name in places for name in names) else None


def assemble(inputs: Sequence[str], values: Mapping[str, Tensor], latent_channels: int) -> Tensor:
    """Stack channel groups into the branch's input.

    Args:
        inputs: names of `GROUPS`, in the branch's order (`branch.config["inputs"]`).
        values: at least `latents` and `visible`, and every group in `inputs` except `fill`, which is made here.
            Each (..., T, channels, h, w), floating point.
        latent_channels: channels of a latent token.

    Returns:
        (..., K, T, h, w) in the type of the latents.

    Raises:
        ValueError: a group is missing or has another shape than expected; the message names it.
    """
    for name in ("latents", "visible", *inputs):
        if name not in values and name != "fill":
            raise ValueError(f"{name}: expected in the branch's input, got {', '.join(values)}")
    latents, visible = values["latents"], values["visible"]
    *batch, frames, _, height, width = latents.shape
    seen = visible > 0
    parts = []
    for name in inputs:
        value = values[name] if name in values else fill_rows(latents, seen)
        expected = (*batch, frames, GROUPS[name] or latent_channels, height, width)
        if tuple(value.shape) != expected:
            raise ValueError(f"{name}: expected {expected}, got {tuple(value.shape)}")
        # A masked cell is zero even where it holds NaN.
        parts.append((value if name in _EVERYWHERE else torch.where(seen, value, 0)).to(latents.dtype))
    return torch.cat(parts, dim=-3).transpose(-4, -3)


def fill_rows(latents: Tensor, seen: Tensor) -> Tensor:
    """Fill unseen cells with the nearest seen cell of their row, of equals the left one; zero where a row has none.

    Args:
        latents: (..., C, h, w).
        seen: (..., 1, h, w) bool.

    Returns:
        (..., C, h, w). No host synchronisation.
    """
    width = latents.shape[-1]
    column = torch.arange(width, device=latents.device).expand(seen.shape)
    left = torch.where(seen, column, -width).cummax(dim=-1).values
    right = torch.where(seen, column, 2 * width).flip(-1).cummin(dim=-1).values.flip(-1)
    nearest = torch.where(column - left <= right - column, left, right)
    inside = (nearest >= 0) & (nearest < width)
    filled = latents.gather(-1, nearest.clamp(0, width - 1).expand(latents.shape))
    return torch.where(inside, filled, 0)


def fill_smoothly(values: Tensor, seen: Tensor) -> Tensor:
    """Fill unseen cells from their surroundings: means of what is seen at ever coarser scales (push-pull).

    Args:
        values: (N, C, h, w).
        seen: (N, 1, h, w), one or zero.

    Returns:
        (N, C, h, w), what is seen unchanged; zero where nothing is seen in the whole frame. No host synchronisation.
    """
    height, width = values.shape[-2:]
    known = values * seen
    if max(height, width) == 1:
        return known
    weight = avg_pool2d(seen, 2, ceil_mode=True)
    coarse = avg_pool2d(known, 2, ceil_mode=True) / weight.clamp(min=1e-6)
    around = fill_smoothly(coarse, (weight > 0).to(seen.dtype))
    return known + (1 - seen) * interpolate(around, size=(height, width), mode="bilinear", align_corners=False)


def fill_views(values: Tensor, seen: Tensor) -> Tensor:
    """Fill unseen cells of a clip: `fill_smoothly`, and the mean of the other views where a view shows nothing.

    Args:
        values: (..., T, C, h, w).
        seen: (..., T, 1, h, w), one or zero.
    """
    views = values.flatten(0, -4), seen.flatten(0, -4)
    filled = fill_smoothly(*views).unflatten(0, values.shape[:-3])
    share = seen.mean(dim=(-4, -2, -1), keepdim=True)
    usual = (values * seen).mean(dim=(-4, -2, -1), keepdim=True) / share.clamp(min=1e-6)
    return torch.where(seen.amax(dim=(-2, -1), keepdim=True) > 0, filled, usual)


def pack_filled(depth: Tensor, mean: float, deviation: float) -> Tensor:
    """`log_depth.pack` with a depth everywhere: what is unknown is filled from around.

    A zero in a channel would be the mean depth, and the network would take it for a wall.

    Args:
        depth: (..., T, 2h, 2w) metres; +inf is too far to measure.
        mean, deviation: of log depth over the training data.

    Returns:
        (..., T, 4, h, w); zero in views of which nothing is known, if that is so of all.
    """
    known = pixel_unshuffle((depth > 0).float().unsqueeze(-3), log_depth.FINE)
    packed = log_depth.pack(depth, mean, deviation)
    # Whole cells only: their channels are filled together.
    filled = fill_views(packed, known.amin(dim=-3, keepdim=True))
    return torch.where(known > 0, packed, filled)


def pack_frames(depth: Tensor, mean: float, deviation: float) -> Tensor:
    """`log_depth.pack` of frames with a depth everywhere: a hole is filled from surfaces or is sky, nothing between.

    Args:
        depth: (..., T, 2h, 2w) metres; `log_depth.SKY_DEPTH` or +inf is too far to measure.
        mean, deviation: of log depth over the training data.

    Returns:
        (..., T, 4, h, w).
    """
    sky, known = depth > log_depth.SKY_FROM, depth > 0
    share = fill_smoothly(*(part.float().flatten(0, -3).unsqueeze(1) for part in (sky, known))).reshape(depth.shape)
    surface = (known & ~sky).unsqueeze(-3)
    sky = sky | (~known & (share > 0.5))
    metres = torch.where(surface, depth.unsqueeze(-3), math.exp(mean))
    metres = metres.clamp(log_depth.NEAREST, log_depth.FURTHEST)
    logarithm = (metres.log() - mean) / deviation
    filled = torch.where(surface, logarithm, fill_views(logarithm, surface.to(logarithm.dtype)))
    far = (math.log(log_depth.SKY_DEPTH) - mean) / deviation
    return pixel_unshuffle(torch.where(sky.unsqueeze(-3), far, filled), log_depth.FINE)


def pluecker_rays(camera: Camera, anchor: Tensor) -> Tensor:
    """Pluecker coordinates of every cell's ray, seen from an anchor pose (as in CameraCtrl, arXiv 2404.02101).

    Args:
        camera: (..., T) at latent resolution.
        anchor: (..., 4, 4) cam2world that serves as origin, usually the first target camera.

    Returns:
        (..., T, 6, h, w): unit direction, then moment (origin x direction, metres), both in the anchor's axes.
    """
    relative = invert(anchor).unsqueeze(-3) @ camera.cam2world
    local = camera.at(relative.to(camera.intrinsics.dtype))
    directions = torch.nn.functional.normalize(local.rays(), dim=-1)
    origin = transform(relative, torch.zeros_like(relative[..., :1, :3])).unsqueeze(-2)
    moments = torch.linalg.cross(origin.expand_as(directions).to(directions.dtype), directions)
    return torch.cat([directions, moments], dim=-1).movedim(-1, -3)
