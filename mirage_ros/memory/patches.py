"""Fine depth of elements in one byte a sub-cell."""

from __future__ import annotations

import torch
from torch import Tensor

# Codes run over the square root of |log ratio|, so that they are finest near the element's own depth: steps of .01 %
# there, 1 % at a ratio of 1.3, and a range from a quarter to four times the depth.
_LARGEST = 1.3862943611198906
NOTHING = -128


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


def decode_patch(codes: Tensor, depth: Tensor) -> Tensor:
    """(N, p, p) float32 metres of codes; NaN where unknown."""
    code = codes.float()
    ratio = (code / 127).square() * _LARGEST * code.sign()
    return torch.where(codes == NOTHING, torch.nan, ratio.exp() * depth[:, None, None])
