"""Fine depth of elements in one byte a sub-cell."""

from __future__ import annotations

import torch
from torch import Tensor

# Codes run over the square root of |log ratio|, so that they are finest near the element's own depth: steps of .01 %
# there, 1 % at a ratio of 1.3, and a range from a quarter to four times the depth.
_LARGEST = 1.3862943611198906
NOTHING = -128


def check_patch(patch: int) -> None:
    """Refuse a number of sub-cells that no element has.

    Raises:
        ValueError: it is out of range.
    """
    if isinstance(patch, bool) or not isinstance(patch, int) or not 0 <= patch <= 16:
        raise ValueError(f"patch: expected 0..16 sub-cells, got {patch!r}")


def encode_patch(fine: Tensor, depth: Tensor) -> Tensor:
    """int8 codes of fine depths.

    Args:
        fine: (N, p, p) metres; NaN where unknown.
        depth: (N,) metres of the elements.

    Returns:
        (N, p, p) int8; `NOTHING` where unknown or beyond a factor of four.
    """
    ratio = (fine / depth[:, None, None]).log()
    code = (ratio.abs() / _LARGEST).sqrt() * 127 * ratio.sign()
    known = ratio.abs() <= _LARGEST
    return torch.where(known, code.round(), NOTHING).to(torch.int8)


def resample_patch(codes: Tensor, patch: int) -> Tensor:
    """Codes (N, p, p) for another number of sub-cells, (N, `patch`, `patch`), still relative to the same depth.

    Coarser ones are repeated, of finer ones the middle one of each group is taken; where neither number divides the
    other, every sub-cell has the element's own depth.
    """
    own = codes.shape[-1]
    if own and patch and (patch % own == 0 or own % patch == 0):
        return resample_depth(codes, own, patch)
    return codes.new_zeros(len(codes), patch, patch)


def resample_depth(depth: Tensor, samples: int, wanted: int) -> Tensor:
    """Depth (..., h s, w s) at another number of samples along each side of a cell, never a mixture.

    Args:
        depth: metres, or codes.
        samples: s, of which `wanted` is a multiple or the other way round.

    Returns:
        (..., h `wanted`, w `wanted`): of finer samples the middle one of each group, coarser ones repeated.

    Raises:
        ValueError: neither number divides the other.
    """
    if samples % wanted == 0:
        step = samples // wanted
        return depth[..., step // 2 :: step, step // 2 :: step]
    if wanted % samples:
        raise ValueError(f"wanted: expected a multiple or a divisor of {samples} samples, got {wanted}")
    return depth.repeat_interleave(wanted // samples, dim=-2).repeat_interleave(wanted // samples, dim=-1)


def decode_patch(codes: Tensor, depth: Tensor) -> Tensor:
    """(N, p, p) float32 metres of codes; NaN where unknown."""
    code = codes.float()
    ratio = (code / 127).square() * _LARGEST * code.sign()
    return torch.where(codes == NOTHING, torch.nan, ratio.exp() * depth[:, None, None])
