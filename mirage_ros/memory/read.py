"""Reading: from positions, sizes and features to what target cameras see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.zbuffer.backends import winners_of
from mirage_ros.memory.zbuffer.cpu import gather_native
from mirage_ros.memory.zbuffer.projection import (
    BORDER,
    CENTRED,
    MAX_FOOTPRINT,
    Convention,
    Views,
    project,
    views_of,
)
from mirage_ros.memory.zbuffer.reference import RULES, TOLERANCE

# Winners that `blend` mixes, and the standard deviation of their Gaussian weights in cells.
BLEND_BEST = 4
BLEND_SIGMA = 0.35


def read_elements(
    positions: Tensor,
    sizes: Tensor,
    features: Tensor,
    camera: Camera,
    *,
    rule: str = "nearest",
    tolerance: float = TOLERANCE,
    blend: bool = False,
    convention: Convention = CENTRED,
    max_footprint: int = MAX_FOOTPRINT,
) -> Readout:
    """Read elements that are given as tensors; differentiable with respect to the features.

    The rules are those of `zbuffer`. On a CUDA device there is no host synchronisation.

    Args:
        positions: (N, 3) or (B, N, 3) float world metres. Rows that are not finite never win.
        sizes: (N,) or (B, N) metres, the side of the square patch that an element stands for.
        features: (N, C) or (B, N, C) float.
        camera: (...) cameras at the resolution of the target grid; with B, a batch (B, T).
        rule: 'nearest' or 'strict'.
        tolerance: share of depth within which elements count as one surface, for `nearest`.
        blend: mix the best four candidates of a cell with Gaussian weights of their offsets; needs `nearest`.
        convention: where cell centres are, and whether footprints are drawn.
        max_footprint: greatest reach of a footprint in cells, 1..4.

    Returns:
        a readout whose confidence is one and whose source is -1 throughout.

    Raises:
        TypeError: an argument is not a tensor or not a camera.
        ValueError: a shape or an option is not usable.
    """
    check_rule(rule, tolerance, blend, max_footprint)
    _check_elements(positions, sizes, features, camera)
    options: dict[str, Any] = {
        "rule": rule,
        "tolerance": tolerance,
        "best": BLEND_BEST if blend else 1,
        "max_footprint": max_footprint,
    }
    views = views_of(camera, convention)
    own = positions.float().mT.contiguous()
    index = winners_of(own, sizes, views, **options)
    if positions.ndim == 3:
        # One list of elements: winners of batch b are offset by b x N.
        groups, elements = positions.shape[:2]
        first = torch.arange(groups, device=index.device) * elements
        first = first.repeat_interleave(camera.batch_shape[1])[:, None, None]
        index = torch.where(index >= 0, index + first, -1)
        own, sizes, features = own.transpose(0, 1).reshape(3, -1), sizes.flatten(), features.flatten(0, 1)
    confidence = torch.ones_like(sizes, dtype=torch.float32)
    frames = torch.zeros_like(sizes, dtype=torch.int16)
    ids = torch.full((1,), -1, device=index.device)
    return assemble(index, own, sizes, features, None, confidence, frames, ids, views, camera.batch_shape)


def assemble(
    index: Tensor,
    positions: Tensor,
    sizes: Tensor,
    features: Tensor,
    scale: Tensor | None,
    confidence: Tensor,
    frames: Tensor,
    ids: Tensor,
    views: Views,
    batch_shape: torch.Size,
    dtype: torch.dtype = torch.float32,
) -> Readout:
    """Gather what a readout holds, once, from the indices of the winners.

    Args:
        index: (V, best, cells) winners, -1 where there is none.
        positions: (3, N) float32.
        sizes, confidence: (N,).
        features: (N, C).
        scale: (C,) float32 factors of int8 features.
        frames: (N,) int16 slots of source frames.
        ids: (S,) int64 id of each slot.
        views: the target views.
        batch_shape: shape of the cameras' batch.
        dtype: of the latents.
    """
    first = index[:, 0]
    visible = first >= 0
    rows = first.clamp(min=0)
    if sizes.shape[0] == 0:
        # One invisible element, so that there is a row to gather.
        positions, sizes = positions.new_zeros(3, 1), sizes.new_zeros(1)
        features, confidence = features.new_zeros(1, features.shape[1]), confidence.new_zeros(1)
        frames, ids = frames.new_zeros(1), ids.new_full((1,), -1)
    flat = rows.reshape(-1)
    x, y, z = (axis.index_select(0, flat).reshape(rows.shape) for axis in positions.unbind(0))
    column, row, depth = project(x, y, z, views.matrices)
    cell = torch.arange(views.cells, device=rows.device)
    centre = BORDER + views.convention.centre
    dx = column - (cell % views.width + centre)
    dy = row - (torch.div(cell, views.width, rounding_mode="floor") + centre)
    size = sizes.index_select(0, flat).reshape(rows.shape).float()
    scaled = torch.where(visible, size * views.focal.unsqueeze(-1) / depth, 1.0)
    if index.shape[1] == 1:
        latents = _gather(features, scale, flat, visible, dtype)
    else:
        latents = _blend(index, positions, features, scale, views).to(dtype)

    slots = frames.index_select(0, flat).to(torch.int64)

    def grid(values: Tensor) -> Tensor:
        values = values if values.ndim == 3 else values.unsqueeze(1)
        return values.reshape(*batch_shape, values.shape[1], views.height, views.width)

    return Readout(
        latents=grid(latents),
        visible=grid(visible.float()),
        depth=grid(torch.where(visible, depth, 0.0)),
        offset=grid(torch.where(visible.unsqueeze(1), torch.stack([dx, dy], dim=1), 0.0)),
        log_scale=grid(scaled.log()),
        confidence=grid(torch.where(visible, confidence.index_select(0, flat).reshape(rows.shape).float(), 0.0)),
        source=grid(torch.where(visible, ids.index_select(0, slots).reshape(rows.shape), -1)),
        index=grid(first),
    )


def _gather(features: Tensor, scale: Tensor | None, flat: Tensor, visible: Tensor, dtype: torch.dtype) -> Tensor:
    """(V, C, cells) features of the winners, zero where there is none."""
    if dtype == torch.float32:
        gathered = gather_native(features, scale, torch.where(visible, flat.reshape(visible.shape), -1))
        if gathered is not None:
            return gathered
    # Emptied and turned around while the numbers are still small.
    rows = features.index_select(0, flat).reshape(*visible.shape, features.shape[1])
    rows = rows.masked_fill_(~visible.unsqueeze(-1), 0).mT.contiguous()
    # A scale may be too small for float16, where the product is not.
    return rows.to(dtype) if scale is None else rows.float().mul_(scale.unsqueeze(-1)).to(dtype)


def _blend(index: Tensor, positions: Tensor, features: Tensor, scale: Tensor | None, views: Views) -> Tensor:
    """(V, C, cells) float32 means of the best winners, weighted by a Gaussian of their offsets."""
    cell = torch.arange(views.cells, device=index.device)
    centre = BORDER + views.convention.centre
    centre_x = cell % views.width + centre
    centre_y = torch.div(cell, views.width, rounding_mode="floor") + centre
    total: Tensor | None = None
    weights = torch.zeros_like(index[:, 0], dtype=torch.float32)
    nearest: Tensor | None = None
    for rank in range(index.shape[1]):
        present = index[:, rank] >= 0
        flat = index[:, rank].clamp(min=0).reshape(-1)
        x, y, z = (axis.index_select(0, flat).reshape(present.shape) for axis in positions.unbind(0))
        column, row, _ = project(x, y, z, views.matrices)
        squared = (column - centre_x) ** 2 + (row - centre_y) ** 2
        # Relative to the nearest: far from the centre all weights would underflow together.
        nearest = squared if nearest is None else nearest
        weight = torch.where(present, torch.exp((nearest - squared) / (2 * BLEND_SIGMA**2)), 0.0)
        part = _gather(features, scale, flat, present, torch.float32) * weight.unsqueeze(1)
        total = part if total is None else total + part
        weights = weights + weight
    assert total is not None
    return total / weights.clamp(min=1e-9).unsqueeze(1)


def check_rule(rule: str, tolerance: float, blend: bool, max_footprint: int) -> None:
    """Refuse options that no read knows."""
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")
    if not 0 <= tolerance < 1:
        raise ValueError(f"tolerance: expected a share of depth in [0, 1), got {tolerance}")
    if blend and rule != "nearest":
        raise ValueError(f"blend: expected rule 'nearest' with it, got {rule!r}")
    if not 1 <= max_footprint <= MAX_FOOTPRINT:
        raise ValueError(f"max_footprint: expected 1..{MAX_FOOTPRINT} cells, got {max_footprint}")


def _check_elements(positions: Tensor, sizes: Tensor, features: Tensor, camera: Camera) -> None:
    for name, tensor in (("positions", positions), ("sizes", sizes), ("features", features)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a tensor, got {type(tensor).__name__}")
    if not isinstance(camera, Camera):
        raise TypeError(f"camera: expected Camera, got {type(camera).__name__}")
    if positions.ndim not in (2, 3) or positions.shape[-1] != 3 or not positions.is_floating_point():
        raise ValueError(
            f"positions: expected float (N, 3) or (B, N, 3), got {tuple(positions.shape)} {positions.dtype}"
        )
    if sizes.shape != positions.shape[:-1]:
        raise ValueError(f"sizes: expected {tuple(positions.shape[:-1])} like positions, got {tuple(sizes.shape)}")
    if features.shape[:-1] != positions.shape[:-1] or not features.is_floating_point():
        raise ValueError(
            f"features: expected float {tuple(positions.shape[:-1])} + (C,), "
            f"got {tuple(features.shape)} {features.dtype}"
        )
    if positions.ndim == 3 and (len(camera.batch_shape) != 2 or camera.batch_shape[0] != positions.shape[0]):
        raise ValueError(
            f"camera: expected a batch ({positions.shape[0]}, T) for batched elements, got {tuple(camera.batch_shape)}"
        )
    for name, tensor in (("positions", positions), ("sizes", sizes), ("features", features)):
        if tensor.device != camera.device:
            raise ValueError(f"{name}: expected on {camera.device} like the camera, got {tensor.device}")
