"""Can what was invented be told from the truth? A two-sample test by a classifier (Lopez-Paz, Oquab, arXiv 1610.06545).

A small network learns on half of the walks which windows are true and which imagined, and is asked about the other
half. The windows are hidden places with what is around them, at half resolution: the autoencoder's own loss, which no
generator can help, hardly shows there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn
from tqdm import tqdm

from mirage_ros.evaluation.hidden_regions import LEAST_HIDDEN, PATCH
from mirage_ros.evaluation.kept_parts import kept
from mirage_ros.evaluation.metrics import Frames, Mask, check_frames

# Pixels around a patch, on each side; a window is shown at half its size, as patches are.
AROUND = 16
# Windows of a walk; neighbours in time hardly differ.
MOST_WINDOWS = 400
# Fewer windows than these, of either kind in either half of the walks, teach or test nothing.
LEAST_WINDOWS = 100
# Under which name a run keeps them.
WINDOWS = "windows"
STEPS, BATCH, RATE = 600, 64, 2e-3

Windows = NDArray[np.uint8]


def hidden_windows(rgb: Frames, hidden: Mask, parity: int) -> Windows:
    """Windows (N, 24, 24, 4) around the patches of frames (T, H, W, 3) that are mostly hidden (T, H, W).

    Args:
        parity: 0 or 1: which half of the patches, by a chequerboard that alternates from frame to frame. So true and
            imagined windows are never of the same place and moment, and truth against itself is a fair comparison.

    Returns:
        colours and, as fourth channel, how much is hidden, 0..255; at most 400, evenly spread.

    Raises:
        ValueError: shapes differ.
    """
    check_frames(rgb, rgb, hidden)
    kept = [np.zeros((0, *2 * (AROUND + PATCH // 2,), 4), np.uint8)]
    for number, (image, mask) in enumerate(zip(rgb, hidden, strict=True)):
        rows, columns = image.shape[0] // PATCH, image.shape[1] // PATCH
        if not rows * columns:
            continue
        layers = np.concatenate([image, 255 * mask[..., None].astype(np.uint8)], axis=-1)
        layers = layers[: rows * PATCH, : columns * PATCH]
        small = cv2.resize(layers, (columns * PATCH // 2, rows * PATCH // 2), interpolation=cv2.INTER_AREA)
        padded = np.pad(small, (*2 * ((AROUND // 2, AROUND // 2),), (0, 0)), mode="edge")
        share = mask[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH).mean(axis=(1, 3))
        half = (np.add.outer(np.arange(rows), np.arange(columns)) + number) % 2 == parity
        views = np.lib.stride_tricks.sliding_window_view(padded, 2 * (AROUND + PATCH // 2,), axis=(0, 1))
        picked = views[:: PATCH // 2, :: PATCH // 2][(share >= LEAST_HIDDEN) & half]
        kept.append(picked.transpose(0, 2, 3, 1))
    found = np.concatenate(kept)
    return found[np.linspace(0, len(found) - 1, min(MOST_WINDOWS, len(found))).round().astype(int)]


def two_sample_auc(ours: Sequence[Windows], theirs: Sequence[Windows], seed: int = 0) -> float:
    """How well imagined windows are told from true ones: area under the ROC curve, .5 for not at all.

    Learned on half of the walks and tested on the others, and the other way round; the mean of both. The same for the
    same seed and number of threads.

    Args:
        ours, theirs: of each walk the windows of imagined and of true frames, of different parity.
        seed: of halves, networks and batches.

    Returns:
        the area; NaN where a half has less than 100 windows of a kind.

    Raises:
        ValueError: the two differ in their number of walks.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"windows: expected those of as many walks, got {len(ours)} and {len(theirs)}")
    order = np.random.default_rng(seed).permutation(len(ours))
    halves = []
    for walks in (order[::2], order[1::2]):
        kinds = [[each[int(walk)] for walk in walks] for each in (theirs, ours)]
        counts = [sum(map(len, kind)) for kind in kinds]
        if min(counts) < LEAST_WINDOWS:
            return float("nan")
        windows = torch.from_numpy(np.concatenate([*kinds[0], *kinds[1]])).permute(0, 3, 1, 2).float() / 255 - 0.5
        halves.append((windows, torch.arange(len(windows)) >= counts[0]))
    return float(np.mean([_area(_learned(*one, seed), *other) for one, other in (halves, halves[::-1])]))


def kept_auc(folder: Path, method: str) -> float:
    """How well a method's answers are told from the truth, over all cases of a run; NaN if a case lacks windows."""
    ours, theirs = ([np.load(path) for path in paths] for paths in kept(folder, WINDOWS, method))
    return two_sample_auc(ours, theirs)


def _learned(windows: Tensor, imagined: Tensor, seed: int) -> nn.Module:
    """A network that gives the logit of being imagined."""
    # The caller's random numbers stay as they are.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        network = nn.Sequential(
            *(nn.Conv2d(4, 24, 5, stride=2, padding=2), nn.BatchNorm2d(24), nn.ReLU()),
            *(nn.Conv2d(24, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
            *(nn.Flatten(), nn.Dropout(0.2), nn.Linear(48, 1)),
        )
        optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=STEPS)
        # As many of either kind in each batch, whatever there are.
        kinds = [torch.nonzero(each)[:, 0] for each in (imagined, ~imagined)]
        wanted = (torch.arange(BATCH) < BATCH // 2).float()
        for _ in tqdm(range(STEPS), desc="two-sample test", unit="step", leave=False, mininterval=2):
            batch = torch.cat([kind[torch.randint(len(kind), (BATCH // 2,))] for kind in kinds])
            seen = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, windows[batch].flip(-1), windows[batch])
            loss = nn.functional.binary_cross_entropy_with_logits(network(seen)[:, 0], wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@torch.no_grad()
def _area(network: nn.Module, windows: Tensor, imagined: Tensor) -> float:
    """The share of pairs in which the imagined one looks more imagined."""
    logits = torch.cat([network(part)[:, 0] for part in windows.split(1024)])
    ranks, count = rankdata(logits.numpy()), int(imagined.sum())
    above = ranks[imagined.numpy()].sum() - count * (count + 1) / 2
    return float(above / (count * (len(windows) - count)))
