"""What every part of a configured node works with."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.node import Node

from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameter_declaration import LiveParameters
from mirage_ros.ros.parameters import MirageParameters
from mirage_ros.ros.status import Health
from mirage_ros.ros.work_queue import Worker


@dataclass(frozen=True, eq=False)
class NodeContext:
    """The node and what it made before its parts, from configure to cleanup.

    Attributes:
        node: owns publishers, subscriptions, services, timers.
        live: the node's parameters.
        health: is told what goes wrong.
        session: model and memory, for the worker's thread alone.
        worker: that thread.
    """

    node: Node
    live: LiveParameters
    health: Health
    session: ModelSession
    worker: Worker

    @property
    def parameters(self) -> MirageParameters:
        """The parameters as they are now."""
        return self.live.current

    def now(self) -> int:
        """Nanoseconds of the node's clock."""
        return int(self.node.get_clock().now().nanoseconds)
