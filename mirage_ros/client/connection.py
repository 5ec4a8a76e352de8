"""A connection to one node: goals, previews, camera frames and the memory's services."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any

import numpy as np
import rclpy
import torch
from numpy.typing import NDArray
from rclpy.action import ActionClient
from rclpy.executors import ExternalShutdownException, ShutdownException, SingleThreadedExecutor
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.action import Imagine
from mirage_ros.client.goal import Goal
from mirage_ros.client.results import Imagination, MirageError, PreviewFrame, imagination_of
from mirage_ros.geometry import Camera
from mirage_ros.msg import Candidate, MemoryStatus
from mirage_ros.ros.conversions import (
    camera_from_info,
    camera_to_info,
    depth_from_metres,
    image_to_numpy,
    numpy_to_image,
    pose_to_stamped,
    poses_to_path,
    stamp_from_ns,
)
from mirage_ros.ros.node_parameters import POSES_OF
from mirage_ros.ros.topics import ACTIONS, SERVICES, topic

Poses = NDArray[np.floating] | Tensor
# Seconds between repetitions of a camera frame that the node has not taken yet.
REPEAT = 1.0


class Mirage:
    """A connection to one node `mirage`. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        namespace: str = "",
        *,
        timeout: float = 30.0,
        connect_timeout: float | None = None,
        world_frame: str = "map",
    ) -> None:
        """Connect and wait until the node is active.

        Args:
            namespace: of the node.
            timeout: seconds that any request may take, unless it says otherwise; imagining has no limit by default.
            connect_timeout: seconds to wait for the node; the same by default.
            world_frame: frame of all poses.

        Raises:
            TimeoutError: no active node was found; says what was.
        """
        self._timeout, self._world_frame = timeout, world_frame
        self._prefix = f"/{namespace.strip('/')}/" if namespace.strip("/") else "/"
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        # Several clients may run at once; a name of its own each keeps ROS tools from mixing them up.
        self._node = rclpy.create_node(f"mirage_client_{time.monotonic_ns() % 10**9}", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._status: MemoryStatus | None = None
        self._status_changed = threading.Condition()
        self._closing = False
        self._goals: set[Goal] = set()
        self._publishers: dict[str, Any] = {}
        self._previews: dict[str, list[Any]] = {}
        self._preview_lock, self._preview_changed = threading.Lock(), threading.Condition()
        status = topic("memory/status")
        self._node.create_subscription(status.kind, self._prefix + status.name, self._on_status, status.qos())
        self._action: Any = ActionClient(self._node, Imagine, self._prefix + ACTIONS[0][0])
        self._services: dict[str, Any] = {
            name: self._node.create_client(kind, self._prefix + name) for name, kind, _ in SERVICES
        }
        self._thread = threading.Thread(target=self._spin, name="mirage client", daemon=True)
        self._thread.start()
        try:
            self._wait_until_active(timeout if connect_timeout is None else connect_timeout)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Cancel what is under way and disconnect."""
        self.cancel()
        self._closing = True
        self._executor.shutdown(timeout_sec=5.0)
        self._thread.join(5.0)
        self._action.destroy()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)

    def __enter__(self) -> Mirage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Imagining

    def start(
        self,
        candidates: Sequence[Poses],
        *,
        labels: Sequence[str] | None = None,
        frame_id: str = "",
        pose_of: str = "optical",
        prompt: str = "",
        seed: int = 0,
        steps: int = 0,
        remember: bool = False,
        frames: bool = True,
        on_feedback: Callable[[Any], None] | None = None,
    ) -> Goal:
        """Begin to imagine; see `imagine`. The goal can be awaited, asked for its result, and cancelled."""
        if pose_of not in POSES_OF:
            raise ValueError(f"pose_of: expected one of {', '.join(POSES_OF)}, got {pose_of!r}")
        names = [""] * len(candidates) if labels is None else list(labels)
        if len(names) != len(candidates):
            raise ValueError(f"labels: expected {len(candidates)}, one for each candidate, got {len(names)}")
        header = Header(frame_id=frame_id or self._world_frame)
        goal = Imagine.Goal(
            candidates=[
                Candidate(path=poses_to_path(torch.as_tensor(poses).double(), header), label=name)
                for poses, name in zip(candidates, names, strict=True)
            ],
            pose_of=POSES_OF.index(pose_of),
            prompt=prompt,
            seed=seed,
            steps=steps,
            remember=remember,
            return_frames=frames,
        )
        running = Goal(sum(map(len, candidates)))
        self._goals.add(running)
        running.future.add_done_callback(lambda _: self._goals.discard(running))

        def finished(future: Any) -> None:
            try:
                answer = future.result()
                running.future.set_result(imagination_of(answer.result, answer.status))
            except BaseException as error:
                running.future.set_exception(error)

        def accepted(future: Any) -> None:
            handle = future.result()
            if not handle.accepted:
                running.future.set_exception(MirageError("imagine: the node did not accept the goal"))
                return
            running.accepted(handle)
            handle.get_result_async().add_done_callback(finished)

        def feedback(message: Any) -> None:
            if on_feedback is not None:
                on_feedback(message.feedback)

        self._action.send_goal_async(goal, feedback_callback=feedback).add_done_callback(accepted)
        return running

    def imagine(self, candidates: Sequence[Poses], *, timeout: float | None = None, **options: Any) -> Imagination:
        """Imagine the views along one or several trajectories.

        Args:
            candidates: (T, 4, 4) poses each.
            timeout: seconds; the goal is cancelled when they have passed. None waits as long as it takes.
            options: `labels` that come back with the results; `frame_id` of the poses (the world frame by default);
                `pose_of` ('optical', 'body' or 'base'); `prompt`; `seed` (-1 draws one); `steps` (0: the node's);
                `remember` (a single candidate only); `frames` (False leaves the pixels out); `on_feedback`, called
                with mirage_ros/action/Imagine feedback in the client's thread.

        Raises:
            TimeoutError: time is up.
            ImaginationCancelled: `cancel` was called.
            MirageError: the node refused the goal or failed; says why.
        """
        goal = self.start(candidates, **options)
        try:
            return goal.result(timeout)
        except (TimeoutError, KeyboardInterrupt):
            goal.cancel()
            raise

    async def imagine_async(self, candidates: Sequence[Poses], **options: Any) -> Imagination:
        """`imagine` for asyncio; cancelling the task cancels the goal."""
        goal = self.start(candidates, **options)
        try:
            return await goal
        except asyncio.CancelledError:
            goal.cancel()
            raise

    def cancel(self) -> None:
        """Cancel every goal of this client that is under way."""
        for goal in list(self._goals):
            goal.cancel()

    def preview(self, pose: Poses, timeout: float | None = None) -> PreviewFrame:
        """What the memory knows of the view from one (4, 4) optical pose, without inventing anything.

        Raises:
            TimeoutError: the node did not answer.
        """
        limit = time.monotonic() + (timeout or self._timeout)
        with self._preview_lock:
            self._listen_to_previews(limit)
            stamp = stamp_from_ns(self._node.get_clock().now().nanoseconds)
            key = f"{stamp.sec}.{stamp.nanosec:09d}"
            matrix = torch.as_tensor(pose).double()
            header = Header(stamp=stamp, frame_id=self._world_frame)
            with self._preview_changed:
                self._previews.clear()
                self._publishers["preview/pose"].publish(pose_to_stamped(matrix, header))
                while len(self._previews.get(key, [])) < 3:
                    if not self._preview_changed.wait(max(limit - time.monotonic(), 0)):
                        raise TimeoutError("preview: the node did not answer; has it seen a camera frame?")
                parts = dict(self._previews[key])
        return PreviewFrame(
            image_to_numpy(parts["preview/image"], "rgb8"),
            image_to_numpy(parts["preview/visibility"]),
            camera_from_info(parts["preview/camera_info"], matrix),
        )

    # The memory

    def observe(
        self,
        rgb: NDArray[np.uint8],
        depth: NDArray[np.floating] | None,
        camera: Camera,
        timeout: float | None = None,
    ) -> str:
        """Show the node a camera frame, whatever its observation.rate says, and wait until it is in the memory.

        Args:
            rgb: (H, W, 3) uint8.
            depth: (H, W) metres; None where the node estimates it (observation.depth).
            camera: single, with its pose.
            timeout: seconds.

        Returns:
            What the node says of it.

        Raises:
            TimeoutError, MirageError: it did not take the frame.
        """
        limit = time.monotonic() + (timeout or self._timeout)
        stamp = stamp_from_ns(self._node.get_clock().now().nanoseconds)
        optics, world = Header(stamp=stamp, frame_id="camera"), Header(stamp=stamp, frame_id=self._world_frame)
        messages = {
            "camera_pose": pose_to_stamped(camera.cam2world.double().cpu(), world),
            "camera_info": camera_to_info(camera, optics),
            "image": numpy_to_image(rgb, "rgb8", optics),
        }
        if depth is not None:
            messages["depth"] = depth_from_metres(np.asarray(depth), header=optics)
        for name in messages:
            self._publisher(name)
        self._wait_for(lambda: all(self._publishers[name].get_subscription_count() for name in messages), limit)
        answer = self._call("observe")
        while True:
            for name, message in messages.items():
                self._publishers[name].publish(message)
            try:
                return str(
                    self._checked("observe", answer.result(min(REPEAT, max(limit - time.monotonic(), 0)))).message
                )
            except FutureTimeout:
                # The frame may have come before the request.
                if time.monotonic() >= limit:
                    raise TimeoutError("observe: the node did not take the camera frame") from None

    def observe_next(self) -> str:
        """Have the node write its camera's next frame, whatever its observation.rate says; what it says of it."""
        return str(self._ask("observe").message)

    def status(self, timeout: float | None = None) -> MemoryStatus:
        """The newest mirage_ros/MemoryStatus.

        Raises:
            TimeoutError: none came.
        """
        with self._status_changed:
            if not self._status_changed.wait_for(lambda: self._status is not None, timeout or self._timeout):
                raise TimeoutError(f"status: nothing on {self._prefix}memory/status")
        assert self._status is not None
        return self._status

    def reset(self, keep_observations: bool = False) -> int:
        """Forget everything, or only what was imagined; the number of elements removed."""
        return int(self._ask("reset", keep_observations=keep_observations).removed)

    def save_memory(self, path: str) -> str:
        """Save to a file below the node's memory.folder; its absolute path there."""
        return str(self._ask("save_memory", path=path).path)

    def load_memory(self, path: str) -> int:
        """Load a file from the node's memory.folder; the number of elements."""
        return int(self._ask("load_memory", path=path).elements)

    def export_cloud(self, path: str, min_confidence: float = 0.0) -> str:
        """Write a PLY below the node's memory.folder; its absolute path there."""
        return str(self._ask("export_cloud", path=path, min_confidence=min_confidence).path)

    def set_prompt(self, prompt: str) -> None:
        """Text that conditions what is imagined from the next chunk on."""
        self._ask("set_prompt", prompt=prompt)

    # Plumbing

    def _spin(self) -> None:
        while self._context.ok():
            try:
                self._executor.spin()
            except (ExternalShutdownException, ShutdownException):
                return
            except Exception as error:
                # A fault in somebody's callback must not leave every later request without an answer.
                if self._context.ok():
                    self._node.get_logger().error(f"mirage client: {type(error).__name__}: {error}")
            if self._closing:
                return

    def _on_status(self, message: MemoryStatus) -> None:
        with self._status_changed:
            self._status = message
            self._status_changed.notify_all()

    def _wait_until_active(self, timeout: float) -> None:
        limit = time.monotonic() + timeout
        try:
            self._wait_for(
                lambda: self._action.server_is_ready() and all(c.service_is_ready() for c in self._services.values()),
                limit,
            )
        except TimeoutError:
            raise TimeoutError(
                f"mirage: no node offers {self._prefix}imagine within {timeout:g} s; is it started and "
                "configured, and are ROS_DOMAIN_ID, namespace and MIRAGE_ROS_NETWORK the same?"
            ) from None
        try:
            self.status(max(limit - time.monotonic(), 0.1))
        except TimeoutError:
            raise TimeoutError(
                f"mirage: the node at {self._prefix} is there but not active; activate it, or set autostart"
            ) from None

    def _wait_for(self, condition: Callable[[], Any], limit: float) -> None:
        while not condition():
            if time.monotonic() > limit:
                raise TimeoutError("mirage: the node did not answer in time")
            time.sleep(0.01)

    def _publisher(self, name: str) -> Any:
        if name not in self._publishers:
            row = topic(name)
            # Reliable, whatever the node asks for: it hears both.
            self._publishers[name] = self._node.create_publisher(row.kind, self._prefix + name, row.qos("reliable"))
        return self._publishers[name]

    def _listen_to_previews(self, limit: float) -> None:
        names = ("preview/image", "preview/visibility", "preview/camera_info")
        if "preview/pose" not in self._publishers:
            for name in names:
                row = topic(name)
                self._node.create_subscription(
                    row.kind,
                    self._prefix + name,
                    lambda message, name=name: self._on_preview(name, message),
                    row.qos(output="best_effort"),
                )
        publisher = self._publisher("preview/pose")
        self._wait_for(
            lambda: (
                publisher.get_subscription_count() and all(self._node.count_publishers(self._prefix + n) for n in names)
            ),
            limit,
        )

    def _on_preview(self, name: str, message: Any) -> None:
        stamp = message.header.stamp
        with self._preview_changed:
            self._previews.setdefault(f"{stamp.sec}.{stamp.nanosec:09d}", []).append((name, message))
            self._preview_changed.notify_all()

    def _call(self, service: str, **fields: Any) -> Future[Any]:
        client = self._services[service]
        answer: Future[Any] = Future()
        request = client.srv_type.Request(**fields)
        client.call_async(request).add_done_callback(lambda done: answer.set_result(done.result()))
        return answer

    def _ask(self, service: str, **fields: Any) -> Any:
        try:
            return self._checked(service, self._call(service, **fields).result(self._timeout))
        except FutureTimeout:
            raise TimeoutError(f"{service}: no answer within {self._timeout:g} s") from None

    @staticmethod
    def _checked(service: str, response: Any) -> Any:
        if not response.success:
            raise MirageError(f"{service}: {response.message}")
        return response
