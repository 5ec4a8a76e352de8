"""What waits without holding a thread: messages for a transform, services and goals for the worker."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import rclpy.task
from rclpy.node import Node

from mirage_ros.world.results import Cancelled

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
    """Tries again until what is asked for needs no transform any more that is still to come.

    Entries wait in the order of their arrival for a bounded time, and are then refused with the reason.
    """

    def __init__(self, tolerance: Callable[[], float]) -> None:
        """Set up: seconds that an entry waits from its arrival, asked anew each time."""
        self._tolerance = tolerance
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
        if sum(other.key == key for other in self._entries) >= WAITING or len(self._entries) >= 5 * WAITING:
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


class OpenRequests:
    """Counts requests that wait, so that what serves them is taken away once the last has been answered."""

    def __init__(self, node: Node, destroy: Callable[[], Any]) -> None:
        """Set up; `destroy` is called at the end, never while a request waits."""
        self._node, self._destroy = node, destroy
        self._open, self._closed = 0, False

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request that waits."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if self._closed and not self._open and self._node.executor is not None:
                # After the answer has gone out.
                self._node.executor.create_task(self._destroy)

    def close(self) -> None:
        """Destroy now, or after the last answer."""
        self._closed = True
        if not self._open:
            self._destroy()

    def awaitable(self, work: Future[Any]) -> rclpy.task.Future[Any]:
        """A future that a callback of the node can await, without a thread of the executor waiting meanwhile.

        Raises:
            Cancelled: when awaited, if the work was cancelled. Otherwise the work's own error.
        """
        waiting: rclpy.task.Future[Any] = rclpy.task.Future()

        def done(finished: Future[Any]) -> None:
            error: Any = Cancelled("a newer request took its place, or the node was stopped")
            if not finished.cancelled():
                error = finished.exception()
            if error is None:
                waiting.set_result(finished.result())
            else:
                waiting.set_exception(error)
                # Once ROS was shut down nobody awaits it any more, and rclpy would print it at the end.
                waiting.exception()
            if self._node.executor is not None:
                # The executor looks at waiting coroutines when anything wakes it; nobody else would.
                self._node.executor.wake()

        work.add_done_callback(done)
        return waiting
