"""Starting this package's executables as processes of their own, and ending them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from mirage_ros.resources import PACKAGE, share_directory

# Time to shut down in an orderly way before the process is killed, seconds.
GRACE = 5.0


def executable(name: str) -> Path:
    """Path of an executable that `ros2 run mirage_ros NAME` would start.

    Raises:
        FileNotFoundError: this installation has none of that name.
    """
    path = share_directory().parents[1] / "lib" / PACKAGE / name
    if not path.is_file():
        raise FileNotFoundError(f"executable: {path} does not exist")
    return path


def parameter_arguments(parameters: Mapping[str, object]) -> list[str]:
    """`--ros-args -p name:=value ...`; strings are quoted so that YAML keeps them strings."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        text = (
            str(value).lower()
            if isinstance(value, bool)
            else json.dumps(value)
            if isinstance(value, str)
            else str(value)
        )
        arguments += ["-p", f"{name}:={text}"]
    return arguments


def running(
    name: str, arguments: Sequence[str] = (), environment: Mapping[str, str] | None = None, log: Path | None = None
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """Run an executable of this package with this interpreter while the context lasts; see `running_command`."""
    return running_command([sys.executable, str(executable(name)), *arguments], environment, log)


@contextmanager
def running_command(
    command: Sequence[str], environment: Mapping[str, str] | None = None, log: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command while the context lasts.

    Args:
        command: program and arguments.
        environment: variables set on top of the caller's.
        log: file that its output is appended to; it goes to the caller's terminal otherwise.

    Yields:
        The process. At the end it gets SIGINT, and SIGKILL if it is still there after a few seconds.
    """
    with open(log, "ab") if log else nullcontext() as sink:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(environment or {})},
            stdout=sink,
            stderr=subprocess.STDOUT if sink else None,
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> int:
    """Interrupt a process and wait for it; kill it if it does not listen. Returns its exit status."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
