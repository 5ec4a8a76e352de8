"""What the executables of this package have in common: start a node, spin until interrupted, end in order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TypeVar

from mirage_ros.ros.dds_profile import use_default_profile

use_default_profile()

import rclpy  # noqa: E402  (the DDS profile must be chosen first)
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.node import Node  # noqa: E402
from rclpy.utilities import remove_ros_args  # noqa: E402

AnyNode = TypeVar("AnyNode", bound=Node)


def run(name: str, make: Callable[[], AnyNode], start: Callable[[AnyNode], bool] = lambda node: True) -> None:
    """Run a node until it is interrupted; the process ends with a line of text where that is not possible.

    Args:
        name: of the executable, for messages.
        make: makes the node; a ValueError or RuntimeError says what is wrong with its parameters or the machine.
        start: called before spinning; false where the node could not be started, and has said why.
    """
    try:
        rclpy.init()
        unknown = remove_ros_args(sys.argv)[1:]
        if unknown:
            raise ValueError(f"arguments: expected --ros-args -p name:=value, got {' '.join(unknown)}")
        node = make()
    except (ValueError, RuntimeError) as error:
        rclpy.try_shutdown()
        sys.exit(f"{name}: {error}")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    started = True
    try:
        started = start(node)
        if started:
            executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    except Exception:
        # An interrupt in the middle of a callback invalidates the context under it; what fails then is no fault.
        if rclpy.ok():
            raise
    finally:
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    if not started:
        sys.exit(f"{name}: could not be started, see above")
