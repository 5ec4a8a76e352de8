"""How sure imagined depth is: from a table that was measured, or from the spread of several samples."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mirage_ros.world.results import ImaginedChunk

# Beside the folders of the networks.
FILE = "doubt.json"
# Standard deviation of a Laplace distribution by its scale.
DEVIATION = math.sqrt(2)


@dataclass(frozen=True)
class DepthDoubt:
    """Scales of the error of log depth, which is Laplace's: of what the memory showed, and of what was invented.

    The farther an invented pixel is from the next one that is known, the less is known of it. The defaults stand for
    weights that nobody measured: a tenth, and half of the depth.

    Attributes:
        visible: scale where the memory showed something.
        distances: shares of the image's width at which the classes of invented pixels begin, from 0 on.
        hidden: scale of each class.
        drawn: the same where a sample was drawn rather than the mean estimated; none where that was not measured.

    Raises:
        ValueError: a number is out of range, or the lengths differ; names the field.
    """

    visible: float = 0.07
    distances: tuple[float, ...] = (0.0,)
    hidden: tuple[float, ...] = (0.35,)
    drawn: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("distances", "hidden", "drawn"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        begin = self.distances
        if not begin or begin[0] != 0 or not all(later > earlier for earlier, later in pairwise(begin)):
            raise ValueError(f"distances: expected increasing numbers from 0 on, got {begin}")
        for name, scales in (("hidden", self.hidden), ("drawn", self.drawn)):
            if len(scales) != len(begin) and (name == "hidden" or scales):
                raise ValueError(f"{name}: expected {len(begin)} scales, one for each distance, got {len(scales)}")
        if not all(math.isfinite(scale) and scale > 0 for scale in (self.visible, *self.hidden, *self.drawn)):
            raise ValueError(f"visible, hidden, drawn: expected positive scales, got {self}")

    @staticmethod
    def load(source: str | Path) -> DepthDoubt:
        """Of a folder of weights; the defaults where it holds no such file.

        Raises:
            ValueError: the file is not such a table.
        """
        path = Path(source) / FILE
        if not path.is_file():
            return DepthDoubt()
        try:
            return DepthDoubt(**json.loads(path.read_text()))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: expected visible, distances, hidden and drawn, {error}") from error

    def save(self, folder: Path) -> Path:
        """Write it beside the weights of a folder; the file."""
        path = folder / FILE
        path.write_text(json.dumps(asdict(self)) + "\n")
        return path

    def of_samples(self) -> DepthDoubt:
        """The doubt of frames in which what is hidden was drawn."""
        return replace(self, hidden=self.drawn) if self.drawn else self

    def scales(self, visible: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, H, W) scale of the error of log depth, for frames of which (T, H, W) is known (> 0)."""
        distance = distances(visible)
        of_class = np.array(self.hidden, np.float32)[np.digitize(distance, self.distances) - 1]
        return np.where(visible > 0, np.float32(self.visible), of_class).astype(np.float32)

    def uncertainty(self, depth: NDArray[np.float32], visible: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, H, W) standard deviation of depth in metres; +inf where that is infinite, NaN where there is none."""
        spread = depth * self.scales(visible) * DEVIATION
        return np.where(depth > 0, spread, np.nan).astype(np.float32)


def distances(visible: NDArray[np.float32]) -> NDArray[np.float32]:
    """(T, H, W) distance to the next pixel that is known, in image widths; 0 where it is, infinite where none is."""
    found = np.full(visible.shape, np.inf, np.float32)
    for frame, mask in zip(found, (visible <= 0).astype(np.uint8), strict=True):
        if not mask.all():
            frame[:] = cv2.distanceTransform(mask, cv2.DIST_L2, 3) / visible.shape[-1]
    return found


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
