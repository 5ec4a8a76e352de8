"""Where the package's installed files (config, launch, weights) are, and packages that need not be there."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

PACKAGE = "mirage_ros"


def share_directory() -> Path:
    """Folder share/mirage_ros of this installation.

    Looks upwards from this file, then in AMENT_PREFIX_PATH: code and files of one installation belong together,
    whatever other overlays are sourced, and `pip install` sets no AMENT_PREFIX_PATH.

    Raises:
        FileNotFoundError: the package runs from a source tree that was not installed.
    """
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    for prefix in [*Path(__file__).parents, *prefixes]:
        share = prefix / "share" / PACKAGE
        if (share / "package.xml").is_file():
            return share
    raise FileNotFoundError(
        f"share/{PACKAGE}/package.xml: not above {Path(__file__).parent} nor in AMENT_PREFIX_PATH; "
        "install the package (make setup, pip install . or colcon build) and run outside of the source folder, which "
        "hides the installed package from `python` and `python -m`"
    )


def weights_directory() -> Path:
    """Folder with the weights that ship with the package: of the source tree if the code runs from one, else installed.

    Raises:
        FileNotFoundError: neither is there.
    """
    source = Path(__file__).parents[1]
    if (source / "package.xml").is_file() and (source / "weights").is_dir():
        return source / "weights"
    return share_directory() / "weights"


def optional_package(module: str, extra: str) -> Any:
    """A package that an extra of this one installs; a RuntimeError that names the extra if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RuntimeError(f"{module} is not installed: pip install 'mirage_ros[{extra}]'") from error
