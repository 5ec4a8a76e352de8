"""What Ctrl-C does to an executable while it loads, while it works, and while it ends: it ends, without a traceback.

Terminals interrupt every process of a launch, and launch itself interrupts them once more; so an interrupt comes at any
moment and often twice. One in the midst of an import would leave half a module behind, whose errors look like faults.
Imports nothing heavy, as it is called before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

# Seconds after an interrupt in which no other is raised: longer than its way out takes. What is still there then has
# swallowed it, as Python does with what is raised in a finaliser or a callback of C's.
AGAIN = 3.0
_came = False
_raised = float("-inf")
_held = 0


def while_loading() -> None:
    """End at once, with status 0: nothing is open yet. A process for which interrupts are off stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))


def while_working() -> None:
    """Raise KeyboardInterrupt, once for those that come together, until `while_ending`.

    To be called before ROS is set up, whose own handler calls this one.
    """
    signal.signal(signal.SIGINT, _interrupt)


def while_ending() -> None:
    """Let the end take its course."""
    signal.signal(signal.SIGINT, lambda *_: None)


@contextmanager
def held() -> Iterator[None]:
    """Raise nothing until the block is done, as while the memory is saved; ROS, told as well, ends after it."""
    global _held
    _held += 1
    try:
        yield
    finally:
        _held -= 1


def leave(status: int) -> NoReturn:
    """End the process, whose work is over and whose topics and files are closed.

    Taking libraries apart one by one would take seconds, in which launch loses its patience, and interrupts would kill.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def came() -> bool:
    """Whether there was one `while_working`; what fails after it is no fault."""
    return _came


def _interrupt(*_: Any) -> None:
    global _came, _raised
    _came = True
    if _held or time.monotonic() - _raised < AGAIN:
        return
    _raised = time.monotonic()
    raise KeyboardInterrupt
