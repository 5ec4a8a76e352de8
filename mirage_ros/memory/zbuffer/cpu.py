"""The z-buffer on a CPU through a small compiled library, where the package was built with it.

`raster.c` and `gather.c` are compiled when the package is installed. Where they were not, or where the library does not
load, `backends` uses the reference in torch, which finds the same winners in tens of times the time. The one boundary
case: with torch.set_flush_denormal(True) threads of the library's own may keep subnormal numbers.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mirage_ros.memory.zbuffer.culling import BLOCK, Blocks, visible_blocks
from mirage_ros.memory.zbuffer.projection import BORDER, MAX_FOOTPRINT, NEAR, OUTSIDE, Views
from mirage_ros.memory.zbuffer.reference import TOLERANCE

logger = logging.getLogger(__name__)

LIBRARY = "libmirage_memory.so"
_VERSION = 5
# With fewer (view, element) pairs one thread is done before others have begun.
_WORTH_SHARING = 50_000


class _Scene(ctypes.Structure):
    """`Scene` of raster.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "y", "z", "size", "blocks")),
        ("block_count", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("surface", "limit", "keys", "winners")),
        ("matrix", ctypes.c_float * 12),
        ("half_focal", ctypes.c_float * 2),
        *((name, ctypes.c_float) for name in ("near_plane", "outside", "centre", "factor")),
        *((name, ctypes.c_int32) for name in ("height", "width", "border", "max_footprint")),
        *((name, ctypes.c_int32) for name in ("footprints", "integer_centres", "strict")),
    )


class _Gather(ctypes.Structure):
    """`Gather` of gather.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("features", "scale", "winners")),
        ("winners_stride", ctypes.c_int64),
        ("result", ctypes.c_void_p),
        ("channels", ctypes.c_int64),
        ("cells", ctypes.c_int64),
        ("type", ctypes.c_int32),
    )


# In the order of gather.c.
_TYPES = (torch.int8, torch.float16, torch.bfloat16, torch.float32)


def load_library(path: Path) -> ctypes.CDLL | None:
    """The compiled library at a path, or None with a warning that says why it cannot be used."""
    try:
        compiled = ctypes.CDLL(str(path))
        version = compiled.mirage_memory_version()
    except (OSError, AttributeError) as error:
        logger.warning("reading with torch instead of the compiled z-buffer: %s", error)
        return None
    if version != _VERSION:
        logger.warning(
            "reading with torch: %s has version %d, expected %d; install the package again", path, version, _VERSION
        )
        return None
    compiled.mirage_memory_winners.argtypes = [ctypes.POINTER(_Scene), *[ctypes.c_int32] * 3]
    compiled.mirage_memory_gather.argtypes = [ctypes.POINTER(_Gather), *[ctypes.c_int32] * 3]
    compiled.mirage_memory_winners.restype = compiled.mirage_memory_gather.restype = None
    return compiled


def folders() -> list[Path]:
    """Where the library may be, in the order of search."""
    installed = Path(sysconfig.get_path("platlib"), *__name__.split(".")[:-1])
    return list(dict.fromkeys((Path(__file__).resolve().parent, installed)))


@functools.cache
def library() -> ctypes.CDLL | None:
    """The library that was built with the package, if there is one that works.

    It lies beside this module. Where this module is run from a source tree, the library of the installed package is
    used. MIRAGE_COMPILED=0 in the environment leaves it out.
    """
    if os.environ.get("MIRAGE_COMPILED", "1") == "0":
        return None
    for folder in folders():
        path = folder / LIBRARY
        compiled = load_library(path) if path.exists() else None
        if compiled is not None:
            return compiled
    return None


def winners_native(
    compiled: ctypes.CDLL, positions: Tensor, sizes: Tensor, views: Views, blocks: Blocks, rule: str
) -> Tensor:
    """Winners of padded, blocked elements; arguments and result as `backends.winners`."""
    positions, sizes = positions.contiguous(), sizes.float().contiguous()
    count, seen = len(views), visible_blocks(blocks, views)
    winners = torch.empty((count, views.cells), dtype=torch.int64)
    surface, limit = torch.empty((2, count, views.slots)).unbind(0)
    keys = torch.empty((count, views.slots), dtype=torch.int64)
    scenes = (_Scene * count)()
    x, y, z = (axis.data_ptr() for axis in positions.unbind(0))
    for i, scene in enumerate(scenes):
        scene.x, scene.y, scene.z, scene.size = x, y, z, sizes.data_ptr()
        scene.blocks, scene.block_count = seen[i].data_ptr(), len(seen[i])
        scene.surface, scene.limit = surface[i].data_ptr(), limit[i].data_ptr()
        scene.keys, scene.winners = keys[i].data_ptr(), winners[i].data_ptr()
        scene.matrix[:] = views.matrices[i].reshape(-1).tolist()
        scene.half_focal[:] = views.half_focal[i].tolist()
        scene.near_plane, scene.outside, scene.centre = NEAR, OUTSIDE, views.convention.centre
        scene.factor = 1 + TOLERANCE
        scene.height, scene.width, scene.border, scene.max_footprint = views.height, views.width, BORDER, MAX_FOOTPRINT
        scene.footprints, scene.integer_centres = views.convention.footprints, views.convention.integer_centres
        scene.strict = rule == "strict"
    work = sum(len(held) for held in seen) * BLOCK
    workers = min(torch.get_num_threads(), count) if work > _WORTH_SHARING else 1
    _share_out(compiled.mirage_memory_winners, scenes, count, workers)
    return winners


def gather_native(features: Tensor, scale: Tensor | None, winners: Tensor) -> Tensor | None:
    """Features of winners by the compiled library, or None where it cannot do it.

    Args:
        features: (N, C) of any stored type; not differentiated.
        scale: (C,) float32 factors of int8 features.
        winners: (V, cells) int64 rows, -1 where there is none; N is not zero if there are any.

    Returns:
        (V, C, cells) float32, zero where there is no winner.
    """
    compiled = library() if features.device.type == "cpu" and features.dtype in _TYPES else None
    differentiated = features.requires_grad and torch.is_grad_enabled()
    scaled = (scale is not None) == (features.dtype == torch.int8)
    if compiled is None or differentiated or not scaled or winners.stride(-1) != 1:
        return None
    count, cells = winners.shape
    features = features.contiguous()
    scale = None if scale is None else scale.contiguous()
    result = torch.empty((count, features.shape[1], cells))
    job = _Gather(
        features=features.data_ptr(),
        scale=None if scale is None else scale.data_ptr(),
        winners=winners.data_ptr(),
        winners_stride=winners.stride(0),
        result=result.data_ptr(),
        channels=features.shape[1],
        cells=cells,
        type=_TYPES.index(features.dtype),
    )
    workers = min(torch.get_num_threads(), count) if result.numel() > _WORTH_SHARING * 8 else 1
    _share_out(compiled.mirage_memory_gather, job, count, workers)
    return result


def _share_out(function: Any, job: Any, count: int, workers: int) -> None:
    """Call a function of the library for `count` views on some threads, without the interpreter's lock.

    Views are dealt out one after the other, because neighbours cost about the same.
    """
    shares = [_pool(workers).submit(function, job, share, workers, count) for share in range(1, workers)]
    function(job, 0, workers, count)
    for share in shares:
        share.result()


@functools.cache
def _pool(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=workers - 1, thread_name_prefix="mirage_raster")


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child starts its own.
    os.register_at_fork(after_in_child=_pool.cache_clear)
