"""The work queue: one thread in which everything that touches the model and the memory runs, in a fair order."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from mirage_ros.world.results import Cancelled

logger = logging.getLogger(__name__)

# Work in parts: each `next` does one of them, and the value that the generator returns is the result.
Steps: TypeAlias = Generator[None, None, Any]


class BusyError(RuntimeError):
    """The queue is full; the message says of what."""


@dataclass(eq=False)
class _Call:
    work: Callable[[], Any]
    future: Future[Any]
    slot: str | None
    quick: bool


@dataclass(eq=False)
class Job:
    """Work that is done part by part and can be stopped between them.

    Attributes:
        name: for messages.
        future: resolves to what the work returned; raises `Cancelled` when it was stopped, or its error.
        exclusive: changes the memory; such jobs come one after the other, in the order of their arrival.
    """

    name: str
    exclusive: bool
    future: Future[Any] = field(default_factory=Future)
    _parts: Steps | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the job to stop; it does within one denoising step."""
        self._stop.set()

    def then(self, done: Callable[[Job], None]) -> Job:
        """Call something in the worker's thread when the job has ended, however it did."""
        self.future.add_done_callback(lambda _: done(self))
        return self

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()


class Worker:
    """One thread, two kinds of work.

    Calls are short and run before the next part of any job; a call in a slot replaces one that waits in the same slot.
    Quick calls only read, and also run in the midst of a job, whenever that calls `breathe`. Jobs take
    turns part by part, so that a long one does not keep short ones waiting, but jobs that change the memory exclude
    each other. An error ends the call or job that made it and nothing else.

    Attributes:
        dropped: calls and jobs that newer ones replaced since the start.
    """

    def __init__(self, name: str = "mirage worker", max_calls: int = 64, max_jobs: int = 8) -> None:
        """Start the thread.

        Args:
            name: of the thread.
            max_calls, max_jobs: that wait or run at once; more are refused.
        """
        for label, value in (("max_calls", max_calls), ("max_jobs", max_jobs)):
            if value < 1:
                raise ValueError(f"{label}: expected at least 1, got {value}")
        self._max_calls, self._max_jobs = max_calls, max_jobs
        self._calls: deque[_Call] = deque()
        self._jobs: deque[Job] = deque()
        self._lock = threading.Condition()
        self._closing = False
        self.dropped = 0
        self._running = False
        self._breathing, self._next_breath = False, 0.0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def backlog(self) -> int:
        """Calls and jobs that wait or run."""
        with self._lock:
            return len(self._calls) + len(self._jobs) + int(self._running and not self._jobs)

    def call(self, work: Callable[[], Any], *, slot: str | None = None, quick: bool = False) -> Future[Any]:
        """Queue a short piece of work.

        Args:
            work: runs in the worker's thread.
            slot: replaces a call that waits in the same slot, whose future is cancelled.
            quick: changes nothing and may run in the midst of a job.

        Raises:
            BusyError: too many calls wait already.
        """
        call = _Call(work, Future(), slot, quick)
        replaced = None
        with self._lock:
            self._check_open()
            if slot is not None:
                replaced = next((other for other in self._calls if other.slot == slot), None)
                if replaced is not None:
                    self._calls.remove(replaced)
                    self.dropped += 1
            if len(self._calls) >= self._max_calls:
                raise BusyError(f"calls: {self._max_calls} wait already")
            self._calls.append(call)
            self._lock.notify_all()
        if replaced is not None:
            replaced.future.cancel()
        return call.future

    def start(self, parts: Callable[[Job], Steps], *, name: str, exclusive: bool = False) -> Job:
        """Queue work in parts.

        Args:
            parts: makes the generator, given the job whose `cancelled` it should ask between its steps.
            name: for messages.
            exclusive: it changes the memory.

        Raises:
            BusyError: too many jobs wait or run already.
        """
        job = Job(name, exclusive)
        job._parts = parts(job)
        with self._lock:
            self._check_open()
            if len(self._jobs) >= self._max_jobs:
                raise BusyError(f"jobs: {self._max_jobs} wait or run already")
            self._jobs.append(job)
            self._lock.notify_all()
        return job

    def breathe(self) -> None:
        """Run the quick calls that wait; for jobs to call often, in the worker's thread.

        They get at most half of the time, so that a dense stream of them does not bring the job to a standstill.
        """
        start = time.monotonic()
        if self._breathing or start < self._next_breath:
            return
        with self._lock:
            quick = [call for call in self._calls if call.quick]
            for call in quick:
                self._calls.remove(call)
        if not quick:
            return
        # What a quick call does may itself come by here.
        self._breathing = True
        for call in quick:
            self._do(call)
        self._breathing = False
        end = time.monotonic()
        self._next_breath = end + (end - start)

    def cancel_jobs(self) -> list[Job]:
        """Ask every job to stop; they are returned so that their ends can be waited for."""
        with self._lock:
            jobs = list(self._jobs)
            for job in jobs:
                job.cancel()
            self._lock.notify_all()
        return jobs

    def settle(self) -> None:
        """Cancel every job and wait until they have ended and all calls that were queued before this are done."""
        for job in self.cancel_jobs():
            wait([job.future])
        last = _Call(lambda: None, Future(), None, False)
        with self._lock:
            if self._closing:
                return
            # Beside the limit: there must always be room for the end.
            self._calls.append(last)
            self._lock.notify_all()
        wait([last.future])

    def close(self, timeout: float = 30.0) -> bool:
        """Stop all work and end the thread.

        Args:
            timeout: seconds to wait for the current step.

        Returns:
            Whether the thread has ended.
        """
        with self._lock:
            self._closing = True
            self._lock.notify_all()
        self.cancel_jobs()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _check_open(self) -> None:
        if self._closing:
            raise BusyError("the work queue is closed")

    def _run(self) -> None:
        while True:
            with self._lock:
                self._running = False
                while not (self._calls or self._jobs or self._closing):
                    self._lock.wait()
                if self._closing and not self._jobs:
                    calls = list(self._calls)
                    self._calls.clear()
                    break
                self._running = True
                # Those that wait now; what comes meanwhile waits for the next turn, so that jobs get theirs.
                calls = list(self._calls)
                self._calls.clear()
                job = self._next_job()
            for call in calls:
                if self._closing:
                    call.future.cancel()
                else:
                    self._do(call)
            if job is not None:
                self._advance(job)
        for call in calls:
            call.future.cancel()

    def _next_job(self) -> Job | None:
        """The first job that may run now; the first exclusive one is the only exclusive one that may."""
        first_exclusive = next((job for job in self._jobs if job.exclusive), None)
        # One that was cancelled only has to be told so.
        return next((job for job in self._jobs if not job.exclusive or job is first_exclusive or job.cancelled), None)

    def _advance(self, job: Job) -> None:
        """One part of a job."""
        assert job._parts is not None
        try:
            if job.cancelled:
                job._parts.close()
                raise Cancelled(f"{job.name} was cancelled")
            next(job._parts)
        except StopIteration as end:
            self._end(job)
            job.future.set_result(end.value)
        except BaseException as error:
            self._end(job)
            # A refusal says all in its message; anything else is worth a trace.
            if not isinstance(error, Cancelled | ValueError):
                logger.exception("%s failed", job.name)
            job.future.set_exception(error)
        else:
            with self._lock:
                # An exclusive job keeps its place before other exclusive ones, and still lets all others have a turn.
                self._jobs.remove(job)
                waiting = [index for index, other in enumerate(self._jobs) if other.exclusive and job.exclusive]
                if waiting:
                    behind = [other for other in self._jobs if not other.exclusive]
                    others = [other for other in self._jobs if other.exclusive]
                    self._jobs = deque([*behind, job, *others])
                else:
                    self._jobs.append(job)

    def _end(self, job: Job) -> None:
        job._parts = None
        with self._lock:
            self._jobs.remove(job)

    @staticmethod
    def _do(call: _Call) -> None:
        if not call.future.set_running_or_notify_cancel():
            return
        try:
            result = call.work()
        except BaseException as error:
            call.future.set_exception(error)
        else:
            call.future.set_result(result)
