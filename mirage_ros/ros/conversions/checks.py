"""Refusals that all conversions share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def check_message(message: Any, kind: type, name: str) -> None:
    """Refuse an object of another class.

    Raises:
        TypeError: naming what came.
    """
    if not isinstance(message, kind):
        raise TypeError(
            f"{name}: expected {kind.__module__.split('.')[0]}/{kind.__name__}, got {type(message).__name__}"
        )


def check_finite(values: Sequence[float], name: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: naming the field and its values.
    """
    if not all(math.isfinite(value) for value in values):
        raise ValueError(f"{name}: expected finite numbers, got {list(values)}")
