"""What an active node does regularly: streams, waiting camera frames, the cloud, automatic saves, its status."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock

from mirage_ros.ros.autosave import Autosave
from mirage_ros.ros.commanding import Commands
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.observing import Observing
from mirage_ros.ros.patience import Patience
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.status import memory_status
from mirage_ros.ros.work_queue import BusyError

# Seconds between looks.
TICK = 0.05


class Timers:
    """The timers from activate to deactivate."""

    def __init__(
        self,
        context: NodeContext,
        outputs: Outputs,
        patience: Patience,
        commands: Commands,
        observing: Observing,
        autosave: Autosave,
        clock: Clock,
    ) -> None:
        """Start them, by a steady clock."""
        self._context, self._outputs, self._commands = context, outputs, commands
        self._patience, self._observing, self._autosave = patience, observing, autosave
        self._cloud_changes, self._cloud_time = -1, 0.0
        # By topic, what was published last.
        self._occupancy: dict[str, tuple[int, float]] = {}
        period = 1 / context.parameters.status.rate
        self._timers = [
            context.node.create_timer(seconds, callback, clock=clock)
            for seconds, callback in ((TICK, self._tick), (period, self._report))
        ]

    def close(self) -> None:
        """Take them away."""
        for timer in self._timers:
            self._context.node.destroy_timer(timer)
        self._timers.clear()

    def _tick(self) -> None:
        self._patience.pump()
        self._commands.pump()
        try:
            self._observing.pump()
        except (ValueError, BusyError) as error:
            self._context.health.refuse("image", str(error))
        self._observing.expire()
        try:
            self._publish_memory()
            self._publish_occupancy()
            self._autosave.pump()
        except BusyError as error:
            self._context.health.event("queue", str(error))

    def _publish_memory(self) -> None:
        session, outputs, wanted = self._context.session, self._outputs, self._context.parameters.memory
        changes, now = session.snapshot.changes, time.monotonic()
        due = now - self._cloud_time >= 1 / wanted.cloud_rate
        if (
            changes == self._cloud_changes
            or not due
            or not any(map(outputs.wanted, ("memory/points", "memory/frames")))
        ):
            return
        self._cloud_changes, self._cloud_time = changes, now
        stamp = self._context.now()

        def work() -> None:
            outputs.memory_frames(session.memory.frames(), stamp)
            outputs.cloud(session.cloud(wanted.cloud_points), stamp)

        self._context.worker.call(work, slot="cloud")

    def _publish_occupancy(self) -> None:
        outputs, now, grid = self._outputs, time.monotonic(), self._context.session.occupancy
        for topic, changes, cells in (
            ("memory/occupancy", grid.changes, grid.known),
            ("imagined/occupancy", grid.changes + grid.guesses, grid.guessed),
        ):
            last, at = self._occupancy.get(topic, (-1, 0.0))
            due = now - at >= 1 / self._context.parameters.occupancy.rate
            if changes == last or not due or not outputs.wanted(topic):
                continue
            self._occupancy[topic] = changes, now
            work = partial(self._send_occupancy, topic, cells, self._context.now())
            self._context.worker.call(work, slot=topic)

    def _send_occupancy(self, topic: str, cells: Callable[[], NDArray[np.int8]], stamp: int) -> None:
        self._outputs.occupancy(topic, cells(), self._context.session.occupancy, stamp)

    def _report(self) -> None:
        worker, snapshot = self._context.worker, self._context.session.snapshot
        header = self._outputs.world_header(self._context.now())
        dropped = worker.dropped + self._commands.dropped
        self._outputs.publish("memory/status", memory_status(snapshot, header, worker.backlog, dropped))
