"""A case: what a method is shown, and what it should imagine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mirage_ros.evaluation.metrics import seen_before
from mirage_ros.recordings.clips import MOVING, STATIC, Clip


@dataclass(frozen=True, eq=False)
class Case:
    """One walk.

    Attributes:
        clip: true frames, depths, classes and cameras; its frame 0 is the first target and is shown to the method.
        sources: frames that are written to the memory beforehand, with their depth.
        scored: frames that count; never the shown ones.
    """

    clip: Clip
    sources: tuple[int, ...] = (0,)
    scored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.sources or not all(0 <= index < len(self.clip) for index in self.sources):
            raise ValueError(f"sources: expected frames of the clip's {len(self.clip)}, got {self.sources}")
        if not self.scored:
            shown = {0, *self.sources}
            object.__setattr__(self, "scored", tuple(i for i in range(len(self.clip)) if i not in shown))
        if not self.scored:
            raise ValueError(f"scored: expected a frame that is not shown, got a clip of {len(self.clip)}")

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
        """(T, H, W) static pixels that the sources show, by true depth; the same for all methods."""
        return seen_before(self.clip.depth, self.clip.camera, list(self.sources)) & self.static

    @property
    def hidden(self) -> NDArray[np.bool_]:
        """(T, H, W) static pixels of known depth that the sources do not show."""
        return self.static & (self.clip.depth > 0) & ~self.visible


class CaseList(Protocol):
    """A frozen list of cases."""

    name: str

    def cases(self) -> Iterator[Case]:
        """The cases, always the same in the same order."""
        ...

    def __len__(self) -> int: ...
