"""A connection to one node: goals, previews, camera frames and the memory's services."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from types import TracebackType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.action import Imagine
from mirage_ros.client.arguments import flag, one_of, real, text, whole
from mirage_ros.client.goal import Goal
from mirage_ros.client.link import Link, checked, wait_for
from mirage_ros.client.queries import Grid, Grids, Previews, ask_scores
from mirage_ros.client.results import Imagination, MirageError
from mirage_ros.geometry import Camera
from mirage_ros.msg import Candidate, MemoryStatus
from mirage_ros.occupancy.prospects import ViewScore
from mirage_ros.rgbd import ImaginedFrame, check_pixels
from mirage_ros.ros.conversions import (
    camera_to_info,
    depth_from_metres,
    numpy_to_image,
    pose_to_stamped,
    poses_to_path,
    stamp_from_ns,
)
from mirage_ros.ros.parameters import MAX_SEED, POSES_OF, UNSEEN_OF

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
        self._goals: set[Goal] = set()
        self._link = Link(namespace, timeout if connect_timeout is None else connect_timeout)
        self._previews, self._grids = Previews(self._link), Grids(self._link)

    def close(self) -> None:
        """Cancel what is under way and disconnect; whoever still waits for a result gets a `MirageError`."""
        self.cancel()
        self._link.close()
        for goal in list(self._goals):
            goal.fail(MirageError("imagine: the client was closed before the result came"))

    def __enter__(self) -> Mirage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _limit(self, timeout: float | None) -> float:
        return time.monotonic() + (timeout or self._timeout)

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
        unseen: str = "parameter",
        remember: bool = False,
        frames: bool = True,
        on_feedback: Callable[[Any], None] | None = None,
    ) -> Goal:
        """Begin to imagine; see `imagine`. The goal can be awaited, asked for its result, and cancelled."""
        kind, choice = one_of("pose_of", pose_of, POSES_OF), one_of("unseen", unseen, UNSEEN_OF)
        names = [""] * len(candidates) if labels is None else [text("labels", label) for label in labels]
        if len(names) != len(candidates):
            raise ValueError(f"labels: expected {len(candidates)}, one for each candidate, got {len(names)}")
        header = Header(frame_id=text("frame_id", frame_id) or self._world_frame)
        goal = Imagine.Goal(
            candidates=[
                Candidate(path=poses_to_path(torch.as_tensor(poses).double(), header), label=name)
                for poses, name in zip(candidates, names, strict=True)
            ],
            pose_of=kind,
            prompt=text("prompt", prompt),
            seed=whole("seed", seed, -1, MAX_SEED),
            steps=whole("steps", steps, 0, 2**16 - 1),
            unseen=choice,
            remember=flag("remember", remember),
            return_frames=flag("frames", frames),
        )
        running = Goal(sum(map(len, candidates)), self._link.forget_status if remember else None)
        self._goals.add(running)
        running.future.add_done_callback(lambda _: self._goals.discard(running))

        def feedback(message: Any) -> None:
            if on_feedback is not None:
                on_feedback(message.feedback)

        self._link.action.send_goal_async(goal, feedback_callback=feedback).add_done_callback(running.answered)
        return running

    def imagine(self, candidates: Sequence[Poses], *, timeout: float | None = None, **options: Any) -> Imagination:
        """Imagine the views along one or several trajectories.

        Args:
            candidates: (T, 4, 4) poses each.
            timeout: seconds; the goal is cancelled when they have passed. None waits as long as it takes.
            options: `labels` that come back with the results; `frame_id` of the poses (the world frame by default);
                `pose_of` ('optical', 'body' or 'base'); `prompt`; `seed` (-1 draws one); `steps` (0: the node's);
                `unseen` ('mean' or 'sample', else the node's parameter); `remember` (a single candidate only);
                `frames` (False leaves the pixels out); `on_feedback`, called with mirage_ros/action/Imagine feedback in
                the client's thread.

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

    def preview(self, pose: Poses, timeout: float | None = None) -> ImaginedFrame:
        """What the memory knows of the view from one (4, 4) optical pose, without inventing anything.

        Returns:
            A single frame without depth, its rgb dark grey where nothing is known.

        Raises:
            TimeoutError: the node did not answer.
        """
        return self._previews.ask(torch.as_tensor(pose).double(), self._world_frame, self._limit(timeout))

    def score_views(
        self,
        paths: Sequence[Poses],
        *,
        frame_id: str = "",
        pose_of: str = "optical",
        imagine: bool = False,
        seed: int = 0,
        radius: float = 0.0,
        goal: NDArray[np.uint8] | None = None,
        timeout: float | None = None,
    ) -> list[ViewScore]:
        """What views or paths are worth, all in one request; errors as by `imagine`.

        Of a path that leaves the node's map, area, information, clearance and collision are NaN.

        Args:
            paths: (T, 4, 4) poses each; (4, 4) for a view.
            frame_id, pose_of, timeout: see `imagine`.
            imagine: imagine each first, rather than look at the readout and the maps alone.
            seed: of what is imagined.
            radius: of the robot, metres.
            goal: (H, W, 3) uint8 picture of what is looked for; cut to the shape of the views, see docs/planner.md.
        """
        header, limit = Header(frame_id=frame_id or self._world_frame), timeout or self._timeout
        return ask_scores(self._link, limit, paths, header, pose_of, goal, imagine, seed, radius)

    def occupancy(self, imagined: bool = False, timeout: float | None = None) -> Grid:
        """The newest grid of what was observed, or of what is imagined beside it; a TimeoutError if none came."""
        return self._grids.newest("imagined/occupancy" if imagined else "memory/occupancy", self._limit(timeout))

    # The memory

    def observe(
        self, rgb: NDArray[np.uint8], depth: NDArray[np.floating] | None, camera: Camera, timeout: float | None = None
    ) -> str:
        """Show the node a camera frame, whatever its observation.rate says, and wait until it is in the memory.

        Args:
            rgb: (H, W, 3) uint8.
            depth: (H, W) metres, +inf where too far to measure, 0 or NaN where unknown; None where the node estimates
                it (observation.depth).
            camera: single, with its pose.
            timeout: seconds.

        Returns:
            What the node says of it.

        Raises:
            ValueError: image and camera are not of one size.
            TimeoutError, MirageError: it did not take the frame.
        """
        check_pixels("rgb", np.asarray(rgb), (camera.height, camera.width, 3), np.uint8)
        limit = self._limit(timeout)
        stamp = stamp_from_ns(self._link.now())
        optics, world = Header(stamp=stamp, frame_id="camera"), Header(stamp=stamp, frame_id=self._world_frame)
        messages = {
            "camera_pose": pose_to_stamped(camera.cam2world.double().cpu(), world),
            "camera_info": camera_to_info(camera, optics),
            "image": numpy_to_image(rgb, "rgb8", optics),
        }
        if depth is not None:
            messages["depth"] = depth_from_metres(np.asarray(depth), header=optics)
        publishers = {name: self._link.publisher(name) for name in messages}
        wait_for(lambda: all(publisher.get_subscription_count() for publisher in publishers.values()), limit)
        answer = self._link.call("observe")
        try:
            while True:
                for name, message in messages.items():
                    publishers[name].publish(message)
                try:
                    return str(checked("observe", answer.result(min(REPEAT, max(limit - time.monotonic(), 0)))).message)
                except FutureTimeout:
                    # The frame may have come before the request.
                    if time.monotonic() >= limit:
                        raise TimeoutError("observe: the node did not take the camera frame") from None
        finally:
            answer.cancel()

    def listen(self, topic: str, callback: Callable[[Any], None], at: str = "") -> None:
        """Call back in the client's thread with each message of one of the node's topics; a KeyError for any other.

        Args:
            topic: its name as docs/node.md has it.
            callback: gets the messages.
            at: its name where it is remapped, relative to the node's namespace.
        """
        self._link.listen(topic, callback, at)

    def observe_next(self) -> str:
        """Have the node write its camera's next frame, whatever its observation.rate says; what it says of it."""
        return str(self._link.ask("observe", self._timeout).message)

    def status(self, timeout: float | None = None) -> MemoryStatus:
        """The newest mirage_ros/MemoryStatus; a TimeoutError if none came."""
        return self._link.status(self._limit(timeout))

    def reset(self, keep_observations: bool = False) -> int:
        """Forget everything, or only what was imagined; the number of elements removed."""
        return int(self._link.ask("reset", self._timeout, keep_observations=keep_observations).removed)

    def save_memory(self, path: str) -> str:
        """Save to a file below the node's memory.folder; its absolute path there."""
        return str(self._link.ask("save_memory", self._timeout, path=path).path)

    def load_memory(self, path: str) -> int:
        """Load a file from the node's memory.folder; the number of elements."""
        return int(self._link.ask("load_memory", self._timeout, path=path).elements)

    def export_cloud(self, path: str, min_confidence: float = 0.0) -> str:
        """Write a PLY below the node's memory.folder; its absolute path there."""
        least = real("min_confidence", min_confidence)
        return str(self._link.ask("export_cloud", self._timeout, path=path, min_confidence=least).path)

    def set_prompt(self, prompt: str) -> None:
        """Text that conditions what is imagined from the next chunk on."""
        self._link.ask("set_prompt", self._timeout, prompt=prompt)
