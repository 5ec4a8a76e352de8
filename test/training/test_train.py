"""The command line of `mirage train`."""

from __future__ import annotations

import sys

import pytest

from mirage_ros.models.presets import WAN22
from mirage_ros.training import train


@pytest.fixture
def recipe_of(monkeypatch):
    """The recipe that a command line asks for, without running it."""
    asked = []
    monkeypatch.setattr(train, "run", lambda recipe, resume: asked.append(recipe))
    # Of this process, which has other tests to run.
    monkeypatch.setattr(train.torch, "set_num_threads", lambda threads: None)

    def parse(*arguments: str):
        monkeypatch.setattr(sys, "argv", ["mirage train", "default", *arguments])
        train.main()
        return asked.pop()

    return parse


def test_budgets_and_rates_are_those_of_their_phase(recipe_of):
    usual = recipe_of().loops
    loops = recipe_of("--minutes", "joint=3", "--rate", "joint=1e-4", "--steps", "branch=7").loops
    assert (loops["joint"].minutes, loops["joint"].learning_rate, loops["branch"].steps) == (3, 1e-4, 7)
    assert loops["branch"].learning_rate == usual["branch"].learning_rate
    assert loops["lora"] == usual["lora"]


def test_a_preset_has_its_own_phases(recipe_of, monkeypatch):
    assert "distil" not in recipe_of().loops
    with pytest.raises(
        ValueError, match=r"phase: expected some of autoencoder, .* for preset 'default', got \['distil'\]"
    ):
        recipe_of("--phase", "distil")
    monkeypatch.setattr(train, "preset", lambda name: WAN22)
    assert list(recipe_of().loops) == ["branch", "lora", "distil"]
    assert list(recipe_of("--phase", "distil").loops) == ["distil"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--rate", "joint"), "rate: expected PHASE=NUMBER"),
        (("--rate", "branches=1"), "rate: expected PHASE=NUMBER with a phase out of autoencoder"),
        (("--phase", "joint", "--rate", "branch=1"), "rate: expected PHASE=NUMBER with a phase out of joint, got"),
        (("--rate", "joint=fast"), "rate: expected a positive number after joint=, got 'fast'"),
        (("--minutes", "joint=-1"), "minutes: expected a positive number after joint=, got '-1'"),
        (("--steps", "joint=inf"), "steps: expected a positive whole number after joint=, got 'inf'"),
        (("--steps", "joint=0.5"), "steps: expected a positive whole number after joint=, got '0.5'"),
    ],
)
def test_a_wrong_budget_is_refused(recipe_of, arguments, message):
    with pytest.raises(ValueError, match=message):
        recipe_of(*arguments)
