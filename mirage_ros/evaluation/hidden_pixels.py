"""How what was invented looks, pixel by pixel: its colours at large, and the joints of its tokens.

PSNR in what is hidden rewards fog. Each of these asks for one thing that fog, a mosaic or confetti lacks; none is enough
alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mirage_ros.evaluation.metrics import Frames, Mask, check_frames, masked_psnr

# Pixels of a token of the default preset, and of the cells whose mean colours are compared.
TOKEN = 16
# Fewer steps across borders than these say nothing.
LEAST_STEPS = 300


def low_psnr(frames: Frames, truth: Frames, mask: Mask) -> float:
    """PSNR in dB of the mean colours of 16-pixel cells: are the right colours in the right places?

    Means are over those pixels of a cell of frames (T, H, W, 3) that a mask (T, H, W) holds, and a cell weighs as many
    pixels. NaN if the mask is empty.

    Raises:
        ValueError: shapes differ.
    """
    check_frames(frames, truth, mask)
    return masked_psnr(_cell_means(frames, mask), _cell_means(truth, mask), mask)


def border_index(frames: Frames, mask: Mask) -> float:
    """Steps across the borders of 16-pixel tokens over steps elsewhere; about 1 where nothing shows tokens.

    Steps are mean absolute differences of neighbours, along both axes of frames (T, H, W, 3), where the mask (T, H, W)
    holds both. NaN for fewer than 300 steps across borders, or where all is one colour.

    Raises:
        ValueError: shapes differ.
    """
    check_frames(frames, frames, mask)
    sums, counts = np.zeros(2), np.zeros(2)
    for axis in (1, 2):
        change = np.abs(np.diff(frames.astype(np.int16), axis=axis)).mean(axis=-1).swapaxes(axis, 2)
        held = mask.swapaxes(axis, 2)
        both = held[..., 1:] & held[..., :-1]
        across = np.arange(1, both.shape[-1] + 1) % TOKEN == 0
        for index, which in enumerate((across, ~across)):
            sums[index] += change[..., which][both[..., which]].sum()
            counts[index] += both[..., which].sum()
    if counts[0] < LEAST_STEPS or not sums[1]:
        return float("nan")
    return float(sums[0] / counts[0] / (sums[1] / counts[1]))


def _cell_means(frames: Frames, mask: Mask) -> NDArray[np.float32]:
    """The frames (T, H, W, 3) with each cell in the mean colour of its pixels in the mask; black without any."""
    weight, total = (_cell_sums(values) for values in (mask[..., None], frames * mask[..., None]))
    means = (total / weight.clip(min=1)).repeat(TOKEN, axis=1).repeat(TOKEN, axis=2)
    return means[:, : frames.shape[1], : frames.shape[2]].astype(np.float32)


def _cell_sums(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums (T, rows, columns, C) over cells of (T, H, W, C); the last ones of a picture may be smaller."""
    rows, columns = (np.arange(0, size, TOKEN) for size in values.shape[1:3])
    return np.add.reduceat(np.add.reduceat(values.astype(np.float64), rows, axis=1), columns, axis=2)
