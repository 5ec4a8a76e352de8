"""The choice of exemplars: of each clip the keyframes of which most was hidden and nearly all stands still."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.models.exemplars import Exemplars
from mirage_ros.training.keyframe_means import PER_CLIP, KeyframeMeans

# Share of a keyframe that may move: what does is no part of a place.
MOVING = 0.01


def gather(data: KeyframeMeans, count: int) -> Exemplars:
    """Exemplars out of keyframes, about as many of each clip.

    Args:
        data: keyframes with their means.
        count: how many at most.

    Raises:
        ValueError: there is no keyframe in which nearly all stands still.
    """
    samples = [data.sample(place) for place in chosen(data, count)]
    if not samples:
        raise ValueError(f"data: expected keyframes of which at most {MOVING:.0%} moves, got none of {len(data)}")
    truths, means, visible, still = (
        torch.stack([sample[name] for sample in samples]) for name in ("truth", "mean", "visible", "still")
    )
    return Exemplars.of(truths, means, ~visible & still, data.chunks.preset.latent_channels)


def chosen(data: KeyframeMeans, count: int) -> list[int]:
    """Places of keyframes, in order: of each clip those of which most is hidden, of each frame one."""
    clips = len(data) // PER_CLIP
    best: list[list[int]] = []
    for clip in range(clips):
        places = clip * PER_CLIP + np.arange(PER_CLIP)
        ranked: dict[int, int] = {}
        for place in places[np.argsort(-data.hidden[places], kind="stable")]:
            if data.still(int(place)) >= 1 - MOVING:
                ranked.setdefault(data.frame(int(place))[1], int(place))
        best.append(list(ranked.values()))
    # The best of each clip, then the second best: of the last round an even choice.
    rounds: list[NDArray[np.int64]] = [
        np.array([own[turn] for own in best if turn < len(own)], np.int64) for turn in range(PER_CLIP)
    ]
    taken: list[int] = []
    for each in rounds:
        left = count - len(taken)
        evenly = each if len(each) <= left else each[np.linspace(0, len(each) - 1, left).round().astype(int)]
        taken.extend(int(place) for place in evenly)
    return sorted(taken)
