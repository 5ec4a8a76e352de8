"""Held-out scenes stay held out: figures of shipped weights refer to these numbers."""

from __future__ import annotations

import pytest

from mirage_ros.sim.splits import HELD_OUT_FAMILIES, SEEDS, TRAINING_FAMILIES, check_families, scene_seeds


def test_the_splits_are_frozen_and_disjoint():
    assert SEEDS["held-out"] == range(1_000_000, 1_000_064)
    assert not set(SEEDS["held-out"]) & set(SEEDS["train"])


def test_seeds_beyond_a_split_are_refused():
    assert list(scene_seeds("held-out", 62, 2)) == [1_000_062, 1_000_063]
    with pytest.raises(ValueError, match="held-out seeds from 0 to 63"):
        scene_seeds("held-out", 62, 3)
    with pytest.raises(ValueError, match="split"):
        scene_seeds("test", 0, 1)


def test_a_family_is_held_out_as_a_whole():
    assert TRAINING_FAMILIES == ("rooms", "halls", "flats")
    assert HELD_OUT_FAMILIES == ("warehouses",)
    check_families("train", TRAINING_FAMILIES)
    check_families("held-out", HELD_OUT_FAMILIES)
    with pytest.raises(ValueError, match="family: expected some of rooms, halls, flats to train on, got 'warehouses'"):
        check_families("train", ["rooms", "warehouses"])
