"""Paths that come over the network and must stay below one folder."""

from __future__ import annotations

import os
from pathlib import Path


def path_below(folder: Path, text: str, suffix: str) -> Path:
    """The path that a request names, inside a folder.

    Args:
        folder: that it must not leave, also not by links.
        text: relative path; the suffix is added where it has none.
        suffix: that the file must have, with its dot.

    Raises:
        ValueError: empty, absolute, too long, hidden, with '..' or control characters, of another suffix, or out of the
            folder.
    """
    if not text or len(text) > 255 or any(ord(letter) < 32 for letter in text):
        raise ValueError(f"path: expected a name of 1 to 255 printable characters, got {text[:64]!r}")
    wanted = Path(text)
    if not wanted.parts or wanted.is_absolute() or ".." in wanted.parts or "\\" in text or text.startswith("~"):
        raise ValueError(f"path: expected a path relative to {folder} without '..', got {text!r}")
    if any(part.startswith(".") for part in wanted.parts):
        raise ValueError(f"path: expected names that do not start with a dot, got {text!r}")
    if not wanted.suffix:
        wanted = wanted.with_name(wanted.name + suffix)
    if wanted.suffix != suffix:
        raise ValueError(f"path: expected a name that ends in {suffix}, got {text!r}")
    path = folder / wanted
    # Links are followed before the comparison; parts that do not exist yet cannot be links.
    if not os.path.realpath(path).startswith(os.path.realpath(folder) + os.sep):
        raise ValueError(f"path: expected inside {folder}, got {text!r}, which leads out of it")
    return path
