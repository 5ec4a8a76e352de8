"""Waiting in a coroutine of the executor for work in another thread."""

from __future__ import annotations

import concurrent.futures
from typing import Any

from rclpy.node import Node
from rclpy.task import Future

from mirage_ros.world.results import Cancelled


def awaitable(node: Node, work: concurrent.futures.Future[Any]) -> Future[Any]:
    """A future that a callback of this node can await, without a thread of the executor waiting meanwhile.

    Raises:
        Cancelled: when awaited, if the work was cancelled. Otherwise the work's own error.
    """
    waiting: Future[Any] = Future()

    def done(finished: concurrent.futures.Future[Any]) -> None:
        if finished.cancelled():
            waiting.set_exception(Cancelled("a newer request took its place, or the node was stopped"))
        else:
            error = finished.exception()
            if error is None:
                waiting.set_result(finished.result())
            else:
                waiting.set_exception(error)  # type: ignore[arg-type]
        executor = node.executor
        if executor is not None:
            # The executor looks at waiting coroutines when anything wakes it; nobody else would.
            executor.wake()

    work.add_done_callback(done)
    return waiting
