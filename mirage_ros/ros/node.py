"""Lifecycle node `mirage`: camera frames and pose commands in, imagined frames and the memory's cloud out.

configure loads the model and opens services and action, activate opens the topics, deactivate stops all work and closes
them, cleanup frees model and memory. Topics, services and parameters are listed in docs/node.md.
"""

from __future__ import annotations

import concurrent.futures
import os
import time
from pathlib import Path as FilePath
from typing import Any

from mirage_ros.ros.executable import run  # isort: skip  (chooses the DDS profile, which must come before rclpy)

import torch
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from mirage_ros.ros.autosave import Keeper
from mirage_ros.ros.commanding import Commands, Options
from mirage_ros.ros.conversions.colours import cv_bridge_converter
from mirage_ros.ros.imagine_action import Active, ImagineAction, Limits
from mirage_ros.ros.model_session import Engine
from mirage_ros.ros.node_parameters import PARAMETERS
from mirage_ros.ros.observing import Grounding
from mirage_ros.ros.parameters import declare
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.requests import Settings
from mirage_ros.ros.services import Services
from mirage_ros.ros.status import Health
from mirage_ros.ros.subscriptions import Inputs
from mirage_ros.ros.timers import Rounds
from mirage_ros.ros.topics import topic
from mirage_ros.ros.transforms import FrameIds, extrinsics
from mirage_ros.ros.work_queue import Worker

# Seconds that the worker may take to end, and after an interrupt: loading a model cannot be stopped half-way.
CLOSE_TIMEOUT, INTERRUPTED_TIMEOUT = 60.0, 2.0


class MirageNode(LifecycleNode):
    """See the module."""

    def __init__(self, **arguments: Any) -> None:
        """Declare the parameters and start the diagnostics; nothing is loaded yet.

        Raises:
            ValueError: a parameter is misspelt or out of range.
        """
        # Set first: rclpy destroys a node whose constructor fails.
        self._engine: Engine | None = None
        self._worker: Worker | None = None
        self._requests: Services | None = None
        self._action: ImagineAction | None = None
        self._active: Active | None = None
        self._commands: Commands | None = None
        self._grounding: Grounding | None = None
        self._keeper: Keeper | None = None
        self._inputs: Inputs | None = None
        self._rounds: Rounds | None = None
        super().__init__("mirage", **arguments)
        self._settings = declare(self, PARAMETERS)
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._health = Health(self, lambda: self._now("status.silence"))
        self._state = "unconfigured"
        diagnostics = topic("/diagnostics")
        self._diagnostics = self.create_publisher(diagnostics.kind, diagnostics.name, diagnostics.qos())
        self.create_timer(1.0, self._diagnose, clock=self._steady)

    def _now(self, name: str) -> Any:
        """A run-time parameter's value now."""
        return self.get_parameter(name).value

    @property
    def folder(self) -> FilePath:
        """Where memories and clouds are saved."""
        chosen = self._settings["memory.folder"]
        if chosen:
            return FilePath(chosen).expanduser().resolve()
        name = self.get_fully_qualified_name().strip("/").replace("/", "-")
        return FilePath(os.environ.get("ROS_HOME", "~/.ros")).expanduser().resolve() / "mirage" / name

    def _wait(self, work: concurrent.futures.Future[Any]) -> Any:
        """The result of work that may take long, unless the process is told to end meanwhile."""
        while True:
            try:
                return work.result(0.2)
            except concurrent.futures.TimeoutError:
                if work.done():
                    raise
                if not self.context.ok():
                    raise InterruptedError("interrupted") from None

    # Transitions

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, restore the memory, open services and action."""
        get = self._settings.__getitem__
        settings = Settings(
            preset=get("preset"),
            weights=get("weights"),
            random_weights=get("random_weights"),
            device=get("device"),
            dtype=get("dtype"),
            threads=get("threads"),
            max_bytes=get("memory.max_bytes"),
            vertical_fov=get("imagine.vertical_fov"),
            depth_estimator=get("perception.depth"),
            dynamic_filter=get("perception.filter"),
            observed_depth=get("observation.estimator") if get("observation.depth") == "estimated" else "",
            observed_depth_weights=get("observation.estimator_weights"),
        )
        start = time.monotonic()
        self._worker = Worker(f"{self.get_name()} worker", get("queue.calls"), get("queue.jobs"))
        try:
            self._engine = self._wait(self._worker.call(lambda: Engine(settings)))
        except Exception as error:
            self.get_logger().error(f"configure: {error}")
            self._health.failure = str(error)
            self._free()
            return TransitionCallbackReturn.FAILURE
        # Looked for here, because trying it out takes a second.
        cv_bridge_converter()
        self._keeper = Keeper(
            self._engine, self._worker, self.folder, lambda reason: self._health.event("memory.autosave", reason)
        )
        if get("memory.restore"):
            outcome = self._keeper.restore()
            if outcome:
                self.get_logger().info(outcome)
        if get("imagine.prompt"):
            try:
                self._engine.set_prompt(get("imagine.prompt"))
            except ValueError as error:
                self.get_logger().error(f"configure: imagine.{error}")
                self._free()
                return TransitionCallbackReturn.FAILURE
        self._requests = Services(
            self, self._engine, self._worker, self.folder, get("world_frame"), self._give_up, self._observe_next
        )
        self._action = ImagineAction(self, lambda: self._active, self._limits)
        world = self._engine.world
        self.get_logger().info(
            f"{world.preset.name} {world.width}x{world.height} on {world.device} loaded in "
            f"{time.monotonic() - start:.1f} s; memory of {len(self._engine.memory)} elements"
        )
        self._state, self._health.failure = "inactive", ""
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Open the topics and start to work."""
        assert self._engine is not None
        assert self._worker is not None
        assert self._keeper is not None
        get = self._settings.__getitem__
        base_from_body = extrinsics(*(get(f"extrinsics.{name}") for name in ("x", "y", "z", "roll", "pitch", "yaw")))
        frames = FrameIds(self, get("world_frame"), base_from_body, get("use_tf"), get("base_frame"))
        if get("observation.pose") == "tf" and not frames.has_tf:
            self._health.failure = "observation.pose is tf, but tf2_ros is not installed or use_tf is off"
            self.get_logger().error(f"activate: {self._health.failure}")
            frames.close()
            return TransitionCallbackReturn.FAILURE
        outputs = Outputs(
            self,
            world_frame=get("world_frame"),
            imagined_frame=get("imagined_frame"),
            reliability=get("output.reliability"),
            depth_encoding=get("output.depth_encoding"),
            jpeg_quality=lambda: self._now("output.jpeg_quality"),
            events=self._health.publisher_events,
        )
        self._active = Active(self._engine, self._worker, outputs, frames)
        self._commands = Commands(self._engine, self._worker, outputs, self._options, self._health.refuse)
        self._grounding = Grounding(
            self._active,
            self._settings,
            self._now,
            lambda: self.get_clock().now().nanoseconds,
            self._health.refuse,
            self._health.event,
        )
        now, health, world_frame = self._now, self._health, get("world_frame")
        self._inputs = Inputs(self, self._active, self._commands, self._grounding, self._settings, now, health)
        self._rounds = Rounds(
            self,
            self._steady,
            self._active,
            self._commands,
            self._grounding,
            self._keeper,
            now,
            health,
            world_frame,
            get("status.rate"),
        )
        self._state, self._health.failure = "active", ""
        self.get_logger().info(f"active; camera frames on {self.resolve_topic_name('image')}")
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop all work and close the topics."""
        self._close_topics()
        self._state = "inactive"
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free model and memory; an automatic save keeps what was remembered."""
        self._free()
        self._state = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End everything from any state."""
        self._close_topics()
        self._free()
        self._state = "finalized"
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """A transition failed unexpectedly: back to unconfigured, so that it can be tried again."""
        self._close_topics()
        self._free()
        self._state = "unconfigured"
        return TransitionCallbackReturn.SUCCESS

    def destroy_node(self) -> None:
        """Also end the worker's thread."""
        self._close_topics()
        self._free()
        super().destroy_node()

    def _close_topics(self) -> None:
        active, self._active = self._active, None
        if active is None:
            return
        for part in (self._inputs, self._rounds):
            if part is not None:
                part.close()
        self._inputs = self._rounds = None
        if self._grounding is not None:
            self._grounding.close()
            self._grounding = None
        if self._commands is not None:
            self._commands.clear()
            self._commands = None
        # After this nobody publishes any more.
        active.worker.settle()
        active.outputs.close()
        active.frames.close()

    def _free(self) -> None:
        if self._requests is not None:
            self._requests.close()
        if self._action is not None:
            self._action.close()
        if self._worker is not None:
            if self._keeper is not None and self._now("memory.autosave") > 0:
                self._keeper.finish()
            ended = self._worker.close(CLOSE_TIMEOUT if self.context.ok() else INTERRUPTED_TIMEOUT)
            if not ended and self.context.ok():
                self.get_logger().warning("the worker is still busy with something that cannot be interrupted")
        self._requests = self._action = self._worker = self._engine = self._keeper = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    # What the parts ask of the node

    def _give_up(self) -> None:
        """Before the memory is replaced: what builds on it ends."""
        if self._commands is not None:
            self._commands.clear()
        if self._worker is not None:
            self._worker.cancel_jobs()

    def _observe_next(self) -> concurrent.futures.Future[int]:
        if self._grounding is None:
            raise ValueError("the node is not active")
        return self._grounding.observe_next()

    def _options(self) -> Options:
        names = ("seed", "steps", "remember", "pause")
        return Options(**{name: self._now(f"imagine.{name}") for name in names})

    def _limits(self) -> Limits:
        assert self._engine is not None
        names = ("max_frames", "max_candidates", "max_distance", "steps", "batch")
        return Limits(**{name: self._now(f"imagine.{name}") for name in names}, fps=self._engine.world.preset.fps)

    def _diagnose(self) -> None:
        engine, worker = self._engine, self._worker
        self._diagnostics.publish(
            self._health.diagnostics(
                self._state,
                None if engine is None else engine.snapshot,
                0 if worker is None else worker.backlog,
                () if engine is None else engine.notes,
            )
        )


def start(node: MirageNode) -> bool:
    """Configure and activate; whether both succeeded."""
    done = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == done and node.trigger_activate() == done


def main() -> None:
    """Run the node until it is interrupted."""
    run("mirage", MirageNode, lambda node: not node.get_parameter("autostart").value or start(node))


if __name__ == "__main__":
    main()
