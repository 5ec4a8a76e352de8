"""Held-out scenes stay held out: figures of shipped weights refer to these numbers."""

from __future__ import annotations

import pytest

from mirage_ros.sim.splits import SEEDS, scene_seeds


def test_the_splits_are_frozen_and_disjoint():
    assert SEEDS["held-out"] == range(1_000_000, 1_000_064)
    assert not set(SEEDS["held-out"]) & set(SEEDS["train"])


def test_seeds_beyond_a_split_are_refused():
    assert list(scene_seeds("held-out", 62, 2)) == [1_000_062, 1_000_063]
    with pytest.raises(ValueError, match="held-out seeds from 0 to 63"):
        scene_seeds("held-out", 62, 3)
    with pytest.raises(ValueError, match="split"):
        scene_seeds("test", 0, 1)
