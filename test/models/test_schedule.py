"""Noise schedules."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.models.presets import DEFAULT, WAN22
from mirage_ros.models.schedule import (
    FEW_STEPS,
    ScheduleConfig,
    add_noise,
    clean_estimate,
    make_scheduler,
    shift_sigmas,
    sigma_grid,
)

UNIPC, EULER = ScheduleConfig("unipc", 20, 5.0), ScheduleConfig("euler", 2, 3.0)


def run(config: ScheduleConfig, steps: int | None = None) -> float:
    """Error left after integrating the exact flow towards a known clean sample."""
    torch.manual_seed(0)
    clean, noise = torch.randn(4, 8, dtype=torch.float64), torch.randn(4, 8, dtype=torch.float64)
    scheduler = make_scheduler(config, steps)
    sample = add_noise(clean, noise, float(scheduler.sigmas[0]))
    for index, timestep in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[index].double()
        flow = (sample - clean) / sigma
        torch.testing.assert_close(clean_estimate(sample, flow, sigma), clean)
        sample = scheduler.step(flow, timestep, sample).prev_sample
    assert len(scheduler.timesteps) == (steps or config.steps)
    return (sample - clean).abs().max().item()


def test_the_full_size_schedule_is_the_published_one() -> None:
    scheduler = make_scheduler(WAN22.schedule)
    assert len(scheduler.timesteps) == 20
    # Shift 5 over 20 steps: 1000 x 5 s / (1 + 4 s) at s = 1, 0.95, 0.9, cut to whole numbers from 999 on.
    assert scheduler.timesteps[:3].tolist() == [999, 989, 978]
    assert scheduler.config.solver_order == 2
    assert scheduler.config.prediction_type == "flow_prediction"
    assert scheduler.sigmas[-1] == 0


@pytest.mark.parametrize("steps", [1, 2, 4, 20, 50])
@pytest.mark.parametrize("config", [UNIPC, EULER], ids=["unipc", "euler"])
def test_exact_flows_end_at_the_clean_sample(config: ScheduleConfig, steps: int) -> None:
    assert run(config, steps) < 1e-5


@settings(max_examples=40)
@given(st.integers(1, 50), st.floats(1, 12))
def test_the_grid_falls_from_one_in_shifted_steps(steps: int, shift: float) -> None:
    sigmas = sigma_grid(steps, shift)
    assert len(sigmas) == steps
    assert sigmas[0] == pytest.approx(1)
    assert all(earlier > later > 0 for earlier, later in pairwise(sigmas))
    # Undoing the shift gives even steps that end at zero.
    even = [sigma / (shift - (shift - 1) * sigma) for sigma in sigmas]
    assert even == pytest.approx([1 - index / steps for index in range(steps)], abs=1e-9)


def test_shifting_keeps_the_ends() -> None:
    assert shift_sigmas(torch.tensor([0.0, 0.5, 1.0]), 3.0).tolist() == [0.0, 0.75, 1.0]


def test_schedulers_are_not_shared_between_chunks() -> None:
    first, second = make_scheduler(UNIPC, 3), make_scheduler(UNIPC, 3)
    sample = torch.ones(1, 4)
    first.step(sample, first.timesteps[0], sample)
    assert second.step_index is None
    assert make_scheduler(DEFAULT.schedule).timesteps.shape == (1,)


@pytest.mark.parametrize(
    ("config", "steps", "message"),
    [
        (UNIPC, 0, "steps: expected a whole number from 1 to 50, got 0"),
        (EULER, 51, "steps: expected a whole number from 1 to 50, got 51"),
        (EULER, True, "steps: expected a whole number"),
    ],
)
def test_unusable_steps_are_refused(config: ScheduleConfig, steps: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_scheduler(config, steps)


def test_a_folder_of_weights_says_what_it_was_distilled_for(tmp_path: Path) -> None:
    assert ScheduleConfig.load(tmp_path) is None
    FEW_STEPS.save(tmp_path)
    assert ScheduleConfig.load(tmp_path) == FEW_STEPS
    for text, message in [
        ('{"solver": "heun"}', "solver: expected 'unipc' or 'euler', got 'heun'"),
        ('{"steps": 0}', "steps: expected a whole number from 1 to 50, got 0"),
        ('{"shift": -1}', "shift: expected a positive number, got -1"),
        ('{"guidance": 5}', "guidance"),
        ("[]", "expected solver, steps and shift"),
        ("steps: 4", "expected solver, steps and shift"),
    ]:
        (tmp_path / "schedule.json").write_text(text)
        with pytest.raises(ValueError, match=rf"schedule\.json: .*{message}"):
            ScheduleConfig.load(tmp_path)
