"""Refusals that all conversions share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from std_msgs.msg import Header

# Larger images than any camera makes; what claims to be larger is refused before anything is allocated.
MAX_SIDE = 1 << 16


def check_message(message: Any, kind: type, name: str) -> None:
    """Refuse an object of another class with a TypeError that says what came."""
    if not isinstance(message, kind):
        raise TypeError(
            f"{name}: expected {kind.__module__.split('.')[0]}/{kind.__name__}, got {type(message).__name__}"
        )


def check_finite(values: Sequence[float], name: str) -> None:
    """Refuse NaN and infinity with a ValueError that names the field and its values."""
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name}: expected finite numbers, got {list(values)}")


def check_size(message: Any, name: str) -> None:
    """Refuse images without pixels, or with more than any camera has along a side, with a ValueError."""
    for field in ("height", "width"):
        if not 0 < getattr(message, field) <= MAX_SIDE:
            raise ValueError(f"{name}.{field}: expected 1 to {MAX_SIDE} pixels, got {getattr(message, field)}")


def header_or_empty(header: Header | None) -> Header:
    """The header, or an empty one for None; a TypeError for anything else, such as a frame's name."""
    if header is None:
        return Header()
    check_message(header, Header, "header")
    return header


def as_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers as float32; what is too large for it becomes infinite, silently."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32, copy=False)
