"""What waits for a transform: in the order of its arrival, for a bounded time, and then refused with the reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

# Messages of a topic that may wait, and a fifth of all that may; those beyond are refused at once.
WAITING = 100


class TransformPendingError(ValueError):
    """A transform is not known (yet).

    Attributes:
        link: the two frames, for diagnostics.
    """

    def __init__(self, message: str, link: str) -> None:
        """Set up; `link` such as 'odom -> map'."""
        super().__init__(message)
        self.link = link


@dataclass(eq=False)
class _Entry:
    key: Hashable
    act: Callable[[], None]
    refuse: Callable[[Exception], None]
    arrived: float


class Patience:
    """Tries again until what is asked for needs no transform any more that is still to come."""

    def __init__(self, tolerance: Callable[[], float], size: int = WAITING) -> None:
        """Set up: seconds that an entry waits from its arrival, asked anew each time, and how many may wait."""
        self._tolerance, self._size = tolerance, size
        self._entries: list[_Entry] = []

    def __len__(self) -> int:
        return len(self._entries)

    def attempt(self, key: Hashable, act: Callable[[], None], refuse: Callable[[Exception], None]) -> None:
        """Do something now or later.

        Args:
            key: what has the same key is done in the order of its arrival.
            act: raises `TransformPendingError` to be called again later.
            refuse: called with any other error, or with that one once the time is over.
        """
        entry = _Entry(key, act, refuse, time.monotonic())
        if not any(other.key == key for other in self._entries) and self._finished(entry):
            return
        if sum(other.key == key for other in self._entries) >= self._size or len(self._entries) >= 5 * self._size:
            refuse(ValueError(f"too many wait for transforms already: {len(self._entries)}"))
        else:
            self._entries.append(entry)

    def future(self, work: Callable[[], Any]) -> Future[Any]:
        """The result of work that may raise `TransformPendingError`, once it does not or the time is over."""
        result: Future[Any] = Future()
        self.attempt(object(), lambda: result.set_result(work()), result.set_exception)
        return result

    def pump(self) -> None:
        """Try what waits; to be called often."""
        blocked: set[Hashable] = set()
        for entry in list(self._entries):
            if entry.key not in blocked:
                if self._finished(entry):
                    self._entries.remove(entry)
                else:
                    blocked.add(entry.key)

    def close(self) -> None:
        """Refuse all that waits."""
        entries, self._entries = self._entries, []
        for entry in entries:
            entry.refuse(ValueError("the node was deactivated while this waited for a transform"))

    def _finished(self, entry: _Entry) -> bool:
        try:
            entry.act()
        except TransformPendingError as error:
            if time.monotonic() - entry.arrived < self._tolerance():
                return False
            entry.refuse(error)
        except Exception as error:
            entry.refuse(error)
        return True
