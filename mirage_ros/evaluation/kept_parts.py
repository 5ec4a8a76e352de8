"""What a run keeps of every answer, for measures that take all its cases together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRUTH, METHODS = Path("truth"), Path("methods")


def keep(folder: Path, kind: str, case: str, values: NDArray[Any], method: str | None = None) -> None:
    """Keep an array of a method's answer to a case, or of the truth, with a run's results.

    Args:
        folder: of the run.
        kind: of array; the name of a subfolder.
    """
    path = _place(folder, kind, method) / f"{case}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def kept(folder: Path, kind: str, method: str) -> tuple[list[Path], list[Path]]:
    """Files of a method's answers and those of the truth, of the same cases in the same order.

    Empty if those of a case are missing: rows of an earlier version brought none.
    """
    places = [_place(folder, kind, of) for of in (method, None)]
    names = [{path.relative_to(place) for path in place.rglob("*.npy")} for place in places]
    shared = sorted(names[0]) if names[0] == names[1] else []
    ours, theirs = ([place / name for name in shared] for place in places)
    return ours, theirs


def _place(folder: Path, kind: str, method: str | None) -> Path:
    return folder / kind / (TRUTH if method is None else METHODS / method)
