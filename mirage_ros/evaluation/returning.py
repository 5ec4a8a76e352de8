"""Is what was invented still there on return? PSNR says little of it: fog stays fog (Echo-Memory, arXiv 2606.09803)."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.evaluation.metrics import Frames, Mask, check_frames
from mirage_ros.geometry import Camera

# Two cameras stand in one place up to so many metres, and degrees.
SAME_PLACE, SAME_DIRECTION = 0.01, 0.5
# Frames between two views of a place: two chunks of the default preset, so that the second is imagined anew.
AWAY = 16
# A place is a window of so many pixels; it shows something if brightness (0..255) deviates by so much in it.
WINDOW, DEVIATION = 11, 12.0
# It is there again if it correlates this well with a window so many pixels near.
SAME, SHIFT = 0.8, 2
# Fewer places of the truth that show something than these say nothing.
LEAST_PLACES = 200


def returns(camera: Camera) -> list[tuple[int, int]]:
    """Frames (first, second) in which cameras (T,) stand in one place, the second as long after the first as can be."""
    poses = camera.cam2world.double()
    found = []
    for first in range(len(camera)):
        shift = (poses[:, :3, 3] - poses[first, :3, 3]).norm(dim=-1)
        cosine = ((poses[:, :3, :3] * poses[first, :3, :3]).sum(dim=(-2, -1)) - 1) / 2
        again = (shift < SAME_PLACE) & (cosine > np.cos(np.radians(SAME_DIRECTION)))
        last = int(torch.nonzero(again)[-1])
        if last - first >= AWAY:
            found.append((first, last))
    return found


def kept_on_return(frames: Frames, truth: Frames, hidden: Mask, pairs: Sequence[tuple[int, int]]) -> float:
    """Share of the places where something was invented in a first view that show the same in a second one.

    A place is a window around a hidden pixel, something are edges or texture, the same is correlation, whatever the
    brightness. It is the share of as many places as the truth shows something in, if those are more: fog, which has
    nothing to lose, keeps little. True frames keep all but what moves or its shadow.

    Args:
        frames, truth: (T, H, W, 3) uint8.
        hidden: (T, H, W) what the first frame of all does not show, and does not move.
        pairs: first and second view from one place; see `returns`.

    Returns:
        0..1; NaN where the truth shows something in fewer than 200 places.

    Raises:
        ValueError: shapes differ.
    """
    check_frames(frames, truth, hidden)
    kept, ours, theirs = 0, 0, 0
    for first, second in pairs:
        mask = hidden[first] & hidden[second]
        grey, again, true = (_grey(image) for image in (frames[first], frames[second], truth[first]))
        shown = mask & (_deviation(grey) >= DEVIATION)
        kept += int((shown & (_correlation(grey, again) >= SAME)).sum())
        ours, theirs = ours + int(shown.sum()), theirs + int((mask & (_deviation(true) >= DEVIATION)).sum())
    return kept / max(ours, theirs) if theirs >= LEAST_PLACES else float("nan")


def _correlation(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) greatest normalised correlation of the window around a pixel with one in the other picture (H, W)."""
    best = np.full(first.shape, -1.0)
    padded = np.pad(second, SHIFT, mode="edge")
    for row, column in np.ndindex(2 * SHIFT + 1, 2 * SHIFT + 1):
        moved = np.ascontiguousarray(padded[row : row + first.shape[0], column : column + first.shape[1]])
        shared = _mean(first * moved) - _mean(first) * _mean(moved)
        best = np.maximum(best, shared / (_deviation(first) * _deviation(moved)).clip(min=1e-3))
    return best


def _deviation(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """(H, W) standard deviation in the window around each pixel."""
    return np.sqrt((_mean(grey * grey) - _mean(grey) ** 2).clip(min=0))


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(cv2.blur(values, (WINDOW, WINDOW)), np.float64)


def _grey(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float64)
