"""Measures of imagined frames against true ones."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import peak_signal_noise_ratio

# PSNR of equal pictures is infinite; averages need a number.
MAX_PSNR = 100.0


def masked_psnr(frames: NDArray[np.uint8], truth: NDArray[np.uint8], mask: NDArray[np.bool_] | None = None) -> float:
    """Peak signal-to-noise ratio in dB over all pixels of all frames, or those of a mask.

    One mean squared error over everything, not a mean of each frame's ratio: a frame with few masked pixels weighs
    little.

    Args:
        frames, truth: (T, H, W, 3).
        mask: (T, H, W).

    Returns:
        dB, at most `MAX_PSNR`; NaN if the mask is empty.

    Raises:
        ValueError: shapes differ.
    """
    if frames.shape != truth.shape or (mask is not None and mask.shape != frames.shape[:-1]):
        raise ValueError(
            f"frames: expected one shape, got {frames.shape} against {truth.shape}"
            + ("" if mask is None else f" with a mask {mask.shape}")
        )
    ours, theirs = (values if mask is None else values[mask] for values in (frames, truth))
    if ours.size == 0:
        return float("nan")
    if np.array_equal(ours, theirs):
        return MAX_PSNR
    score = peak_signal_noise_ratio(torch.from_numpy(ours).float(), torch.from_numpy(theirs).float(), data_range=255.0)
    return min(float(score), MAX_PSNR)
