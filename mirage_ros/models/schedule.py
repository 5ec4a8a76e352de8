"""Noise schedules of flow matching: diffusers' solvers, set up for a rollout.

A noisy sample is x = (1 - sigma) clean + sigma noise, the network predicts the flow v = noise - clean, and its
timestep is 1000 sigma (Lipman et al., arXiv 2210.02747; shift: Esser et al., arXiv 2403.03206).
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler
from torch import Tensor

from mirage_ros.models.network_files import hub_file

TRAIN_TIMESTEPS = 1000
MAX_STEPS = 50
Solver = Literal["unipc", "euler"]
# Beside the folders of the networks.
FILE = "schedule.json"
Scheduler = UniPCMultistepScheduler | FlowMatchEulerDiscreteScheduler


@dataclass(frozen=True)
class ScheduleConfig:
    """Which solver, and how its steps are spread.

    Attributes:
        solver: 'unipc' (order 2, for 8 steps and more) or 'euler' (for few steps).
        steps: default number of steps, 1..50.
        shift: above one, more of the steps are spent at high noise.

    Raises:
        ValueError: one is out of range; names it.
    """

    solver: Solver = "unipc"
    steps: int = 20
    shift: float = 5.0

    def __post_init__(self) -> None:
        if self.solver not in get_args(Solver):
            raise ValueError(f"solver: expected 'unipc' or 'euler', got {self.solver!r}")
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or not 1 <= self.steps <= MAX_STEPS:
            raise ValueError(f"steps: expected a whole number from 1 to {MAX_STEPS}, got {self.steps!r}")
        if isinstance(self.shift, bool) or not isinstance(self.shift, int | float) or not 0 < self.shift < math.inf:
            raise ValueError(f"shift: expected a positive number, got {self.shift!r}")

    @staticmethod
    def load(source: str | Path) -> ScheduleConfig | None:
        """What the weights of a folder or hub repository were distilled for; None where it does not say.

        Raises:
            ValueError: the file is not such a schedule.
            MissingWeightsError: there is no such repository.
        """
        path = hub_file(source, FILE)
        if path is None:
            return None
        try:
            return ScheduleConfig(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected solver, steps and shift: {error}") from error

    def save(self, folder: Path) -> None:
        """Write it beside the weights of a folder."""
        (folder / FILE).write_text(json.dumps(asdict(self)) + "\n")


# What few-step distillations of Wan are made for: 4 steps of Euler's method at the shift that Wan trains with, without
# guidance; 1 to 4 work.
FEW_STEPS = ScheduleConfig("euler", steps=4, shift=5.0)


def shift_sigmas(sigmas: Tensor, shift: float) -> Tensor:
    """Move noise levels in 0..1 towards high noise: s x / (1 + (s - 1) x)."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def sigma_grid(steps: int, shift: float) -> list[float]:
    """`steps` noise levels from 1 down, shifted; the closing zero is left to the solver.

    Evenly spaced including the end point, unlike diffusers' own Euler grid, whose last step it would waste at 0.01.
    """
    return shift_sigmas(torch.linspace(1, 0, steps + 1, dtype=torch.float64)[:-1], shift).tolist()


def make_scheduler(config: ScheduleConfig, steps: int | None = None) -> Scheduler:
    """A diffusers scheduler, ready to step.

    Use `scheduler.timesteps` and `scheduler.step(flow, timestep, sample).prev_sample`; the sigmas stay on the host, so
    that stepping never waits for a GPU. One scheduler serves one chunk.

    Args:
        config: solver and shift.
        steps: 1..50; the configuration's by default.

    Raises:
        ValueError: steps are out of range.
    """
    steps = config.steps if steps is None else replace(config, steps=steps).steps
    scheduler: Scheduler
    if config.solver == "unipc":
        scheduler = UniPCMultistepScheduler(
            num_train_timesteps=TRAIN_TIMESTEPS,
            solver_order=2,
            prediction_type="flow_prediction",
            use_flow_sigmas=True,
            flow_shift=config.shift,
        )
        scheduler.set_timesteps(steps)
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=TRAIN_TIMESTEPS)
        scheduler.set_timesteps(sigmas=sigma_grid(steps, config.shift))
    # Otherwise the first step searches the timestep and reads the answer back from the device.
    scheduler.set_begin_index(0)
    return scheduler


def clean_estimate(sample: Tensor, flow: Tensor, sigma: float | Tensor) -> Tensor:
    """The clean latents that a predicted flow stands for: x - sigma v."""
    return sample - sigma * flow


def add_noise(clean: Tensor, noise: Tensor, sigma: float | Tensor) -> Tensor:
    """(1 - sigma) clean + sigma noise."""
    return (1 - sigma) * clean + sigma * noise
