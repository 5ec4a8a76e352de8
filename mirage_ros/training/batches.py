"""The samples of a run in their order, the same whichever process draws them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

Draw = Callable[[np.random.Generator, np.random.Generator], dict[str, Tensor]]


def batches(
    draw: Draw, *, seed: int, batch: int, accumulate: int, step: int, processes: int, process: int, workers: int = 0
) -> DataLoader[dict[str, Tensor]]:
    """Batches of one process from a step on.

    Sample i of the sequence is drawn with a generator of its own and one that it shares with the whole step, whichever
    process draws it.

    Args:
        draw: makes a sample of the two generators.
        batch: samples of one process in one pass.
        accumulate: passes of a step.
        step: where to begin.
        processes, process: how many there are, and which this is.
        workers: processes that prepare samples; 0 prepares them in this one.
    """
    starts = count((step * accumulate * processes + process) * batch, processes * batch)
    return DataLoader(
        _Samples(draw, seed, batch * accumulate * processes),
        batch_sampler=(list(range(start, start + batch)) for start in starts),
        num_workers=workers,
        persistent_workers=workers > 0,
    )


class _Samples(Dataset[dict[str, Tensor]]):
    def __init__(self, draw: Draw, seed: int, step: int) -> None:
        self._draw, self._seed, self._step = draw, seed, step

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        own = np.random.default_rng([self._seed, 0, index])
        return self._draw(own, np.random.default_rng([self._seed, 1, index // self._step]))
