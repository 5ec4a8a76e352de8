"""What is open from activate to deactivate."""

from __future__ import annotations

from dataclasses import dataclass

from rclpy.clock import Clock

from mirage_ros.ros.autosave import Autosave
from mirage_ros.ros.commanding import Commands
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.corrections import Corrections
from mirage_ros.ros.observing import Observing
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.subscriptions import Inputs
from mirage_ros.ros.timers import Timers
from mirage_ros.ros.transforms import FrameIds
from mirage_ros.ros.waiting import Patience


class ActiveState:
    """Topics and timers of an active node, and what handles them.

    Attributes:
        frames: turns poses of messages into optical ones of the world frame.
        patience: keeps what waits for a transform.
        outputs: publishes.
        commands: imagines along streamed poses and paths.
        observing: writes camera frames.
    """

    def __init__(self, context: NodeContext, autosave: Autosave, clock: Clock) -> None:
        """Open the topics and start to work.

        Args:
            context: of the node.
            autosave: is asked regularly to save.
            clock: steady, so that timers run while simulated time stands still.

        Raises:
            ValueError: poses are to come from TF, which cannot be had.
        """
        self._worker = context.worker
        self.frames = FrameIds(context.node, context.parameters)
        if context.parameters.observation.pose == "tf" and not self.frames.has_tf:
            raise ValueError("observation.pose is tf, but tf2_ros is not installed or use_tf is off")
        self.patience = Patience(lambda: context.parameters.tf_tolerance)
        self.outputs = Outputs(context)
        self.commands = Commands(context, self.outputs)
        corrections = Corrections(context, self.frames, self._give_up)
        self.observing = Observing(context, self.frames, corrections)
        self._inputs = Inputs(context, self.frames, self.patience, self.commands, self.observing, corrections)
        self._timers = Timers(context, self.outputs, self.patience, self.commands, self.observing, autosave, clock)

    def _give_up(self) -> None:
        """What builds on places that are about to move ends; goals on forks of the memory go on."""
        self.commands.clear()
        self._worker.cancel_jobs(exclusive=True)

    def close(self) -> None:
        """Stop all work and close the topics."""
        self._inputs.close()
        self._timers.close()
        self.patience.close()
        self.observing.close()
        self.commands.clear()
        # After this nobody publishes any more.
        self._worker.settle()
        self.outputs.close()
        self.frames.close()


@dataclass
class Stage:
    """Where services and goals, which outlive it, find what is active."""

    active: ActiveState | None = None

    def require(self) -> ActiveState:
        """What is active; a ValueError if nothing is."""
        if self.active is None:
            raise ValueError("the node is not active; activate it first (ros2 lifecycle set ... activate)")
        return self.active
