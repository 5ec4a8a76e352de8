"""Lifecycle node `mirage`: camera frames and pose commands in, imagined frames and the memory's cloud out.

configure loads the model and opens services and action, activate opens the topics, deactivate stops all work and closes
them, cleanup frees model and memory. Topics, services and parameters are listed in docs/node.md.
"""

from __future__ import annotations

import concurrent.futures
import os
import sys
import time
import traceback
from pathlib import Path as FilePath
from typing import Any

from mirage_ros.ros.dds import use_default_profile

use_default_profile()

import rclpy  # noqa: E402  (the DDS profile must be chosen first)
import torch  # noqa: E402
from rclpy.clock import Clock, ClockType  # noqa: E402
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor  # noqa: E402
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn  # noqa: E402
from rclpy.utilities import remove_ros_args  # noqa: E402
from std_msgs.msg import Header  # noqa: E402
from torch import Tensor  # noqa: E402

from mirage_ros.ros.commands import Commands, Options  # noqa: E402
from mirage_ros.ros.conversions import path_to_poses, pose_from_stamped  # noqa: E402
from mirage_ros.ros.conversions.colours import cv_bridge_converter  # noqa: E402
from mirage_ros.ros.engine import Engine, Settings  # noqa: E402
from mirage_ros.ros.frame_ids import FrameIds, extrinsics  # noqa: E402
from mirage_ros.ros.grounding import Grounding  # noqa: E402
from mirage_ros.ros.health import Health, memory_status  # noqa: E402
from mirage_ros.ros.imagine_action import Active, ImagineAction, Limits, check_poses, frame_stamps  # noqa: E402
from mirage_ros.ros.keeper import Keeper  # noqa: E402
from mirage_ros.ros.node_parameters import PARAMETERS  # noqa: E402
from mirage_ros.ros.outputs import Outputs  # noqa: E402
from mirage_ros.ros.parameters import declare  # noqa: E402
from mirage_ros.ros.services import MAX_PROMPT, Services  # noqa: E402
from mirage_ros.ros.topics import INPUTS, topic  # noqa: E402
from mirage_ros.ros.worker import BusyError, Worker  # noqa: E402

# Seconds between looks at streams, camera frames that wait for their pose, clouds and automatic saves.
TICK = 0.05
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
        self._entities: list[Any] = []
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
        self._last_cloud = (-1, 0.0)
        self._subscribe()
        self._entities += [
            self.create_timer(TICK, self._tick, clock=self._steady),
            self.create_timer(1 / get("status.rate"), self._report, clock=self._steady),
        ]
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

    def _subscribe(self) -> None:
        get = self._settings.__getitem__
        compressed = get("observation.transport") == "compressed"
        absent = {"image" if compressed else "image/compressed"}
        if get("observation.depth") != "topic":
            absent.add("depth")
        if get("observation.pose") != "topic":
            absent.add("camera_pose")
        for row in INPUTS:
            if row.name in absent:
                continue
            name = row.name.partition("/")[0] if row.name == "image/compressed" else row.name
            handler = getattr(self, f"_on_{name.replace('/', '_')}", None)
            self._entities.append(
                self.create_subscription(
                    row.kind,
                    row.name,
                    lambda message, name=name, handler=handler: self._receive(name, handler, message),
                    row.qos(camera=get("observation.reliability")),
                    event_callbacks=self._health.subscription_events(name),
                )
            )
        camera = {row.name for row in INPUTS} - absent - {"pose", "preview/pose", "path", "prompt", "image/compressed"}
        self._health.expect(*sorted(camera | {"image"}) if self._now("observation.enabled") else ())

    def _close_topics(self) -> None:
        active, self._active = self._active, None
        if active is None:
            return
        for entity in self._entities:
            destroy = self.destroy_timer if hasattr(entity, "timer_period_ns") else self.destroy_subscription
            destroy(entity)
        self._entities.clear()
        self._health.expect()
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

    # Messages

    def _receive(self, name: str, handler: Any, message: Any) -> None:
        """Every message passes here: what is wrong with it becomes a diagnostic, never an exception in the executor."""
        self._health.heard(name)
        if self._active is None:
            return
        try:
            if handler is not None:
                handler(message)
            elif self._grounding is not None:
                self._grounding.add(name, message)
        except (ValueError, TypeError, OverflowError, BusyError) as error:
            self._health.refuse(name, str(error))
        except Exception as error:
            # A fault of this package; the robot should not lose the node for it.
            self.get_logger().error(f"{name}: {traceback.format_exc()}", throttle_duration_sec=10.0)
            self._health.refuse(name, f"{type(error).__name__}: {error}")

    def _on_camera_pose(self, message: Any) -> None:
        if self._grounding is not None:
            self._grounding.pose(message)

    def _on_pose(self, message: Any) -> None:
        assert self._commands is not None
        self._commands.pose(*self._command(message, "pose"))

    def _on_preview_pose(self, message: Any) -> None:
        assert self._commands is not None
        self._commands.preview(*self._command(message, "preview/pose"), "preview/pose")

    def _command(self, message: Any, name: str) -> tuple[Tensor, int]:
        assert self._active is not None
        pose, frame, stamp = pose_from_stamped(message, name)
        pose = self._active.frames.optical(pose, frame, self._settings["pose_of"], stamp, name)
        check_poses(pose[None], self._now("imagine.max_distance"), name)
        return pose, stamp or self.get_clock().now().nanoseconds

    def _on_path(self, message: Any) -> None:
        assert self._active is not None
        assert self._commands is not None
        if len(message.poses) > self._now("imagine.max_frames"):
            limit = self._now("imagine.max_frames")
            raise ValueError(f"path.poses: expected at most {limit} (imagine.max_frames), got {len(message.poses)}")
        poses, frame, stamps = path_to_poses(message)
        poses = self._active.frames.optical(poses, frame, self._settings["pose_of"], stamps[0], "path")
        check_poses(poses, self._now("imagine.max_distance"), "path")
        now, fps = self.get_clock().now().nanoseconds, self._active.engine.world.preset.fps
        self._commands.path(poses, frame_stamps(stamps, now, fps, "path"))

    def _on_prompt(self, message: Any) -> None:
        assert self._active is not None
        if len(message.data) > MAX_PROMPT:
            raise ValueError(f"prompt: expected at most {MAX_PROMPT} characters, got {len(message.data)}")
        engine = self._active.engine

        def done(future: Any) -> None:
            if not future.cancelled() and future.exception() is not None:
                self._health.refuse("prompt", str(future.exception()))

        self._active.worker.call(lambda: engine.set_prompt(message.data), slot="prompt").add_done_callback(done)

    # Regular work

    def _tick(self) -> None:
        commands, grounding, keeper = self._commands, self._grounding, self._keeper
        if commands is None or grounding is None or keeper is None:
            return
        commands.pump()
        try:
            grounding.pump()
        except (ValueError, BusyError) as error:
            self._health.refuse("image", str(error))
        grounding.expire()
        try:
            self._publish_cloud(time.monotonic())
            if keeper.due(self._now("memory.autosave")):
                keeper.save()
        except BusyError as error:
            self._health.event("queue", str(error))

    def _publish_cloud(self, now: float) -> None:
        assert self._active is not None
        engine, outputs = self._active.engine, self._active.outputs
        changes, last = engine.snapshot.changes, self._last_cloud
        period = 1 / self._now("memory.cloud_rate")
        if changes == last[0] or now - last[1] < period or not outputs.wanted("memory/points"):
            return
        self._last_cloud = (changes, now)
        stamp, limit = self.get_clock().now().nanoseconds, self._now("memory.cloud_points")
        self._active.worker.call(lambda: outputs.cloud(engine.cloud(limit), stamp), slot="cloud")

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

    def _report(self) -> None:
        if self._active is None or self._commands is None:
            return
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._settings["world_frame"])
        worker = self._active.worker
        dropped = worker.dropped + self._commands.dropped
        message = memory_status(self._active.engine.snapshot, header, worker.backlog, dropped)
        self._active.outputs.publish("memory/status", message)

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


def main() -> None:
    """Run the node until it is interrupted."""
    try:
        rclpy.init()
        unknown = remove_ros_args(sys.argv)[1:]
        if unknown:
            raise ValueError(f"arguments: expected --ros-args -p name:=value, got {' '.join(unknown)}")
        node = MirageNode()
    except (ValueError, RuntimeError) as error:
        rclpy.try_shutdown()
        sys.exit(f"mirage: {error}")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    failed = False
    try:
        if node.get_parameter("autostart").value:
            failed = not start(node)
        if not failed:
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
    if failed:
        sys.exit("mirage: could not be started, see above")


def start(node: MirageNode) -> bool:
    """Configure and activate; whether both succeeded."""
    done = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == done and node.trigger_activate() == done


if __name__ == "__main__":
    main()
