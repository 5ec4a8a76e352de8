"""Lifecycle node `mirage`: camera frames and pose commands in, imagined frames and the memory's cloud out.

configure loads the model and opens services and action, activate opens the topics, deactivate stops all work and closes
them, cleanup frees model and memory. Topics, services and parameters are listed in docs/node.md.
"""

from __future__ import annotations

import concurrent.futures
import time
from contextlib import ExitStack
from typing import Any

from mirage_ros.ros.executable import run  # isort: skip  (chooses the DDS profile, which must come before rclpy)

import torch
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.node import Node

from mirage_ros import interrupts
from mirage_ros.ros.active_state import ActiveState, Stage
from mirage_ros.ros.autosave import Autosave
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions.colours import cv_bridge_converter
from mirage_ros.ros.imagine_action import ImagineAction
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameter_declaration import LiveParameters
from mirage_ros.ros.services import Services
from mirage_ros.ros.status import Health
from mirage_ros.ros.topics import topic
from mirage_ros.ros.work_queue import Worker

# Seconds that the worker may take to end, and after an interrupt: loading a model cannot be stopped half-way.
CLOSE_TIMEOUT, INTERRUPTED_TIMEOUT = 60.0, 2.0


class ConfiguredState:
    """What is there from configure to cleanup: model, memory, services, action.

    Attributes:
        context: of the parts.
        autosave: keeps the memory.
        stage: holds what is active.
    """

    def __init__(self, node: Node, live: LiveParameters, health: Health) -> None:
        """Load the model, restore the memory, open services and action.

        Raises:
            InterruptedError: the process was told to end meanwhile.
            Exception: what keeps the model from being loaded, or the prompt from being taken; nothing is left behind.
        """
        start, parameters = time.monotonic(), live.current
        worker = Worker(f"{node.get_name()} worker", parameters.queue.calls, parameters.queue.jobs)
        self.stage = Stage()
        with ExitStack() as opened:
            opened.callback(_end, node, worker)
            session = _result(node, worker.call(lambda: ModelSession(parameters)))
            try:
                session.set_prompt(parameters.imagine.prompt)
            except ValueError as error:
                raise ValueError(f"imagine.{error}") from None
            self.context = NodeContext(node, live, health, session, worker)
            self.autosave = Autosave(self.context)
            opened.callback(self.autosave.close)
            outcome = self.autosave.restore() if parameters.memory.restore else ""
            if outcome:
                node.get_logger().info(outcome)
            # Looked for here, because trying it out takes a second.
            cv_bridge_converter()
            opened.callback(ImagineAction(self.context, self.stage).close)
            opened.callback(Services(self.context, self.stage).close)
            self._opened = opened.pop_all()
        world = session.world
        node.get_logger().info(
            f"{world.preset.name} {world.width}x{world.height} on {world.device} loaded in "
            f"{time.monotonic() - start:.1f} s; memory of {len(session.memory)} elements"
        )

    def close(self) -> None:
        """Save what changed and end everything."""
        self._opened.close()


def _result(node: Node, work: concurrent.futures.Future[Any]) -> Any:
    """The result of work that may take long, unless the process is told to end meanwhile."""
    while True:
        try:
            return work.result(0.2)
        except concurrent.futures.TimeoutError:
            if work.done():
                raise
            if not node.context.ok():
                raise InterruptedError("interrupted") from None


def _end(node: Node, worker: Worker) -> None:
    ended = worker.close(CLOSE_TIMEOUT if node.context.ok() else INTERRUPTED_TIMEOUT)
    if not ended and node.context.ok():
        node.get_logger().warning("the worker is still busy with something that cannot be interrupted")


class MirageNode(LifecycleNode):
    """See the module.

    Attributes:
        configured: from configure to cleanup.
    """

    def __init__(self, **arguments: Any) -> None:
        """Declare the parameters and start the diagnostics; nothing is loaded yet.

        Raises:
            ValueError: a parameter is misspelt or out of range.
        """
        # Set first: rclpy destroys a node whose constructor fails.
        self.configured: ConfiguredState | None = None
        super().__init__("mirage", **arguments)
        self._live = LiveParameters(self)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.health = Health(self, self._live)
        self._state = "unconfigured"
        diagnostics = topic("/diagnostics")
        self._diagnostics = self.create_publisher(diagnostics.kind, diagnostics.name, diagnostics.qos())
        self.create_timer(1.0, self._diagnose, clock=self._steady)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, restore the memory, open services and action."""
        try:
            self.configured = ConfiguredState(self, self._live, self.health)
        except Exception as error:
            self._free()
            return self._failed("configure", error)
        return self._reached("inactive")

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the topics and start to work."""
        assert self.configured is not None
        try:
            active = ActiveState(self.configured.context, self.configured.autosave, self._steady)
        except ValueError as error:
            return self._failed("activate", error)
        self.configured.stage.active = active
        self.get_logger().info(f"active; camera frames on {self.resolve_topic_name('image')}")
        return self._reached("active")

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop all work and close the topics."""
        self._close_topics()
        return self._reached("inactive")

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free model and memory; an automatic save keeps what was remembered."""
        self._free()
        return self._reached("unconfigured")

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End everything from any state."""
        self._free()
        return self._reached("finalized")

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed unexpectedly: back to unconfigured, so that it can be tried again."""
        self._free()
        return self._reached("unconfigured")

    def destroy_node(self) -> None:
        """Also end the worker's thread."""
        self._free()
        super().destroy_node()

    def _reached(self, state: str) -> TransitionCallbackReturn:
        self._state = state
        if state in ("inactive", "active"):
            self.health.failure = ""
        return TransitionCallbackReturn.SUCCESS

    def _failed(self, transition: str, error: Exception) -> TransitionCallbackReturn:
        self.health.failure = str(error)
        self.get_logger().error(f"{transition}: {error}")
        return TransitionCallbackReturn.FAILURE

    def _close_topics(self) -> None:
        if self.configured is not None and self.configured.stage.active is not None:
            active, self.configured.stage.active = self.configured.stage.active, None
            active.close()

    def _free(self) -> None:
        self._close_topics()
        if self.configured is not None:
            # An interrupt in the midst of it would lose the last autosave.
            with interrupts.held():
                configured, self.configured = self.configured, None
                configured.close()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _diagnose(self) -> None:
        known: tuple[Any, ...] = ()
        if self.configured is not None:
            context = self.configured.context
            known = context.session.snapshot, context.worker.backlog
        self._diagnostics.publish(self.health.diagnostics(self._state, *known))


def start(node: MirageNode) -> bool:
    """Configure and activate; whether both succeeded."""
    done = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == done and node.trigger_activate() == done


def main() -> None:
    """Run the node until it is interrupted."""
    run("mirage", MirageNode, lambda node: not node.get_parameter("autostart").value or start(node))


if __name__ == "__main__":
    main()
