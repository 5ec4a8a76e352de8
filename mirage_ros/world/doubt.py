"""How sure imagined depth is: from a table that was measured, or from the spread of several samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirage_ros.models.network_files import hub_file
from mirage_ros.world.results import ImaginedChunk

# Beside the folders of the networks.
FILE = "doubt.json"
# Standard deviation of a Laplace distribution by its scale.
DEVIATION = math.sqrt(2)


@dataclass(frozen=True)
class DepthDoubt:
    """Scales of the error of log depth, which is Laplace's. The defaults stand for weights that nobody measured.

    Attributes:
        visible: where the memory showed something.
        hidden: where it was invented, by the mean.
        drawn: the same where a sample was drawn rather than the mean estimated; None where that was not measured.

    Raises:
        ValueError: a number is out of range; names the field.
    """

    visible: float = 0.07
    hidden: float = 0.35
    drawn: float | None = None

    def __post_init__(self) -> None:
        for name, scale in asdict(self).items():
            if name == "drawn" and scale is None:
                continue
            if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < math.inf:
                raise ValueError(f"{name}: expected a positive scale, got {scale!r}")

    @staticmethod
    def load(source: str | Path) -> DepthDoubt:
        """Of a folder or hub repository of weights; the defaults where it holds no such file.

        Raises:
            ValueError: the file is not such a table.
            MissingWeightsError: there is no such repository.
        """
        path = hub_file(source, FILE)
        if path is None:
            return DepthDoubt()
        try:
            return DepthDoubt(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            wanted = "visible, hidden and drawn, as `mirage eval calibration --write` gives them"
            raise ValueError(f"{path}: expected {wanted}, {error}") from error

    def save(self, folder: Path) -> Path:
        """Write it beside the weights of a folder; the file."""
        path = folder / FILE
        path.write_text(json.dumps(asdict(self)) + "\n")
        return path

    def of_samples(self) -> DepthDoubt:
        """The doubt of frames in which what is hidden was drawn."""
        return self if self.drawn is None else replace(self, hidden=self.drawn)

    def uncertainty(self, depth: NDArray[np.float32], visible: NDArray[np.float32]) -> NDArray[np.float32]:
        """Standard deviation of depth (T, H, W) in metres, where (T, H, W) is known (> 0) and where it is not.

        It is +inf where depth is, and NaN where there is none.
        """
        scale = np.where(visible > 0, np.float32(self.visible), np.float32(self.hidden))
        return np.where(depth > 0, depth * scale * np.float32(DEVIATION), np.float32(np.nan)).astype(np.float32)


def with_spread(chunks: Iterable[ImaginedChunk], samples: int, doubt: DepthDoubt) -> Iterator[ImaginedChunk]:
    """Each chunk of the first samples, its uncertainty that of all samples' depth.

    It is never below that of what is known, nor below a measured table: means hardly differ, and are no surer for that.

    Args:
        chunks: all samples of a chunk before the next chunk of its candidate.
        samples: of each chunk.
        doubt: of the model.
    """
    waiting: dict[tuple[int, int], dict[int, ImaginedChunk]] = {}
    for chunk in chunks:
        place = chunk.candidate, chunk.chunk
        held = waiting.setdefault(place, {})
        held[chunk.sample] = chunk
        if len(held) < samples:
            continue
        del waiting[place]
        spread = _spread([held[index].depth for index in range(samples)], doubt)
        measured = held[0].uncertainty if doubt != DepthDoubt() else None
        yield replace(held[0], uncertainty=spread if measured is None else np.fmax(measured, spread))


def _spread(depths: Sequence[NDArray[np.float32]], doubt: DepthDoubt) -> NDArray[np.float32]:
    """(T, H, W) metres: standard deviation over samples, each of them (T, H, W)."""
    first, known = depths[0], np.stack(depths)
    valid = np.isfinite(known) & (known > 0)
    count = valid.sum(axis=0)
    filled: Any = np.where(valid, known, 0.0)
    mean = filled.sum(axis=0) / np.maximum(count, 1)
    variance = (np.where(valid, known - mean, 0.0) ** 2).sum(axis=0) / np.maximum(count - 1, 1)
    spread = np.maximum(np.sqrt(variance), first * (DEVIATION * doubt.visible))
    # Where samples do not agree whether anything is there, all of the way to it is in doubt.
    spread = np.where(valid.all(axis=0), spread, first)
    return np.where(first > 0, spread, np.nan).astype(np.float32)
