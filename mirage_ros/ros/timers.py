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
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.status import memory_status
from mirage_ros.ros.waiting import Patience
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
        # By topic, which changes were published last, and when.
        self._sent: dict[str, tuple[object, float]] = {}
        # Changes of the memory at the last look, and whether its status is to be sent once more: the first time may be
        # before the answer of the service that changed it.
        self._reported, self._again = -1, False
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
        changes = self._context.session.snapshot.changes
        if changes != self._reported or self._again:
            self._report()
        self._reported, self._again = changes, changes != self._reported
        try:
            self._publish_memory()
            self._publish_occupancy()
            self._autosave.pump()
        except BusyError as error:
            self._context.health.event("queue", str(error))

    def _publish_memory(self) -> None:
        session, outputs, wanted = self._context.session, self._outputs, self._context.parameters.memory
        changes, stamp = session.snapshot.changes, self._context.now()

        def cloud() -> None:
            outputs.cloud(session.cloud(wanted.cloud_points), stamp)

        def frames() -> None:
            outputs.memory_frames(session.memory.frames(), stamp)

        self._send("memory/frames", changes, wanted.cloud_rate, frames)
        self._send("memory/points", changes, wanted.cloud_rate, cloud)

    def _publish_occupancy(self) -> None:
        grid, wanted = self._context.session.occupancy, self._context.parameters.occupancy
        for topic, changes, cells in (
            ("memory/occupancy", grid.changes, grid.known),
            ("imagined/occupancy", grid.changes + grid.guesses, grid.guessed),
            ("imagined/speed_mask", (grid.changes, wanted.unseen_speed), partial(grid.speeds, wanted.unseen_speed)),
        ):
            self._send(topic, changes, wanted.rate, partial(self._send_occupancy, topic, cells, self._context.now()))

    def _send(self, topic: str, changes: object, rate: float, work: Callable[[], None]) -> None:
        """Have the worker publish on a topic that somebody wants, if something changed, at most so often a second."""
        (last, at), now = self._sent.get(topic, (None, 0.0)), time.monotonic()
        if changes == last or now - at < 1 / rate or not self._outputs.wanted(topic):
            return
        self._context.worker.call(work, slot=topic)
        # Only now: what a queue that is full refused is still to be sent.
        self._sent[topic] = changes, now

    def _send_occupancy(self, topic: str, cells: Callable[[], NDArray[np.int8]], stamp: int) -> None:
        self._outputs.occupancy(topic, cells(), self._context.session.occupancy, stamp)

    def _report(self) -> None:
        worker, snapshot = self._context.worker, self._context.session.snapshot
        header = self._outputs.world_header(self._context.now())
        dropped = worker.dropped + self._commands.dropped
        self._outputs.publish("memory/status", memory_status(snapshot, header, worker.backlog, dropped))
