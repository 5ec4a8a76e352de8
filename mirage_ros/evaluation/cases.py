"""A case: what a method is shown, and what it should imagine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from mirage_ros.evaluation.metrics import seen_by_first
from mirage_ros.recordings.clips import MOVING, STATIC, Clip
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.sim.sensors import check_sensor, sensed


@dataclass(frozen=True, eq=False)
class Case:
    """One walk.

    Attributes:
        clip: true frames, depths, classes and cameras; its frame 0 is the first target, and is shown to the method and
            written to the memory beforehand, with its depth.
        scored: frames that count, all but the first by default.
        given: the first frame as it is shown to the method, such as by a real sensor; as it is by default.
    """

    clip: Clip
    scored: tuple[int, ...] = ()
    given: RgbdFrame | None = None

    def __post_init__(self) -> None:
        if len(self.clip) < 2:
            raise ValueError(f"clip: expected a frame that is not shown, got {len(self.clip)}")
        if not self.scored:
            object.__setattr__(self, "scored", tuple(range(1, len(self.clip))))

    @property
    def first(self) -> RgbdFrame:
        """The first frame as it is shown to the method."""
        return self.given or RgbdFrame(self.clip.rgb[0], self.clip.sensed[0], self.clip.camera[0])

    def seen_by(self, sensor: str, strength: float) -> Case:
        """The case with its first frame as a sensor would give it; see `sensors.check_sensor`."""
        rng = np.random.default_rng(crc32(self.name.encode()))
        return replace(self, given=sensed(self.first, check_sensor(sensor, strength), strength, rng))

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

    def seen_by(self, sensor: str, strength: float) -> CaseList:
        """The cases with their first frames as a sensor would give them; see `sensors.check_sensor`."""

        def seen(make: Callable[[], Case]) -> Case:
            return make().seen_by(sensor, strength)

        return replace(self, makers=[partial(seen, make) for make in self.makers])

    def __len__(self) -> int:
        return len(self.makers)

    def __iter__(self) -> Iterator[Case]:
        return (make() for make in self.makers)
