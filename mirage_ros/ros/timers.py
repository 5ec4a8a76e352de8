"""What an active node does regularly: streams, waiting camera frames, the cloud, automatic saves, its status."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock
from rclpy.node import Node
from std_msgs.msg import Header

from mirage_ros.ros.autosave import Keeper
from mirage_ros.ros.commanding import Commands
from mirage_ros.ros.imagine_action import Active
from mirage_ros.ros.observing import Grounding
from mirage_ros.ros.status import Health, memory_status
from mirage_ros.ros.work_queue import BusyError

# Seconds between looks.
TICK = 0.05


class Rounds:
    """The timers from activate to deactivate."""

    def __init__(
        self,
        node: Node,
        clock: Clock,
        active: Active,
        commands: Commands,
        grounding: Grounding,
        keeper: Keeper,
        now: Callable[[str], Any],
        health: Health,
        world_frame: str,
        status_rate: float,
    ) -> None:
        """Start the timers.

        Args:
            node: owns them.
            clock: steady, so that they run while simulated time stands still.
            active, commands, grounding, keeper: are looked at.
            now: run-time parameters by name.
            health: told what goes wrong.
            world_frame: of the status.
            status_rate: messages a second on memory/status.
        """
        self._node, self._active, self._commands, self._grounding = node, active, commands, grounding
        self._keeper, self._now, self._health, self._world_frame = keeper, now, health, world_frame
        self._cloud_changes, self._cloud_time = -1, 0.0
        self._timers = [
            node.create_timer(TICK, self._tick, clock=clock),
            node.create_timer(1 / status_rate, self._report, clock=clock),
        ]

    def close(self) -> None:
        """Take the timers away."""
        for timer in self._timers:
            self._node.destroy_timer(timer)
        self._timers.clear()

    def _tick(self) -> None:
        self._commands.pump()
        try:
            self._grounding.pump()
        except (ValueError, BusyError) as error:
            self._health.refuse("image", str(error))
        self._grounding.expire()
        try:
            self._publish_cloud(time.monotonic())
            if self._keeper.due(self._now("memory.autosave")):
                self._keeper.save()
        except BusyError as error:
            self._health.event("queue", str(error))

    def _publish_cloud(self, now: float) -> None:
        engine, outputs = self._active.engine, self._active.outputs
        changes = engine.snapshot.changes
        due = now - self._cloud_time >= 1 / self._now("memory.cloud_rate")
        if changes == self._cloud_changes or not due or not outputs.wanted("memory/points"):
            return
        self._cloud_changes, self._cloud_time = changes, now
        stamp, limit = self._node.get_clock().now().nanoseconds, self._now("memory.cloud_points")
        self._active.worker.call(lambda: outputs.cloud(engine.cloud(limit), stamp), slot="cloud")

    def _report(self) -> None:
        header = Header(stamp=self._node.get_clock().now().to_msg(), frame_id=self._world_frame)
        worker = self._active.worker
        dropped = worker.dropped + self._commands.dropped
        message = memory_status(self._active.engine.snapshot, header, worker.backlog, dropped)
        self._active.outputs.publish("memory/status", message)
