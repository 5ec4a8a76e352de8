"""Which z-buffer finds the winners: the compiled one on a CPU, Triton's on a GPU, torch's where those are missing.

All give the same winners, bit for bit; see `cpu` and `cuda` for the boundary cases. The one in torch is the reference
itself, made to be right: on a CPU without the compiled library a read takes tens of times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.memory.zbuffer import cpu, cuda
from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks, visible_blocks
from mirage_ros.memory.zbuffer.projection import Views
from mirage_ros.memory.zbuffer.reference import winners_dense


def winners(positions: Tensor, sizes: Tensor, views: Views, blocks: Callable[[], Blocks], rule: str) -> Tensor:
    """Winners of each cell, by the fastest way there is on the elements' device.

    Args:
        positions: (3, B x BLOCK) float32 metres, NaN where there is no element.
        sizes: (B x BLOCK,) metres.
        blocks: gives the boxes of these elements; only asked for on a CPU.
        rule: see `reference`.

    Returns:
        (V, cells) int64 indices into the elements, -1 where there is none.
    """
    if positions.device.type != "cpu":
        return cuda.winners_device(positions, sizes, views, rule)
    compiled = cpu.library()
    if compiled is not None:
        return cpu.winners_native(compiled, positions, sizes, views, blocks(), rule)
    found = [torch.empty((0, views.cells), dtype=torch.int64)]
    for i, held in enumerate(visible_blocks(blocks(), views)):
        # In their order, because of equals the lowest index wins; the last row stands for no winner.
        rows = (held.sort().values.unsqueeze(1) * BLOCK + torch.arange(BLOCK)).reshape(-1)
        view = views.at(slice(i, i + 1))
        index = winners_dense(positions.index_select(1, rows), sizes.index_select(0, rows), view, rule)
        found.append(F.pad(rows, (0, 1), value=-1)[index])
    return torch.cat(found)


def winners_of(positions: Tensor, sizes: Tensor, views: Views, rule: str) -> Tensor:
    """Winners of elements that are not kept in blocks.

    Args:
        positions: (3, N) float32 metres, or (B, 3, N) for views that are B groups of as many, each with its elements.
        sizes: (N,) or (B, N) metres.
        rule: see `reference`.

    Returns:
        (V, cells) int64 indices into the elements of each group, -1 where there is none.
    """
    count = len(views) // max(len(positions), 1) if positions.ndim == 3 else len(views)
    if positions.device.type != "cpu" or cpu.library() is None:
        if positions.ndim == 3:
            positions, sizes = (values.repeat_interleave(count, dim=0) for values in (positions, sizes))
        return cuda.winners_device(positions, sizes, views, rule)
    found = [torch.empty((0, views.cells), dtype=torch.int64)]
    grouped = positions.ndim == 3
    for i, group in enumerate(positions if grouped else positions.unsqueeze(0)):
        missing = -group.shape[1] % BLOCK
        rows, lengths = F.pad(group, (0, missing), value=torch.nan), F.pad(sizes[i] if grouped else sizes, (0, missing))
        part = views.at(slice(i * count, (i + 1) * count))
        found.append(winners(rows, lengths, part, partial(Blocks, rows, lengths), rule))
    return torch.cat(found)


def backend(device: torch.device | str = "cpu") -> str:
    """What `winners` uses on a device: 'compiled', 'triton' or 'torch'.

    On a GPU the first call tries Triton's kernels, which takes seconds where they are not compiled yet.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return "torch" if cpu.library() is None else "compiled"
    return "triton" if cuda.available(device) else "torch"
