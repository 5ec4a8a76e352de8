"""Which scenes are for training and which are never trained on. Frozen: figures of all weights refer to it."""

from __future__ import annotations

from typing import Literal

Split = Literal["train", "held-out"]

# Seeds of each family, `mirage_ros.sim.scene.build_scene`.
SEEDS: dict[Split, range] = {"train": range(0, 1_000_000), "held-out": range(1_000_000, 1_000_064)}


def scene_seeds(split: Split, first: int, count: int) -> range:
    """`count` seeds of a split, from its `first` one on.

    Raises:
        ValueError: there is no such split, or it does not hold so many.
    """
    if split not in SEEDS:
        raise ValueError(f"split: expected one of {', '.join(SEEDS)}, got {split!r}")
    whole = SEEDS[split]
    if first < 0 or count < 1 or first + count > len(whole):
        raise ValueError(f"scenes: expected {split} seeds from 0 to {len(whole) - 1}, got {count} from {first} on")
    return whole[first : first + count]
