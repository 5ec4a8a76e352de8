"""Whether what nobody saw looks like a place at all: patches of imagined frames against patches of true ones.

What is hidden cannot be known, so PSNR there rewards a mean of all that may be: fog. A distance between distributions
does not (Heusel et al., arXiv 1706.08500). Theirs needs a downloaded network; this one compares the pixels of small
patches as they are, so it sees colours, edges and textures, but no objects.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mirage_ros.evaluation.kept_parts import kept

# Pixels of a patch, and its size when it is compared: 8 x 8 x 3 numbers.
PATCH, REDUCED = 16, 8
# A patch counts if this share of its pixels is hidden.
LEAST_HIDDEN = 0.75
# Fewer patches than these say nothing about a distribution of 192 numbers.
LEAST_PATCHES = 1000
# Under which name a run keeps them.
PATCHES = "patches"

Patches = NDArray[np.uint8]


def hidden_patches(rgb: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> Patches:
    """Patches (N, 192), at half resolution, on a grid of frames (T, H, W, 3) where most pixels are hidden (T, H, W)."""
    kept = [np.zeros((0, REDUCED * REDUCED * 3), np.uint8)]
    for image, mask in zip(rgb, hidden, strict=True):
        rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
        if not rows * columns:
            continue
        size = (columns * REDUCED, rows * REDUCED)
        small = cv2.resize(image[: rows * PATCH, : columns * PATCH], size, interpolation=cv2.INTER_AREA)
        tiles = small.reshape(rows, REDUCED, columns, REDUCED, 3).swapaxes(1, 2).reshape(rows, columns, -1)
        share = mask[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH).mean(axis=(1, 3))
        kept.append(tiles[share >= LEAST_HIDDEN])
    return np.concatenate(kept)


def frechet_distance(ours: Iterable[Patches], theirs: Iterable[Patches]) -> float:
    """Frechet distance of two sets of patches as if normal: 0 for the same distribution; pixels in 0..1.

    Each set comes in parts (N, 192), of which only one is held at a time. NaN for fewer than `LEAST_PATCHES` of either.
    """
    (a, first, count), (b, second, others) = (_moments(parts) for parts in (ours, theirs))
    if min(count, others) < LEAST_PATCHES:
        return float("nan")
    values, axes = np.linalg.eigh(first)
    root = (axes * np.sqrt(values.clip(min=0))) @ axes.T
    # The trace of the root of `first @ second`, from a symmetric matrix of the same eigenvalues.
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    return max(0.0, float(np.square(a - b).sum() + np.trace(first) + np.trace(second) - 2 * shared))


def _moments(parts: Iterable[Patches]) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean, covariance and number of patches."""
    size = REDUCED * REDUCED * 3
    total, products, count = np.zeros(size), np.zeros((size, size)), 0
    for part in parts:
        values = part.astype(np.float64) / 255
        total, products, count = total + values.sum(axis=0), products + values.T @ values, count + len(values)
    mean = total / max(1, count)
    return mean, (products - count * np.outer(mean, mean)) / max(1, count - 1), count


def hidden_distance(folder: Path, method: str) -> float:
    """Distance of a method's answers from the truth, over all cases of a run; NaN if those of a case are missing."""
    ours, theirs = kept(folder, PATCHES, method)
    return frechet_distance(map(np.load, ours), map(np.load, theirs))
