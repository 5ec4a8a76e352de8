"""This package's executables: what they have in common, and starting them as processes of their own."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from mirage_ros import interrupts
from mirage_ros.resources import PACKAGE, share_directory
from mirage_ros.ros.dds import use_default_profile

use_default_profile()

if TYPE_CHECKING:
    from rclpy.node import Node

AnyNode = TypeVar("AnyNode", bound="Node")
# Time to shut down in an orderly way before the process is killed, seconds.
GRACE = 5.0


def run(name: str, make: Callable[[], AnyNode], start: Callable[[AnyNode], bool] = lambda node: True) -> NoReturn:
    """Run a node until it is interrupted, and end this process; with a line of text where it cannot run.

    Args:
        name: of the executable, for messages.
        make: makes the node; a ValueError or RuntimeError says what is wrong with its parameters or the machine.
        start: called before spinning; false where the node could not be started, and has said why.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.utilities import get_default_context, remove_ros_args

    node, problem, executor = None, "", None
    interrupts.while_working()
    try:
        rclpy.init()
        unknown = remove_ros_args(sys.argv)[1:]
        if unknown:
            raise ValueError(f"arguments: expected --ros-args -p name:=value, got {' '.join(unknown)}")
        node = make()
        executor = SingleThreadedExecutor()
        executor.add_node(node)
        if start(node):
            executor.spin()
        else:
            problem = "could not be started, see above"
    except (KeyboardInterrupt, ExternalShutdownException):
        interrupts.while_ending()
    except Exception as error:
        # An interrupt in the middle of a callback invalidates the context under it; what fails then is no fault.
        if not interrupts.came() and (node is None or rclpy.ok()):
            if node is not None or not isinstance(error, ValueError | RuntimeError):
                raise
            problem = str(error)
    finally:
        interrupts.while_ending()
        if node is not None:
            node.destroy_node()
        if executor is not None:
            executor.shutdown()
        rclpy.try_shutdown()
    # The lifecycle's own topics end with the node object, and Fast DDS's shared memory with the last topic.
    node = executor = None
    gc.collect()
    get_default_context().destroy()
    failed = bool(problem) and not interrupts.came()
    if failed:
        print(f"{name}: {problem}", file=sys.stderr)
    interrupts.leave(int(failed))


def executable(name: str) -> Path:
    """Path of an executable that `ros2 run mirage_ros NAME` would start; a FileNotFoundError if there is none."""
    path = share_directory().parents[1] / "lib" / PACKAGE / name
    if not path.is_file():
        raise FileNotFoundError(f"executable: {path} does not exist")
    return path


def parameter_arguments(parameters: Mapping[str, object]) -> list[str]:
    """`--ros-args -p name:=value ...`; strings are quoted so that YAML keeps them strings."""
    arguments = ["--ros-args"]
    for name, value in parameters.items():
        text = json.dumps(value) if isinstance(value, bool | str) else str(value)
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
            command, env={**os.environ, **(environment or {})}, stdout=sink, stderr=subprocess.STDOUT if sink else None
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(GRACE)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
