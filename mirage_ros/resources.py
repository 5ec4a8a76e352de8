"""Where the package and its files (config, launch, weights) come from, and packages that need not be there."""

from __future__ import annotations

import filecmp
import importlib
import importlib.metadata
import json
import os
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

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


def source_commit() -> str:
    """The git commit of the code that runs, as `git describe --always --dirty` says it; 'unknown' if nothing tells.

    That of the clone around this package, or that it was installed from, where all modules are as they are here; or the
    one that pip fetched.
    """
    try:
        # PEP 610: where pip installed from.
        origin = json.loads(importlib.metadata.distribution(PACKAGE).read_text("direct_url.json") or "{}")
    except (importlib.metadata.PackageNotFoundError, ValueError):
        origin = {}
    package = Path(__file__).resolve().parent
    for folder in [*package.parents, Path(unquote(urlsplit(origin.get("url", "")).path))]:
        if (folder / "package.xml").is_file() and _holds_modules(folder / PACKAGE, package):
            # A folder may lie in a clone of something else, which does not track it.
            tracked = _git(folder, "ls-files", f"{PACKAGE}/resources.py")
            if tracked and (commit := _git(folder, "describe", "--always", "--dirty")):
                return commit
    return str(origin.get("vcs_info", {}).get("commit_id", "unknown"))


def _holds_modules(source: Path, package: Path) -> bool:
    pairs = [(path, package / path.relative_to(source)) for path in source.rglob("*.py")]
    # The top one is generated where the interfaces are.
    pairs = [(path, own) for path, own in pairs if own != package / "__init__.py"]
    return bool(pairs) and all(own.is_file() and filecmp.cmp(path, own, shallow=False) for path, own in pairs)


def _git(folder: Path, *arguments: str) -> str:
    """What git says of a folder; nothing where it fails or is not installed."""
    try:
        found = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def optional_package(module: str, extra: str) -> Any:
    """A package that an extra of this one installs; a RuntimeError that names the extra if it is not there."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise RuntimeError(f"{module} is not installed: pip install 'mirage_ros[{extra}]'") from error
