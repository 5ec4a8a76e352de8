"""Timing that all measurements share."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of a call, after one to warm up."""
    work()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return 1000 * statistics.median(durations)


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Keep so many cores busy with something else while the context lasts, as a robot's cores are.

    Raises:
        ValueError: the number is negative.
    """
    if count < 0:
        raise ValueError(f"neighbours: expected a number from 0, got {count}")
    processes = [subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def surroundings(count: int) -> str:
    """What else the machine does while something is measured, for a reader of the figures."""
    return f"{count} busy neighbours on {os.cpu_count()} cores, load average before {os.getloadavg()[0]:.1f}"
