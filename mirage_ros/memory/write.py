"""One frame into the store: checks, cells, judgement, removal, room, and the new elements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera
from mirage_ros.memory.cell_depth import (
    EDGE,
    INVALID,
    MASKED,
    USABLE,
    CellDepth,
    bilinear_to_cells,
    depth_to_cells,
)
from mirage_ros.memory.depth_patches import encode_patch
from mirage_ros.memory.elements import ElementStore, Undo
from mirage_ros.memory.provenance import IMAGINATION, FrameTable, SourceFrame, check_place
from mirage_ros.memory.write_judgement import Verdict, eviction_order, judge, tile_order
from mirage_ros.memory.write_rules import WriteReport, WriteRules
from mirage_ros.memory.zbuffer.projection import Convention, views_of

# Confidence of a new element, and of one from a cell that was not all one surface.
SURE, UNSURE = 2, 1
# Share of the room that is freed at once, so that a full memory does not sort on every write.
_EVICTED_AT_ONCE = 20
# Cells along each side: rows and columns are stored in a byte.
_MAX_SIDE = 256
# Magnitudes from here on could overflow float32 when int8 features are decoded.
_LARGEST_FEATURE = 1e38


@dataclass(frozen=True, eq=False)
class Destination:
    """Where to write and by which rules; the store and the table are changed in place.

    Attributes:
        store, table: elements and source frames.
        origin: (3,) float64 place that positions are relative to.
        rules, convention: see `LatentMemory`.
        max_bytes: of the elements.
        undo: what takes back all that was changed so far.
    """

    store: ElementStore
    table: FrameTable
    origin: Tensor
    rules: WriteRules
    convention: Convention
    max_bytes: int
    undo: Undo


def check_write(
    store: ElementStore,
    latents: Tensor,
    depth: Tensor,
    camera: Camera,
    keep: Tensor | None,
    copied: Tensor | None,
    colour: Tensor | None,
) -> None:
    """Refuse what cannot be written, naming the argument."""
    given = {"latents": latents, "depth": depth, "keep": keep, "copied": copied, "colour": colour}
    for name, value in given.items():
        optional = name in ("keep", "copied", "colour")
        if not (isinstance(value, Tensor) or (value is None and optional)):
            raise TypeError(f"{name}: expected a tensor{' or None' * optional}, got {type(value).__name__}")
    if not isinstance(camera, Camera):
        raise TypeError(f"camera: expected Camera, got {type(camera).__name__}")
    if latents.ndim != 4 or latents.shape[1] != store.channels or not latents.is_floating_point():
        raise ValueError(
            f"latents: expected float (T, {store.channels}, h, w), got {tuple(latents.shape)} {latents.dtype}"
        )
    count, _, height, width = latents.shape
    if not (1 <= height <= _MAX_SIDE and 1 <= width <= _MAX_SIDE):
        raise ValueError(f"latents: expected 1..{_MAX_SIDE} cells along each side, got {height} x {width}")
    # A comparison with NaN is false.
    if not (latents.abs() < _LARGEST_FEATURE).all():
        raise ValueError(f"latents: expected finite values of magnitudes below {_LARGEST_FEATURE:g}, got others")
    if depth.ndim != 3 or len(depth) != count or 0 in depth.shape[1:] or not depth.is_floating_point():
        raise ValueError(f"depth: expected float ({count}, H, W) like latents, got {tuple(depth.shape)} {depth.dtype}")
    if camera.batch_shape != (count,):
        raise ValueError(f"camera: expected a batch of {count} like latents, got {tuple(camera.batch_shape)}")
    check_place(camera.cam2world, "camera")
    if keep is not None and (keep.ndim != 3 or len(keep) != count or 0 in keep.shape[1:] or keep.dtype != torch.bool):
        raise ValueError(f"keep: expected bool ({count}, H, W), got {tuple(keep.shape)} {keep.dtype}")
    if copied is not None and (copied.shape != (count, height, width) or copied.dtype != torch.bool):
        raise ValueError(f"copied: expected bool {(count, height, width)}, got {tuple(copied.shape)} {copied.dtype}")
    if store.colour and colour is None:
        raise ValueError("colour: expected (T, H, W, 3) uint8 because this memory keeps colours, got None")
    if colour is not None:
        if not store.colour:
            raise ValueError("colour: expected None because this memory keeps no colours (LatentMemory(colour=True))")
        image = colour.ndim == 4 and len(colour) == count and colour.shape[-1] == 3 and 0 not in colour.shape[1:]
        if not image or colour.dtype != torch.uint8:
            raise ValueError(f"colour: expected uint8 ({count}, H, W, 3), got {tuple(colour.shape)} {colour.dtype}")
    devices = {name: value.device for name, value in given.items() if value is not None}
    for name, device in {**devices, "camera": camera.device}.items():
        if device != store.device:
            raise ValueError(f"{name}: expected on {store.device} like the memory, got {device}")


def source_frames(frame: SourceFrame | Sequence[SourceFrame] | None, count: int) -> list[SourceFrame]:
    """What a caller says about its frames, one for each."""
    if frame is None:
        return [SourceFrame()] * count
    frames = [frame] if isinstance(frame, SourceFrame) else list(frame) if isinstance(frame, Sequence) else [frame]
    for one in frames:
        if not isinstance(one, SourceFrame):
            raise TypeError(f"frame: expected SourceFrame, one or a sequence of them, got {type(one).__name__}")
    if len(frames) != count:
        raise ValueError(f"frame: expected {count} source frames, one for each frame of latents, got {len(frames)}")
    return frames


def write_frame(
    into: Destination,
    latents: Tensor,
    depth: Tensor,
    camera: Camera,
    frame: SourceFrame,
    keep: Tensor | None,
    copied: Tensor | None,
    colour: Tensor | None,
) -> WriteReport:
    """Write one frame: latents (C, h, w), depth (H, W), one camera; the rest as in `LatentMemory.write`."""
    height, width = latents.shape[1:]
    camera = camera.to(dtype=torch.float64).resized(height, width)
    rules, store, device = into.rules, into.store, latents.device
    # Beyond this the size of a cell overflows float16.
    focal = torch.minimum(camera.intrinsics[0, 0], camera.intrinsics[1, 1])
    # What imagination takes for sky is no evidence of free space.
    far = depth.isposinf() & (frame.kind != IMAGINATION)
    depth = torch.where(far | (depth <= focal * torch.finfo(torch.float16).max), depth, torch.nan)
    if into.convention.bilinear_depth:
        cells = bilinear_to_cells(depth, keep, height, width)
    else:
        cells = depth_to_cells(depth, keep, height, width, patch=store.patch, share=rules.share, known=rules.known)
    skip = torch.zeros(height, width, dtype=torch.bool, device=device) if copied is None else copied
    usable = (cells.state == USABLE) & ~skip
    new, report = usable, WriteReport()
    imagined_frame = frame.kind == IMAGINATION
    replaced = torch.zeros_like(usable)
    if rules.select and store.count:
        views = views_of(camera, into.convention, into.origin)
        imagined, sequence = into.table.imagined(device), into.table.sequence(device)
        verdict = judge(store, imagined, sequence, imagined_frame, views, cells, skip, rules)
        new = usable & ~verdict.explained
        replaced = new & verdict.worse
        new = new | verdict.context
        _apply(into, verdict, report)
    chosen = tile_order(height, width, device)
    chosen = chosen[new.reshape(-1)[chosen]]
    chosen = _make_room(into, chosen, imagined_frame, report)
    slot = _slot(into, frame, camera, report) if len(chosen) else None
    if slot is None:
        chosen = chosen[:0]
    else:
        rows = _rows(into, latents, cells, camera, chosen, colour)
        rows["frame"] = torch.full((len(chosen),), slot, device=device)
        store.append(rows, into.max_bytes, into.undo)
    _count(report, cells, skip, new, replaced, chosen)
    return report


def _apply(into: Destination, verdict: Verdict, report: WriteReport) -> None:
    """Confirm, doubt and remove elements."""
    store, seen, agreed = into.store, verdict.seen_through, verdict.confirmed
    confidence = store.columns["confidence"]
    lost = seen[confidence[seen] <= 1]
    store.set_confidence(seen, torch.ones_like(confidence[seen]), into.undo)
    store.set_confidence(agreed, confidence[agreed] + (confidence[agreed] < 255).to(torch.uint8), into.undo)
    report.confirmed, report.seen_through = len(agreed), len(seen)
    report.removed, report.superseded = len(lost), len(verdict.superseded)
    store.remove(torch.cat([lost, verdict.superseded]), into.undo)


def _make_room(into: Destination, chosen: Tensor, imagined_frame: bool, report: WriteReport) -> Tensor:
    """Evict for the chosen cells; the cells that there is room for."""
    store, most = into.store, into.store.limit(into.max_bytes)
    excess = store.count + len(chosen) - most
    if excess <= 0:
        return chosen
    imagined = into.table.imagined(chosen.device)
    order = eviction_order(store, imagined, into.table.sequence(chosen.device)) if store.count else chosen[:0]
    # Imagination does not displace what was observed; imagined elements come first in the order.
    free = store.count
    if imagined_frame and store.count:
        free = int(imagined[store.column("frame").to(torch.int64)].sum())
    evicted = min(max(excess, most // _EVICTED_AT_ONCE), free)
    store.remove(order[:evicted], into.undo)
    report.evicted += evicted
    return chosen[: most - store.count]


def _slot(into: Destination, frame: SourceFrame, camera: Camera, report: WriteReport) -> int | None:
    """A slot for the frame; the frame first in the order of eviction goes if there is none.

    None if only observed frames could go for an imagined one.
    """
    table, store = into.table, into.store
    if table.is_full():
        held = torch.bincount(store.column("frame").to(torch.int64), minlength=len(table.rows))
        empty = np.flatnonzero(held.cpu().numpy() == 0)
        if len(empty) == 0:
            rows = table.rows
            empty = np.lexsort((rows["sequence"], ~rows["imagined"]))[:1]
            if frame.kind == IMAGINATION and not rows["imagined"][empty[0]]:
                return None
            gone = store.rows_of((store.column("frame") == int(empty[0])).nonzero().squeeze(1))
            report.evicted += len(gone)
            store.remove(gone, into.undo)
        table.release(empty, into.undo)
    return table.add(frame, camera, into.undo)


def _rows(
    into: Destination, latents: Tensor, cells: CellDepth, camera: Camera, chosen: Tensor, colour: Tensor | None
) -> dict[str, Tensor]:
    """The new elements, one row for each chosen cell."""
    height, width = latents.shape[1:]
    depth = cells.depth.reshape(-1)[chosen].double()
    row, column = torch.div(chosen, width, rounding_mode="floor"), chosen % width
    intrinsics, pose = camera.intrinsics, camera.cam2world
    y = (row + into.convention.centre - intrinsics[1, 2]) / intrinsics[1, 1]
    x = (column + into.convention.centre - intrinsics[0, 2] - intrinsics[0, 1] * y) / intrinsics[0, 0]
    local = torch.stack([x, y, torch.ones_like(x)], dim=-1) * depth.unsqueeze(-1)
    positions = local @ pose[:3, :3].mT + (pose[:3, 3] - into.origin.to(pose))
    focal = torch.minimum(intrinsics[0, 0], intrinsics[1, 1])
    rows = {
        "positions": positions,
        "features": latents.reshape(len(latents), -1).T[chosen],
        "size": (depth / focal).clamp(min=torch.finfo(torch.float16).smallest_normal),
        "confidence": torch.where(cells.sure.reshape(-1)[chosen], SURE, UNSURE),
        "cell": torch.stack([row, column], dim=-1),
    }
    if into.store.patch:
        patch = into.store.patch
        if cells.fine.numel():
            rows["patch"] = encode_patch(cells.fine.reshape(-1, patch, patch)[chosen], depth.float())
        else:
            rows["patch"] = torch.zeros(len(chosen), patch, patch, dtype=torch.int8, device=chosen.device)
    if colour is not None:
        rows["colour"] = _colours(colour, cells.samples, height, width)[chosen]
    return rows


def _colours(colour: Tensor, samples: Tensor, height: int, width: int) -> Tensor:
    """(h w, 3) mean colours of the cells of an image (H, W, 3), of their known samples where they have any."""
    sampled = F.interpolate(colour.permute(2, 0, 1)[None].float(), size=samples.shape, mode="area")
    known = samples.isfinite().float()[None, None]
    total = F.adaptive_avg_pool2d(sampled * known, (height, width))
    share = F.adaptive_avg_pool2d(known, (height, width))
    return (total / share.clamp(min=1e-6))[0].round().reshape(3, -1).T


def _count(report: WriteReport, cells: CellDepth, skip: Tensor, new: Tensor, replaced: Tensor, chosen: Tensor) -> None:
    """Cells by what happened to them."""
    state = torch.where(skip, 255, cells.state)
    report.copied = int(skip.sum())
    report.masked = int((state == MASKED).sum())
    report.invalid = int((state == INVALID).sum())
    report.edge = int((state == EDGE).sum())
    report.explained = int(((state == USABLE) & ~new).sum())
    report.dropped = int(new.sum()) - len(chosen)
    report.replaced = int(replaced.reshape(-1)[chosen].sum())
    report.written = len(chosen) - report.replaced
