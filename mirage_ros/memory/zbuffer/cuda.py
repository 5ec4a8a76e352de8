"""The z-buffer on a CUDA device: the winners of `reference.winners_dense` from three Triton kernels.

How a reader chooses, on any device other than a CPU:

    find = winners_triton if available(positions.device) else winners_dense
    index = find(positions, sizes, views, rule)

or `winners_device`, which is just that. The torch version needs (2 x 4 + 1)^2 passes over all elements of all views;
here one program holds a block of elements in registers, looks only as far as the widest of them reaches, and skips the
block where none is in view.

Both give the same indices, bit for bit, because the kernels round every float32 operation as `projection` states, and
minima do not depend on the order of what they are taken of. The exceptions are named here:

- torch.set_flush_denormal(True), or a device that flushes subnormal numbers: the kernels keep them;
- grids of 2^22 columns or rows and more with cell centres at integers, where rounding is done by adding 1.5 x 2^23;
- 2^31 elements or cells and more are refused, because indices within a launch are 32 bits wide.

CUDA graphs. Shapes are static and nothing is copied to the host. Read once with the same shapes before the capture: the
first call compiles, which a capture does not allow.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging

import torch
from torch import Tensor

from mirage_ros.memory.zbuffer.projection import MAX_FOOTPRINT, Convention, Views
from mirage_ros.memory.zbuffer.reference import EMPTY, RULES, depth_limit, winners_dense

logger = logging.getLogger(__name__)

# Elements of one program, and warps that share them.
_BLOCK = 256
_WARPS = 4
# Elements, or cells of all views and ranks.
_LIMIT = 2**31 - _BLOCK


def available(device: torch.device) -> bool:
    """Whether `winners_triton` runs on a device and agrees there with torch on a small scene.

    A machine may have Triton but no compiler for its launchers, or a GPU that Triton no longer knows. So the kernels
    are tried, once for each device and process, which takes seconds where nothing is compiled yet; if that fails a
    warning says why. Under graph capture, where they cannot be tried, only the result of an earlier trial counts.
    """
    if device.type != "cuda" or torch.version.hip is not None or importlib.util.find_spec("triton") is None:
        return False
    ordinal = torch.cuda.current_device() if device.index is None else device.index
    if ordinal not in _tried:
        if torch.cuda.is_current_stream_capturing():
            return False
        _tried[ordinal] = trial(torch.device("cuda", ordinal))
    return _tried[ordinal]


_tried: dict[int, bool] = {}


def trial(device: torch.device) -> bool:
    """Whether the kernels run on a device and find the winners that torch finds; a warning says why not."""
    generator = torch.Generator("cpu").manual_seed(0)
    positions = (torch.rand(3, 300, generator=generator, device="cpu") * 2 - 1).to(device)
    sizes = torch.full((300,), 0.1, device=device)
    matrices = torch.tensor([[[8.0, 0, 14, 28], [0, 8, 14, 28], [0, 0, 1, 2]]], device=device)
    views = Views(matrices, torch.full((1, 2), 4.2, device=device), matrices[:, 0, 0], 8, 8, Convention())
    try:
        for rule in RULES:
            expected = winners_dense(positions, sizes, views, rule)
            if not torch.equal(winners_triton(positions, sizes, views, rule), expected):
                raise ArithmeticError("winners differ from those that torch finds")
    except Exception as error:
        # Compilers, drivers and Triton's own stages fail with errors of many kinds. All mean: read with torch.
        logger.warning("reading with torch instead of Triton on %s: %s: %s", device, type(error).__name__, error)
        return False
    return True


def winners_device(positions: Tensor, sizes: Tensor, views: Views, rule: str) -> Tensor:
    """`winners_triton` where it is available, else `reference.winners_dense`; arguments and result as theirs."""
    find = winners_triton if available(positions.device) else winners_dense
    return find(positions, sizes, views, rule)


def winners_triton(positions: Tensor, sizes: Tensor, views: Views, rule: str) -> Tensor:
    """Winners by Triton kernels, without host synchronisation.

    Args:
        positions: (3, N) metres, or (V, 3, N) for views that have their own elements. Any float type and strides.
        sizes: (N,) or (V, N) metres, likewise.
        rule: see `reference`.

    Returns:
        (V, cells) int64 indices into the elements, -1 where there is none.

    Raises:
        ValueError: a shape does not fit, or too many elements or cells.
        ImportError: there is no Triton.
    """
    device, count, cells = positions.device, positions.shape[-1], len(views) * views.cells
    if max(count, cells) >= _LIMIT:
        raise ValueError(f"positions, views: expected fewer than {_LIMIT} elements and cells, got {count} and {cells}")
    if count == 0 or cells == 0:
        return torch.full((len(views), views.cells), -1, device=device)
    from mirage_ros.memory.zbuffer import triton_kernels as kernels

    keys = torch.full((len(views), views.cells), EMPTY, device=device)
    programs = (_ceil_div(count, _BLOCK) * len(views),)
    scene = (
        positions.contiguous(),
        sizes.contiguous(),
        views.matrices.contiguous(),
        views.half_focal.contiguous(),
        count,
        len(views),
        views.height,
        views.width,
        _stride("positions", positions, (len(views), 3, count)),
        _stride("sizes", sizes, (len(views), count)),
    )
    radius = MAX_FOOTPRINT if views.convention.footprints else 0
    options = {"FOOTPRINT": MAX_FOOTPRINT, "INTEGER": views.convention.integer_centres, "BLOCK": _BLOCK}
    # The contract rounds after every multiplication.
    options |= {"num_warps": _WARPS, "enable_fp_fusion": False}
    on_device = torch.cuda.device(device) if positions.is_cuda else contextlib.nullcontext()
    with on_device:
        if rule == "strict":
            kernels.frontmost[programs](*scene, keys, RADIUS=radius, KEYS=True, **options)
        else:
            surface = torch.full(keys.shape, kernels.NO_DEPTH.value, dtype=torch.int32, device=device)
            kernels.frontmost[programs](*scene, surface, RADIUS=radius, KEYS=False, **options)
            depths = surface.view(torch.float32).reshape(len(views), views.height, views.width)
            kernels.nearest[programs](*scene, depth_limit(depths), keys, RADIUS=max(radius, 1), **options)
        kernels.unpack[(_ceil_div(cells, 4 * _BLOCK),)](keys, cells, BLOCK=4 * _BLOCK)
    return keys


def _ceil_div(count: int, size: int) -> int:
    return -(-count // size)


def _stride(name: str, values: Tensor, shape: tuple[int, ...]) -> int:
    """Numbers from one view to the next, zero where all share their elements."""
    # A kernel would read beyond the end of what is smaller.
    if values.shape not in (shape, shape[1:]):
        raise ValueError(f"{name}: expected {shape} or {shape[1:]}, got {tuple(values.shape)}")
    return values[0].numel() if values.shape == shape else 0
