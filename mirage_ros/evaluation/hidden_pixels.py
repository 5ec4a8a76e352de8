"""How what was invented looks, pixel by pixel: its colours at large, its tokens' borders, its joint with the rest.

PSNR in what is hidden rewards fog. Each of these asks for one thing that fog, a mosaic or confetti lacks; none is
enough alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mirage_ros.evaluation.metrics import Frames, Mask, check_frames, masked_psnr

# Pixels of a token of the default preset, and of the cells whose mean colours are compared.
TOKEN = 16
# Fewer steps across borders than these say nothing.
LEAST_STEPS = 300
# Pixels across the border of what is remembered: it is known to a cell of the memory only.
ACROSS = 4


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


def continuation(frames: Frames, truth: Frames, hidden: Mask, visible: Mask) -> dict[str, float]:
    """Does what is remembered go on in what is invented: steps across the border between them against the truth's.

    A step is the difference of two pixels of frames (T, H, W, 3) that lie 4 pixels apart in a row or column, one of
    which is hidden and the other visible (T, H, W).

    Returns:
        seam_step: mean absolute step over the truth's: more than 1 for a seam, less where things fade; seam_match:
        cosine of all steps with the truth's, 1 where everything goes on as it does there, 0 for chance. NaN for fewer
        than 300 steps, or where all is one colour.

    Raises:
        ValueError: shapes differ.
    """
    for mask in (hidden, visible):
        check_frames(frames, truth, mask)
    steps: list[list[NDArray[np.float32]]] = [[], []]
    for axis in (1, 2):
        ends = [np.split(values, [ACROSS], axis)[1] for values in (hidden, visible)]
        starts = [np.split(values, [-ACROSS], axis)[0] for values in (hidden, visible)]
        border = (ends[0] & starts[1]) | (ends[1] & starts[0])
        for found, pictures in zip(steps, (frames, truth), strict=True):
            later, earlier = np.split(pictures, [ACROSS], axis)[1], np.split(pictures, [-ACROSS], axis)[0]
            found.append(later[border].astype(np.float32) - earlier[border])
    ours, theirs = map(np.concatenate, steps)
    if len(ours) < LEAST_STEPS or not (ours.any() and theirs.any()):
        return dict.fromkeys(("seam_step", "seam_match"), float("nan"))
    return {
        "seam_step": float(np.abs(ours).mean() / np.abs(theirs).mean()),
        "seam_match": float((ours * theirs).sum() / np.sqrt(np.square(ours).sum() * np.square(theirs).sum())),
    }


def _cell_means(frames: Frames, mask: Mask) -> NDArray[np.float32]:
    """The frames (T, H, W, 3) with each cell in the mean colour of its pixels in the mask; black without any."""
    weight, total = (_cell_sums(values) for values in (mask[..., None], frames * mask[..., None]))
    means = (total / weight.clip(min=1)).repeat(TOKEN, axis=1).repeat(TOKEN, axis=2)
    return means[:, : frames.shape[1], : frames.shape[2]].astype(np.float32)


def _cell_sums(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Sums (T, rows, columns, C) over cells of (T, H, W, C); the last ones of a picture may be smaller."""
    rows, columns = (np.arange(0, size, TOKEN) for size in values.shape[1:3])
    return np.add.reduceat(np.add.reduceat(values.astype(np.float64), rows, axis=1), columns, axis=2)
