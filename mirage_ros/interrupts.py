"""What Ctrl-C does to an executable while it loads, while it works, and while it ends: it ends, without a traceback.

Terminals interrupt every process of a launch, and launch itself interrupts them once more; so an interrupt comes at any
moment and often twice. One in the midst of an import would leave half a module behind, whose errors look like faults.
Imports nothing, as it is called before anything else is loaded.
"""

from __future__ import annotations

import os
import signal
from typing import Any

_came = False


def while_loading() -> None:
    """End at once, with status 0: nothing is open yet. A process for which interrupts are off stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))


def while_working() -> None:
    """Raise KeyboardInterrupt once; to be called before ROS is set up, whose own handler calls this one."""
    signal.signal(signal.SIGINT, _interrupt)


def while_ending() -> None:
    """Let the end take its course."""
    # Not SIG_IGN: where a handler is taken away after its signal, Python writes of a race.
    signal.signal(signal.SIGINT, lambda *_: None)


def at_the_end() -> None:
    """Off for good: when the interpreter ends, it takes handlers away and would be killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def came() -> bool:
    """Whether there was one `while_working`; what fails after it is no fault."""
    return _came


def _interrupt(*_: Any) -> None:
    global _came
    _came = True
    while_ending()
    raise KeyboardInterrupt
