"""What the training loop trains, and how: the interface of a task, and the settings of a phase."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import Self

from mirage_ros.media import Pixels

# A contact sheet: captions and pictures of each row.
Rows = list[tuple[str, list[Pixels]]]


@dataclass(frozen=True)
class LoopSettings:
    """How a phase is trained."""

    # Optimiser steps; None to go by the wall-clock budget of the phase, over all its runs.
    steps: int | None = None
    minutes: float = 10.0
    # Samples of one process in one pass, and passes whose gradients are summed up for a step.
    batch: int = 8
    accumulate: int = 1
    # Of AdamW, after so many steps of linear warm-up; a cosine follows, down to a hundredth of the rate.
    learning_rate: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 100
    # Greatest norm of the gradient.
    clip: float = 1.0
    # Decay of the averaged weights, which are what is validated and kept.
    ema: float = 0.995
    # 'bf16' computes in bfloat16 over float32 weights; 'no' all in float32.
    precision: str = "bf16"
    # Of samples and noise.
    seed: int = 0
    # At most the first is lost when the process dies; the second lies between validations with a sample sheet.
    checkpoint_minutes: float = 3.0
    sheet_minutes: float = 5.0
    # Split the weights of the transformer's blocks over the processes, see `sharding`.
    shard: bool = False
    # Processes that prepare samples; 0 prepares them in the training process.
    workers: int = 0

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps: expected a whole number from 1, got {self.steps}")
        for name in ("minutes", "learning_rate", "clip", "checkpoint_minutes", "sheet_minutes"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a number above zero, got {getattr(self, name)}")
        for name in ("batch", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a whole number from 1, got {getattr(self, name)}")
        if self.precision not in ("bf16", "no"):
            raise ValueError(f"precision: expected 'bf16' or 'no', got {self.precision!r}")


class TrainingTask(nn.Module, ABC):
    """What a phase trains: a module whose trainable parameters are those with `requires_grad`."""

    def held(self) -> Sequence[nn.Module]:
        """Networks that the task uses and does not train: in no checkpoint, but they follow it to its device."""
        return ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for network in self.held():
            network._apply(fn)
        return super()._apply(fn, recurse)

    @abstractmethod
    def sample(self, rng: np.random.Generator, shared: np.random.Generator) -> dict[str, Tensor]:
        """One training sample, drawn with `rng`; what a whole batch must agree on, such as lengths, with `shared`."""

    @abstractmethod
    def forward(self, batch: dict[str, Tensor], step: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Losses of a batch as scalars; 'loss' is the one to minimise."""

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], Rows]:
        """Figures on held-out scenes with the weights as they are, and rows for a sample sheet."""

    def refresh(self) -> None:
        """Take in data that has come since; called at checkpoints."""

    def save(self, folder: Path) -> None:
        """Write the weights as they are, as they are loaded for use."""

    def finish(self, folder: Path) -> dict[str, float]:
        """Write the finished part of a phase; returns further figures."""
        self.save(folder)
        return {}
