"""What this machine is good at: precision, number of threads and how they wait, decided here and nowhere else.

`mirage doctor` shows what was decided. Nothing of torch is imported before it is needed, because how threads wait must
be settled before torch's OpenMP library is loaded.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import MutableMapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# GNU's OpenMP, which torch's wheels bring, and LLVM's and Intel's.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}
# More threads are taken only if they save at least this share of the time.
WORTH = 0.15


def wait_passively(environment: MutableMapping[str, str] | None = None) -> bool:
    """Let threads sleep while they wait for each other, unless the environment says otherwise.

    OpenMP's threads spin at the end of every parallel loop by default. On a robot, whose cores have other work, all of
    them then wait for the one that was put off, and a rollout becomes several times slower.

    Args:
        environment: variables to set; this process's own by default, which has an effect before torch is first
            imported only. Programs that import this package as a library set the variables of `PASSIVE` themselves, or
            call this first of all.

    Returns:
        whether torch will see it.
    """
    target = os.environ if environment is None else environment
    for name, value in PASSIVE.items():
        target.setdefault(name, value)
    return environment is not None or "torch" not in sys.modules


def multiplies_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether the device multiplies bfloat16 faster than float32: by instructions of its own."""
    import torch

    if torch.device(device).type != "cpu":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities()
    return any(bool(capabilities.get(name)) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """The type that networks are used in on a device: bfloat16 where it is fast, float32 elsewhere.

    Geometry and the memory's positions have types of their own.
    """
    import torch

    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float32


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int = 0) -> int:
    """Set torch's threads on the CPU.

    Args:
        count: how many; 0 takes the fewest that are nearly as fast as any number, measured now on a convolution like
            the decoder's: on busy cores one thread can be faster than two.

    Returns:
        the number that was set.

    Raises:
        ValueError: the number is negative.
    """
    import torch

    if count < 0:
        raise ValueError(f"threads: expected a number from 0, got {count}")
    torch.set_num_threads(count or _measured_threads())
    return torch.get_num_threads()


def _measured_threads(repeats: int = 5) -> int:
    import torch

    dtype = fast_dtype()
    layer = torch.nn.Conv2d(96, 96, 3, padding=1).to(dtype)
    images = torch.zeros(4, 96, 32, 48, dtype=dtype).contiguous(memory_format=torch.channels_last)
    chosen, best = 1, float("inf")
    count, most = 1, min(usable_cores(), 16)
    with torch.no_grad():
        while count <= most:
            torch.set_num_threads(count)
            layer(images)
            seconds = []
            for _ in range(repeats):
                start = time.perf_counter()
                layer(images)
                seconds.append(time.perf_counter() - start)
            if statistics.median(seconds) < best * (1 - WORTH):
                chosen, best = count, statistics.median(seconds)
            count = count + 1 if count < 4 else 2 * count
    return chosen
