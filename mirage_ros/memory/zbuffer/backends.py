"""Which z-buffer finds the winners: the compiled one on a CPU, Triton's on a GPU, torch's where those are missing.

All give the same winners, bit for bit; see `compact`, `native` and `triton_read` for the boundary cases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from mirage_ros.memory.zbuffer import cpu as native
from mirage_ros.memory.zbuffer import cuda as triton_read
from mirage_ros.memory.zbuffer.compact import winners_compact
from mirage_ros.memory.zbuffer.culling import Blocks
from mirage_ros.memory.zbuffer.projection import Views


def winners(positions: Tensor, sizes: Tensor, views: Views, blocks: Callable[[], Blocks], **options: Any) -> Tensor:
    """Winners of each cell, by the fastest way there is on the elements' device.

    Args:
        positions: (3, B x BLOCK) float32 metres, NaN where there is no element.
        sizes: (B x BLOCK,) metres.
        views: V target views.
        blocks: gives the boxes of these elements; only asked for on a CPU.
        options: see `zbuffer.winners_dense`.

    Returns:
        (V, best, cells) int64 indices into the elements, -1 where there is none.
    """
    if positions.device.type != "cpu":
        return triton_read.winners_device(positions, sizes, views, **options)
    compiled = native.library()
    if compiled is None:
        return winners_compact(positions, sizes, views, blocks(), **options)
    return native.winners_native(compiled, positions, sizes, views, blocks(), **options)


def backend(device: torch.device | str = "cpu") -> str:
    """What `winners` uses on a device: 'compiled', 'triton' or 'torch'.

    On a GPU the first call tries Triton's kernels, which takes seconds where they are not compiled yet.
    """
    device = torch.device(device)
    if device.type == "cpu":
        return "torch" if native.library() is None else "compiled"
    return "triton" if triton_read.available(device) else "torch"
