"""The list of measurements, and figures of theirs that do not depend on the machine."""

import importlib.util
import sys

import pytest
import torch

from mirage_ros.bench import timing
from mirage_ros.bench.__main__ import PARTS, main
from mirage_ros.bench.memory import sort_and_assign
from mirage_ros.bench.perception import Counts
from mirage_ros.bench.timing import median_ms
from mirage_ros.geometry import pinhole


def test_every_part_is_a_module(monkeypatch, capsys):
    assert all(importlib.util.find_spec(f"mirage_ros.bench.{part}") for part in PARTS)
    monkeypatch.setattr(sys, "argv", ["bench", "memry"])
    with pytest.raises(SystemExit, match="2"):
        main()
    printed = capsys.readouterr().out
    assert "unknown part 'memry'" in printed
    assert all(part in printed for part in PARTS)


def test_the_first_call_warms_up_and_is_not_timed():
    calls = []
    assert median_ms(lambda: calls.append(len(calls)), 3) >= 0
    assert calls == [0, 1, 2, 3]


def test_the_usual_readout_shows_the_nearest():
    positions = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, 2.0], [0.0, 0.0, -1.0], [9.0, 0.0, 1.0]])
    camera = pinhole(4, 6, vertical_fov=1.0).at(torch.eye(4)[None])
    latents, visible = sort_and_assign(positions, torch.tensor([[1.0], [2.0], [3.0], [4.0]]), camera)
    assert visible.sum() == 1
    assert latents[visible[:, None]].tolist() == [2.0]


def test_counts_of_clips_add_up_to_shares():
    counts = Counts(fast_found=1, fast=2, lost=1, still=10)
    counts += Counts(slow_found=2, slow=2, still=10)
    shares = {"recall": 0.5, "recall_slow": 1.0, "precision": 0.75, "lost": 0.05}
    assert counts.figures() == {**shares, "cells_fast": 2}


def test_neighbours_are_there_while_it_lasts_and_gone_afterwards():
    import psutil

    me = psutil.Process()
    before = {child.pid for child in me.children()}
    with timing.neighbours(2):
        beside = [child for child in me.children() if child.pid not in before]
        assert len(beside) == 2
    assert not any(child.is_running() for child in beside)
    with pytest.raises(ValueError, match="neighbours: expected a number from 0, got -1"), timing.neighbours(-1):
        pass
