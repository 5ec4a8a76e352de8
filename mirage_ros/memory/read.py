"""Reading: from positions, sizes and features to what target cameras see."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.zbuffer.backends import winners_of
from mirage_ros.memory.zbuffer.cpu import gather_native
from mirage_ros.memory.zbuffer.projection import BORDER, Views, project, views_of
from mirage_ros.memory.zbuffer.reference import RULES


def read_elements(positions: Tensor, sizes: Tensor, features: Tensor, camera: Camera, rule: str = "nearest") -> Readout:
    """Read elements that are given as tensors; differentiable with respect to the features.

    The rules are those of `zbuffer`. On a CUDA device there is no host synchronisation.

    Args:
        positions: (N, 3) or (B, N, 3) float world metres. Rows that are not finite never win.
        sizes: (N,) or (B, N) metres, the side of the square patch that an element stands for.
        features: (N, C) or (B, N, C) float.
        camera: (...) cameras at the resolution of the target grid; with B, a batch (B, T).
        rule: 'nearest' or 'strict'.

    Returns:
        a readout whose confidence is one and whose source is -1 throughout.

    Raises:
        ValueError: a shape or an option is not usable.
    """
    check_rule(rule)
    _check_elements(positions, sizes, features, camera)
    views = views_of(camera)
    own = positions.float().mT.contiguous()
    index = winners_of(own, sizes, views, rule)
    if positions.ndim == 3:
        # One list of elements: winners of batch b are offset by b x N.
        groups, elements = positions.shape[:2]
        first = torch.arange(groups, device=index.device) * elements
        first = first.repeat_interleave(camera.batch_shape[1]).unsqueeze(-1)
        index = torch.where(index >= 0, index + first, -1)
        own, sizes, features = own.transpose(0, 1).reshape(3, -1), sizes.flatten(), features.flatten(0, 1)
    columns = {
        "positions": own,
        "size": sizes,
        "features": features,
        "confidence": torch.ones_like(sizes, dtype=torch.float32),
        "frame": torch.zeros_like(sizes, dtype=torch.int16),
    }
    return assemble(index, columns, None, torch.full((1,), -1, device=index.device), views, camera.batch_shape)


def assemble(
    index: Tensor,
    columns: Mapping[str, Tensor],
    scale: Tensor | None,
    ids: Tensor,
    views: Views,
    batch_shape: torch.Size,
) -> Readout:
    """Gather what a readout holds, once, from the indices of the winners.

    Args:
        index: (V, cells) winners, -1 where there is none.
        columns: 'positions' (3, N) float32, 'features' (N, C), and (N,) 'size', 'confidence' and 'frame', the
            slot of the source frame.
        scale: (C,) float32 factors of int8 features.
        ids: (S,) int64 id of each slot.
        batch_shape: shape of the cameras' batch.
    """
    visible, rows = index >= 0, index.clamp(min=0)
    if not len(columns["size"]):
        # One invisible element, so that there is a row to gather.
        columns = {
            name: part.new_zeros(3, 1) if name == "positions" else part.new_zeros(1, *part.shape[1:])
            for name, part in columns.items()
        }
    flat = rows.reshape(-1)
    x, y, z = (axis.index_select(0, flat).reshape(rows.shape) for axis in columns["positions"].unbind(0))
    column, row, depth = project(x, y, z, views.matrices)
    cell = torch.arange(views.cells, device=rows.device)
    centre = BORDER + views.convention.centre
    dx = column - (cell % views.width + centre)
    dy = row - (torch.div(cell, views.width, rounding_mode="floor") + centre)
    size, confidence = (
        columns[name].index_select(0, flat).reshape(rows.shape).float() for name in ("size", "confidence")
    )
    scaled = torch.where(visible, size * views.focal.unsqueeze(-1) / depth, 1.0)
    slots = columns["frame"].index_select(0, flat).to(torch.int64)

    def grid(values: Tensor) -> Tensor:
        values = values if values.ndim == 3 else values.unsqueeze(1)
        return values.reshape(*batch_shape, values.shape[1], views.height, views.width)

    return Readout(
        latents=grid(_gather(columns["features"], scale, flat, visible)),
        visible=grid(visible.float()),
        depth=grid(torch.where(visible, depth, 0.0)),
        offset=grid(torch.where(visible.unsqueeze(1), torch.stack([dx, dy], dim=1), 0.0)),
        log_scale=grid(scaled.log()),
        confidence=grid(torch.where(visible, confidence, 0.0)),
        source=grid(torch.where(visible, ids.index_select(0, slots).reshape(rows.shape), -1)),
        index=grid(index),
    )


def _gather(features: Tensor, scale: Tensor | None, flat: Tensor, visible: Tensor) -> Tensor:
    """(V, C, cells) float32 features of the winners, zero where there is none."""
    gathered = gather_native(features, scale, torch.where(visible, flat.reshape(visible.shape), -1))
    if gathered is not None:
        return gathered
    # Emptied and turned around while the numbers are still small.
    rows = features.index_select(0, flat).reshape(*visible.shape, features.shape[1])
    rows = rows.masked_fill_(~visible.unsqueeze(-1), 0).mT.contiguous()
    return rows.float() if scale is None else rows.float().mul_(scale.unsqueeze(-1))


def check_rule(rule: str) -> None:
    """Refuse a rule that no read knows."""
    if rule not in RULES:
        raise ValueError(f"rule: expected one of {', '.join(RULES)}, got {rule!r}")


def _check_elements(positions: Tensor, sizes: Tensor, features: Tensor, camera: Camera) -> None:
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
