"""Services and goals that wait in coroutines of the executor for the worker's thread."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from mirage_ros.world.results import Cancelled


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

    def awaitable(self, work: concurrent.futures.Future[Any]) -> Future[Any]:
        """A future that a callback of the node can await, without a thread of the executor waiting meanwhile.

        Raises:
            Cancelled: when awaited, if the work was cancelled. Otherwise the work's own error.
        """
        waiting: Future[Any] = Future()

        def done(finished: concurrent.futures.Future[Any]) -> None:
            error: Any = Cancelled("a newer request took its place, or the node was stopped")
            if not finished.cancelled():
                error = finished.exception()
            if error is None:
                waiting.set_result(finished.result())
            else:
                waiting.set_exception(error)
            if self._node.executor is not None:
                # The executor looks at waiting coroutines when anything wakes it; nobody else would.
                self._node.executor.wake()

        work.add_done_callback(done)
        return waiting
