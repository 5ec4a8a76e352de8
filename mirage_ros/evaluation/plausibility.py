"""Whether what nobody saw looks like a place at all: patches of imagined frames against patches of true ones.

What is hidden cannot be known, so PSNR there rewards a mean of all that may be: fog. A distance between distributions
does not (Heusel et al., arXiv 1706.08500). Theirs needs a downloaded network; this one compares the pixels of small
patches as they are, so it sees colours, edges and textures, but no objects.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

# Pixels of a patch, and its size when it is compared: 8 x 8 x 3 numbers.
PATCH, REDUCED = 16, 8
# A patch counts if this share of its pixels is hidden.
LEAST_HIDDEN = 0.75
# Fewer patches than these say nothing about a distribution of 192 numbers.
LEAST_PATCHES = 1000
FOLDER = "patches"
# Among the names of methods.
TRUTH = "truth"

Patches = NDArray[np.uint8]


def hidden_patches(rgb: NDArray[np.uint8], hidden: NDArray[np.bool_]) -> Patches:
    """Patches on a grid where most pixels are hidden, at half the resolution.

    Args:
        rgb: (T, H, W, 3).
        hidden: (T, H, W).

    Returns:
        (N, 192) uint8.
    """
    kept = [np.zeros((0, REDUCED * REDUCED * 3), np.uint8)]
    for image, mask in zip(rgb, hidden, strict=True):
        rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
        size = (columns * REDUCED, rows * REDUCED)
        small = cv2.resize(image[: rows * PATCH, : columns * PATCH], size, interpolation=cv2.INTER_AREA)
        tiles = small.reshape(rows, REDUCED, columns, REDUCED, 3).swapaxes(1, 2).reshape(rows, columns, -1)
        share = mask[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH).mean(axis=(1, 3))
        kept.append(tiles[share >= LEAST_HIDDEN])
    return np.concatenate(kept)


def frechet_distance(ours: Patches, theirs: Patches) -> float:
    """Frechet distance of two sets of patches (N, D) as if normal: 0 for the same distribution; pixels in 0..1.

    NaN for fewer than `LEAST_PATCHES` on either side.
    """
    if min(len(ours), len(theirs)) < LEAST_PATCHES:
        return float("nan")
    a, b = (patches.astype(np.float64) / 255 for patches in (ours, theirs))
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    apart = float(np.square(a.mean(axis=0) - b.mean(axis=0)).sum())
    values, axes = np.linalg.eigh(first)
    root = (axes * np.sqrt(values.clip(min=0))) @ axes.T
    # The trace of the root of `first @ second`, from a symmetric matrix of the same eigenvalues.
    shared = np.sqrt(np.linalg.eigvalsh(root @ second @ root).clip(min=0)).sum()
    return max(0.0, apart + float(np.trace(first) + np.trace(second) - 2 * shared))


def keep_patches(folder: Path, case: str, method: str, patches: Patches) -> None:
    """Keep the patches of one answer with a run's results."""
    place = folder / FOLDER / method
    place.mkdir(parents=True, exist_ok=True)
    np.save(place / f"{case}.npy", patches)


def kept_patches(folder: Path, method: str) -> Patches:
    """(N, D) all patches of a method that a run has kept; none, where it kept none."""
    files = sorted((folder / FOLDER / method).glob("*.npy"))
    empty = np.zeros((0, REDUCED * REDUCED * 3), np.uint8)
    return np.concatenate([empty, *(np.load(file) for file in files)])
