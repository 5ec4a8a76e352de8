"""The work queue: one thread in which everything that touches the model and the memory runs, in a fair order."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import nn

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.world.results import Cancelled

logger = logging.getLogger(__name__)

# Work in parts: each `next` does one of them, and the value that the generator returns is the result.
Steps: TypeAlias = Generator[None, None, Any]


class BusyError(RuntimeError):
    """The queue is full; the message says of what."""


@dataclass(eq=False)
class _Call:
    work: Callable[[], Any]
    slot: str | None = None
    quick: bool = False
    future: Future[Any] = field(default_factory=Future)

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                result = self.work()
            except BaseException as error:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)


@dataclass(eq=False)
class Job:
    """Work that is done part by part and can be stopped between them.

    Attributes:
        name: for messages.
        exclusive: changes the memory; such jobs come one after the other, in the order of their arrival.
        future: resolves to what the work returned; raises `Cancelled` when it was stopped, or its error.
    """

    name: str
    exclusive: bool
    future: Future[Any] = field(default_factory=Future)
    _stop: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the job to stop; it does within one denoising step, or at the end of a chunk with a written keyframe."""
        self._stop.set()

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
        """Start the thread of this name; more calls and jobs than these, waiting or at work, are refused."""
        self._max_calls, self._max_jobs = max_calls, max_jobs
        self._calls: list[_Call] = []
        self._jobs: list[Job] = []
        self._steps: dict[Job, Steps] = {}
        self._lock = threading.Condition()
        self._closing = self._running = self._breathing = False
        self._next_breath = 0.0
        self.dropped = 0
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
        call = _Call(work, slot, quick)
        with self._lock:
            self._check_open()
            replaced = [other for other in self._calls if slot is not None and other.slot == slot]
            for other in replaced:
                self._calls.remove(other)
                self.dropped += 1
            if len(self._calls) >= self._max_calls:
                raise BusyError(f"calls: {self._max_calls} wait already")
            self._calls.append(call)
            self._lock.notify_all()
        for other in replaced:
            other.future.cancel()
        return call.future

    def start(self, steps: Callable[[Job], Steps], *, name: str, exclusive: bool = False) -> Job:
        """Queue work in parts.

        Args:
            steps: makes the generator, given the job whose `cancelled` it should ask between its steps.
            name: for messages.
            exclusive: it changes the memory.

        Raises:
            BusyError: too many jobs wait or run already.
        """
        job = Job(name, exclusive)
        with self._lock:
            self._check_open()
            if len(self._jobs) >= self._max_jobs:
                raise BusyError(f"jobs: {self._max_jobs} wait or run already")
            self._steps[job] = steps(job)
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
            self._calls = [call for call in self._calls if not call.quick]
        if not quick:
            return
        # What a quick call does may itself come by here.
        self._breathing = True
        for call in quick:
            call.run()
        self._breathing = False
        end = time.monotonic()
        self._next_breath = end + (end - start)

    def cancel_jobs(self, *, exclusive: bool = False) -> list[Job]:
        """Ask every job, or those that change the memory, to stop; returned so that their ends can be waited for."""
        with self._lock:
            chosen = [job for job in self._jobs if job.exclusive or not exclusive]
            for job in chosen:
                job.cancel()
            self._lock.notify_all()
            return chosen

    def settle(self) -> None:
        """Cancel every job and wait until they have ended and all calls that were queued before this are done."""
        wait([job.future for job in self.cancel_jobs()])
        last = _Call(lambda: None)
        with self._lock:
            if self._closing:
                return
            # Beside the limit: there must always be room for the end.
            self._calls.append(last)
            self._lock.notify_all()
        wait([last.future])

    def close(self, timeout: float = 30.0) -> bool:
        """Stop all work and end the thread; whether it has ended within so many seconds."""
        with self._lock:
            self._closing = True
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
                # Those that wait now; what comes meanwhile waits for the next turn, so that jobs get theirs.
                calls, self._calls = self._calls, []
                job, ended = self._next_job(), self._closing and not self._jobs
                self._running = not ended
            for call in calls:
                if self._closing:
                    call.future.cancel()
                else:
                    call.run()
            if ended:
                return
            if job is not None:
                self._advance(job)

    def _next_job(self) -> Job | None:
        """The first job that may run now; the first exclusive one is the only exclusive one that may."""
        first_exclusive = next((job for job in self._jobs if job.exclusive), None)
        # One that was cancelled only has to be told so.
        return next((job for job in self._jobs if not job.exclusive or job is first_exclusive or job.cancelled), None)

    def _advance(self, job: Job) -> None:
        """One part of a job."""
        steps = self._steps[job]
        try:
            if job.cancelled:
                steps.close()
                raise Cancelled(f"{job.name} was cancelled")
            next(steps)
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
                # To the end, but before other exclusive jobs if it is one: all others still have a turn.
                self._jobs.remove(job)
                behind = [other for other in self._jobs if other.exclusive and job.exclusive]
                self._jobs = [other for other in self._jobs if other not in behind] + [job, *behind]

    def _end(self, job: Job) -> None:
        with self._lock:
            self._jobs.remove(job)
            del self._steps[job]


class LayerPauses:
    """Calls something before each layer of the networks, such as `Worker.breathe`.

    On a CPU a denoising step, or reading and decoding a chunk, takes longer than a preview may wait; a layer does not.
    Networks that keep a state between their layers (video autoencoders with a cache) are left out, as what is done in
    between could disturb them.
    """

    def __init__(self, networks: Sequence[nn.Module | None]) -> None:
        """Hook into the networks; nothing is called yet."""
        self._between: Callable[[], None] | None = None
        for network in networks:
            stateful = isinstance(network, Autoencoder) and not isinstance(network, FrameAutoencoder)
            if network is None or stateful:
                continue
            for layer in network.modules():
                if layer is not network:
                    layer.register_forward_pre_hook(self._pause)

    @contextmanager
    def between(self, do: Callable[[], None]) -> Iterator[None]:
        """Call this before each layer while the context lasts, in the thread that runs the layers."""
        before, self._between = self._between, do
        try:
            yield
        finally:
            self._between = before

    def _pause(self, layer: nn.Module, inputs: object) -> None:
        if self._between is not None:
            self._between()
