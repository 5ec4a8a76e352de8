"""Timing that all measurements share."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch


def median_ms(work: Callable[[], object], repeats: int) -> float:
    """Median milliseconds of a call, after one to warm up."""
    work()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        durations.append(time.perf_counter() - start)
    return 1000 * statistics.median(durations)


def reset_peak(device: torch.device) -> None:
    """Begin to look for the peak of memory anew: of a GPU, or of this process."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        # 5 sets the peak to what is resident now: proc_pid_clear_refs(5). Where that is not allowed, the peak is that
        # of the whole process.
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def peak_bytes(device: torch.device) -> int:
    """The peak since `reset_peak`: what torch allocated on a GPU, or what was resident of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(peak.split()[1]) * 1024


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
