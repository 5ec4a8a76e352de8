"""The work queue: order, fairness, bounds, cancelling, and errors that stay where they were made."""

import threading
import time

import pytest

from mirage_ros.ros.work_queue import BusyError, Worker
from mirage_ros.world.results import Cancelled

TIMEOUT = 10.0


@pytest.fixture
def worker():
    worker = Worker(max_calls=4, max_jobs=3)
    yield worker
    assert worker.close(TIMEOUT)


class Gate:
    """Holds the worker in a call, so that the queue behind it can be arranged."""

    def __init__(self, worker):
        self._entered, self._open = threading.Event(), threading.Event()
        self.future = worker.call(self._wait)
        assert self._entered.wait(TIMEOUT)

    def _wait(self):
        self._entered.set()
        assert self._open.wait(TIMEOUT)

    def open(self):
        self._open.set()
        self.future.result(TIMEOUT)


def counting(name, count, seen):
    def parts(job):
        for index in range(count):
            seen.append(f"{name}{index}")
            yield
        return name

    return parts


def test_everything_runs_in_one_thread(worker):
    threads = []

    def parts(job):
        threads.append(threading.get_ident())
        yield

    worker.call(lambda: threads.append(threading.get_ident())).result(TIMEOUT)
    worker.start(parts, name="job").future.result(TIMEOUT)
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()


def test_the_newest_call_of_a_slot_wins_and_the_others_are_counted(worker):
    gate = Gate(worker)
    seen = []
    futures = [worker.call(lambda n=n: seen.append(n), slot="pose") for n in range(5)]
    other = worker.call(lambda: seen.append("other"), slot="observation")
    gate.open()
    other.result(TIMEOUT)
    assert seen == [4, "other"]
    assert [future.cancelled() for future in futures] == [True] * 4 + [False]
    assert worker.dropped == 4


def test_jobs_take_turns(worker):
    gate = Gate(worker)
    seen = []
    jobs = [worker.start(counting(name, 3, seen), name=name) for name in "ab"]
    gate.open()
    assert [job.future.result(TIMEOUT) for job in jobs] == ["a", "b"]
    assert seen == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_jobs_that_change_the_memory_exclude_each_other_and_let_others_pass(worker):
    gate = Gate(worker)
    seen = []
    jobs = [worker.start(counting(name, 2, seen), name=name, exclusive=name != "x") for name in ("a", "b", "x")]
    gate.open()
    for job in jobs:
        job.future.result(TIMEOUT)
    assert [entry for entry in seen if entry[0] != "x"] == ["a0", "a1", "b0", "b1"]
    assert seen.index("x1") < seen.index("b0")


def test_calls_come_between_the_parts_of_a_job(worker):
    gate = Gate(worker)
    seen = []

    def parts(job):
        for index in range(3):
            seen.append(index)
            if index == 0:
                worker.call(lambda: seen.append("call"))
            yield

    job = worker.start(parts, name="job")
    gate.open()
    job.future.result(TIMEOUT)
    assert seen == [0, "call", 1, 2]


def test_quick_calls_come_between_the_steps_of_a_part(worker):
    seen = []

    def parts(job):
        worker.call(lambda: seen.append("slow"))
        worker.call(lambda: seen.append("quick"), quick=True)
        worker.breathe()
        seen.append("step")
        yield

    worker.start(parts, name="job").future.result(TIMEOUT)
    worker.call(lambda: None).result(TIMEOUT)
    assert seen == ["quick", "step", "slow"]


def test_quick_calls_take_at_most_half_of_a_job_s_time(worker):
    """Previews of a dense stream must not bring a rollout to a standstill."""
    spent = []

    def quick():
        start = time.monotonic()
        time.sleep(0.02)
        spent.append(time.monotonic() - start)

    def parts(job):
        start = time.monotonic()
        while len(spent) < 8:
            worker.call(quick, slot="preview", quick=True)
            worker.breathe()
            time.sleep(0.001)
        yield
        return time.monotonic() - start

    total = worker.start(parts, name="job").future.result(TIMEOUT)
    assert sum(spent[:-1]) <= total / 2


def test_a_quick_call_that_breathes_itself_runs_once(worker):
    seen = []

    def quick():
        seen.append("begin")
        worker.breathe()
        seen.append("end")

    def parts(job):
        worker.call(quick, quick=True)
        worker.call(quick, quick=True)
        worker.breathe()
        yield

    worker.start(parts, name="job").future.result(TIMEOUT)
    assert seen == ["begin", "end", "begin", "end"]


def test_a_failure_ends_its_own_work_only(worker):
    def parts(job):
        yield
        raise ArithmeticError("broken")

    job = worker.start(parts, name="job")
    with pytest.raises(ArithmeticError, match="broken"):
        job.future.result(TIMEOUT)
    with pytest.raises(ZeroDivisionError):
        worker.call(lambda: 1 / 0).result(TIMEOUT)
    assert worker.call(lambda: "alive").result(TIMEOUT) == "alive"


def test_cancelling_stops_running_and_waiting_jobs(worker):
    closed, started = [], threading.Event()

    def endless(job):
        started.set()
        try:
            while True:
                if job.cancelled:
                    raise Cancelled
                time.sleep(0.001)
                yield
        finally:
            closed.append(job.name)

    running = worker.start(endless, name="running")
    waiting = worker.start(counting("w", 1, []), name="waiting", exclusive=True)
    assert started.wait(TIMEOUT)
    running.cancel()
    with pytest.raises(Cancelled):
        running.future.result(TIMEOUT)
    assert closed == ["running"]
    assert waiting.future.result(TIMEOUT) == "w"


def test_what_does_not_fit_is_refused_with_the_number(worker):
    gate = Gate(worker)
    jobs = [worker.start(counting("j", 1, []), name="job") for _ in range(3)]
    with pytest.raises(BusyError, match="jobs: 3"):
        worker.start(counting("j", 1, []), name="job")
    for _ in range(4):
        worker.call(lambda: None)
    with pytest.raises(BusyError, match="calls: 4"):
        worker.call(lambda: None)
    assert worker.backlog >= 7
    gate.open()
    for job in jobs:
        job.future.result(TIMEOUT)


def test_closing_resolves_everything_and_ends_the_thread():
    before = threading.active_count()
    worker = Worker()
    gate = Gate(worker)
    job = worker.start(counting("j", 10**9, []), name="job")
    call = worker.call(lambda: None)
    closer = threading.Thread(target=worker.close)
    closer.start()
    time.sleep(0.05)
    gate.open()
    closer.join(TIMEOUT)
    with pytest.raises(Cancelled):
        job.future.result(TIMEOUT)
    assert call.cancelled()
    assert threading.active_count() == before
    with pytest.raises(BusyError, match="closed"):
        worker.call(lambda: None)
