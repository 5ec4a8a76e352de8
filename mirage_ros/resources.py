"""Where the package's installed files (config, launch, weights) are."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = "mirage_ros"


def share_directory() -> Path:
    """Folder share/mirage_ros of this installation.

    Looks in AMENT_PREFIX_PATH, then upwards from this file: `pip install` sets no AMENT_PREFIX_PATH, and an environment
    that sources another overlay must still find its own files.

    Raises:
        FileNotFoundError: the package runs from a source tree that was not installed.
    """
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    for prefix in [*prefixes, *Path(__file__).parents]:
        share = prefix / "share" / PACKAGE
        if (share / "package.xml").is_file():
            return share
    raise FileNotFoundError(
        f"share/{PACKAGE}/package.xml: not in AMENT_PREFIX_PATH nor above {Path(__file__).parent}; "
        "install the package (make setup, pip install . or colcon build) and run it from there"
    )
