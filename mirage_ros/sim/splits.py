"""Which scenes are for training and which are never trained on. Frozen: figures of all weights refer to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mirage_ros.sim.scene import FAMILIES

Split = Literal["train", "held-out"]

# Seeds of each family, `mirage_ros.sim.scene.build_scene`.
SEEDS: dict[Split, range] = {"train": range(0, 1_000_000), "held-out": range(1_000_000, 1_000_064)}
# No seed of these is ever trained on: they show what a model makes of a kind of place that it does not know.
HELD_OUT_FAMILIES = ("warehouses",)
TRAINING_FAMILIES = tuple(family for family in FAMILIES if family not in HELD_OUT_FAMILIES)
# Those that the shipped weights were trained on.
DEFAULT_FAMILIES = ("rooms", "halls")


def check_families(split: Split, families: Sequence[str]) -> None:
    """Refuse families that a split must not hold.

    Raises:
        ValueError: one of them is held out as a whole, and the split is for training.
    """
    for family in families if split == "train" else ():
        if family in HELD_OUT_FAMILIES:
            expected = ", ".join(TRAINING_FAMILIES)
            raise ValueError(f"family: expected some of {expected} to train on, got {family!r}, which is held out")


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
