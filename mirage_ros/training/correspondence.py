"""Where one view's cells are in another view, from true depth: which of them both see, and nothing that moves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.metrics import SAME_SURFACE
from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.recordings.clips import Clip
from mirage_ros.visibility import sees


def correspond(target: Camera, target_depth: Tensor, source: Camera, source_depth: Tensor) -> tuple[Tensor, Tensor]:
    """For each cell of the target, its place in the source.

    Args:
        target, source: (T,) cameras at the same or different resolutions.
        target_depth: (T, h, w) metres at the target's resolution; invalid where a cell shall not be matched.
        source_depth: (T, H, W) metres at any resolution with the source's field of view; invalid likewise.

    Returns:
        places (T, h, w, 2) as (x, y) in the source's cells, and covisible (T, h, w) bool: inside the source, and the
        source measures that surface there.
    """
    points = target.lift(target_depth)
    pixels, depth = source.project(points.flatten(-3, -2))
    shape = target_depth.shape
    places = torch.nan_to_num(pixels, nan=-1e4).clamp(-1e4, 1e4).unflatten(-2, shape[-2:]).to(target_depth.dtype)
    depth = depth.unflatten(-1, shape[-2:])
    size = places.new_tensor([source.width, source.height])
    measured = F.grid_sample(
        torch.nan_to_num(source_depth, nan=0.0, posinf=0.0).unsqueeze(1),
        2 * places / size - 1,
        mode="nearest",
        align_corners=False,
    ).squeeze(1)
    inside = ((places > 0) & (places < size)).all(dim=-1)
    same = valid_depth(measured) & ((depth / measured.clamp(min=1e-6) - 1).abs() < SAME_SURFACE)
    return places, inside & same & valid_depth(target_depth)


def shared_by(clip: Clip, targets: Sequence[int], sources: Sequence[int]) -> Tensor:
    """Pixels of some frames of a clip that at least one of other frames sees too, standing still.

    Args:
        clip: with true depth.
        targets, sources: places in the clip.

    Returns:
        (targets, H, W) bool.
    """
    metres = torch.from_numpy(np.where(clip.keep, clip.depth, np.float32(np.nan))).double()
    cameras, chosen = clip.camera.to(dtype=torch.float64), torch.tensor(targets)
    points = cameras[chosen].lift(metres[chosen]).reshape(-1, 3)
    seen = [sees(cameras[source], metres[source], points, SAME_SURFACE) for source in sources]
    return torch.stack(seen).any(dim=0).reshape(len(chosen), *metres.shape[1:])
