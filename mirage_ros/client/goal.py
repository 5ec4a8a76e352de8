"""An action goal as a planner holds it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from typing import Any

from mirage_ros.client.results import Imagination, MirageError, imagination_of


class Goal:
    """An imagination under way.

    Attributes:
        future: its result, for those who combine several.
        frames_total: that were asked for.
    """

    def __init__(self, frames_total: int, at_end: Callable[[], None] | None = None) -> None:
        self._at_end = at_end
        self.future: Future[Imagination] = Future()
        # From here on nobody but the node ends it: asyncio would cancel it together with a task that waits for it.
        self.future.set_running_or_notify_cancel()
        self._handle: Any = None
        self._cancelled = False
        self._lock = threading.Lock()
        self.frames_total = frames_total

    def cancel(self) -> None:
        """Stop it within one denoising step, or at the end of the chunk once its keyframe is written.

        `result` then raises `ImaginationCancelled`.
        """
        with self._lock:
            self._cancelled = True
            if self._handle is not None:
                self._handle.cancel_goal_async()

    def done(self) -> bool:
        """Whether the result is there."""
        return self.future.done()

    def result(self, timeout: float | None = None) -> Imagination:
        """Wait for the result.

        Args:
            timeout: seconds; None waits as long as it takes.

        Raises:
            TimeoutError: it is not there yet; the goal goes on.
            ImaginationCancelled: it was cancelled.
            MirageError: it was refused or failed, or the client was closed.
        """
        try:
            return self.future.result(timeout)
        except FutureTimeout:
            if self.future.done():
                raise
            raise TimeoutError(f"imagine: no result within {timeout:g} s") from None

    def __await__(self) -> Any:
        return asyncio.wrap_future(self.future).__await__()

    # For the connection to call.

    def answered(self, sent: Any) -> None:
        """The node took the goal on, or did not."""
        try:
            handle = sent.result()
            if not handle.accepted:
                raise MirageError("imagine: the node did not accept the goal")
        except BaseException as error:
            self.fail(error)
            return
        with self._lock:
            self._handle = handle
            if self._cancelled:
                handle.cancel_goal_async()
        handle.get_result_async().add_done_callback(self._finished)

    def fail(self, error: BaseException) -> None:
        """End it with an error, unless it has ended."""
        with suppress(InvalidStateError):
            self.future.set_exception(error)

    def _finished(self, got: Any) -> None:
        try:
            answer = got.result()
            if self._at_end is not None:
                self._at_end()
            imagination = imagination_of(answer.result, answer.status)
        except BaseException as error:
            self.fail(error)
        else:
            with suppress(InvalidStateError):
                self.future.set_result(imagination)
