"""Arguments of the client, checked before they go into messages, which take what does not fit for something else.

Each function gives the argument back, or raises a ValueError that names it.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np


def whole(name: str, value: Any, least: int, most: int) -> int:
    """A whole number in a range."""
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")
    return number


def real(name: str, value: Any) -> float:
    """A number, as a float: messages take whole ones for zero."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ValueError(f"{name}: expected a number, got {value!r}")
    return float(value)


def text(name: str, value: Any) -> str:
    """A string."""
    if not isinstance(value, str):
        raise ValueError(f"{name}: expected text, got {value!r}")
    return value


def one_of(name: str, value: Any, choices: Sequence[str]) -> int:
    """The place of a string among those that there are."""
    if value not in choices:
        raise ValueError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
    return choices.index(value)


def flag(name: str, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name}: expected True or False, got {value!r}")
    return bool(value)
