"""A case: what a method is shown, and what it should imagine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mirage_ros.evaluation.metrics import seen_by_first
from mirage_ros.recordings.clips import MOVING, STATIC, Clip


@dataclass(frozen=True, eq=False)
class Case:
    """One walk.

    Attributes:
        clip: true frames, depths, classes and cameras; its frame 0 is the first target, and is shown to the method and
            written to the memory beforehand, with its depth.
        scored: frames that count, all but the first by default.
    """

    clip: Clip
    scored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.clip) < 2:
            raise ValueError(f"clip: expected a frame that is not shown, got {len(self.clip)}")
        if not self.scored:
            object.__setattr__(self, "scored", tuple(range(1, len(self.clip))))

    @property
    def name(self) -> str:
        """Name of the walk."""
        return self.clip.name

    @property
    def static(self) -> NDArray[np.bool_]:
        """(T, H, W) neither moving nor sky: where the truth can be known from other views."""
        return self.clip.labels == STATIC

    @property
    def standing(self) -> NDArray[np.bool_]:
        """(T, H, W) all that does not move, the sky too: a camera sees it, though no memory keeps it."""
        return self.clip.labels != MOVING

    @cached_property
    def visible(self) -> NDArray[np.bool_]:
        """(T, H, W) static pixels that the first frame shows, by true depth; the same for all methods."""
        return seen_by_first(self.clip.depth, self.clip.camera) & self.static

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """(T, H, W) static pixels of known depth that the first frame does not show."""
        return self.static & (self.clip.depth > 0) & ~self.visible


@dataclass(frozen=True)
class CaseList:
    """A frozen list of cases, which are always the same in the same order.

    Attributes:
        name: of the protocol.
        makers: each makes a case when it is its turn.
    """

    name: str
    makers: Sequence[Callable[[], Case]]

    def __len__(self) -> int:
        return len(self.makers)

    def __iter__(self) -> Iterator[Case]:
        return (make() for make in self.makers)
