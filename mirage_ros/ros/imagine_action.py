"""The action `imagine`: candidate trajectories, feedback for each chunk, cancelling, results."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import torch
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from torch import Tensor

from mirage_ros.action import Imagine
from mirage_ros.msg import ImaginedTrajectory
from mirage_ros.ros.commanding import draw_seed, padded, rolling
from mirage_ros.ros.conversions import camera_to_info, numpy_to_image, path_to_poses
from mirage_ros.ros.futures import awaitable
from mirage_ros.ros.model_session import Engine
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.requests import Rollout
from mirage_ros.ros.transforms import FrameIds
from mirage_ros.ros.work_queue import BusyError, Job, Worker
from mirage_ros.world.results import Cancelled, ImaginedChunk, Progress

MAX_LABEL = 1000
MAX_PROMPT = 4000


@dataclass(frozen=True)
class Limits:
    """What goals may ask for; the parameters imagine.* at this moment."""

    max_frames: int
    max_candidates: int
    max_distance: float
    steps: int
    batch: int
    fps: float


@dataclass(frozen=True)
class Active:
    """What an active node works with."""

    engine: Engine
    worker: Worker
    outputs: Outputs
    frames: FrameIds


@dataclass(eq=False)
class _Candidate:
    """One trajectory of a goal and what became of it so far."""

    label: str
    poses: Tensor
    stamps: list[int]
    chunks: list[ImaginedChunk] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames that were imagined, those that only pad the trajectory left out."""
        return min(sum(map(len, self.chunks)), len(self.poses))


def check_poses(poses: Tensor, max_distance: float, name: str) -> None:
    """Refuse poses too far from the origin to be meant.

    Raises:
        ValueError: names the field and the distance.
    """
    farthest = float(poses[:, :3, 3].abs().max())
    if farthest > max_distance:
        raise ValueError(
            f"{name}: expected within {max_distance:g} m of the world frame's origin (imagine.max_distance), "
            f"got {farthest:g} m"
        )


def frame_stamps(given: list[int], now: int, fps: float, name: str) -> list[int]:
    """Stamps of frames in nanoseconds: the given ones, or from now on at the model's rate where none is given.

    Raises:
        ValueError: some are given and do not increase.
    """
    if not any(given):
        return [now + round(index * 1e9 / fps) for index in range(len(given))]
    if any(later <= earlier for earlier, later in pairwise(given)):
        raise ValueError(f"{name}.poses: expected stamps that increase, or none at all")
    return given


class ImagineAction:
    """The action server. Goals wait for the worker in coroutines, so that no thread of the executor does."""

    def __init__(self, node: Node, active: Callable[[], Active | None], limits: Callable[[], Limits]) -> None:
        """Open the action.

        Args:
            node: owns the server.
            active: what to work with; None while the node is not active.
            limits: asked for each goal.
        """
        self._node, self._active, self._limits = node, active, limits
        self._jobs: dict[bytes, Job] = {}
        self._open, self._closed = 0, False
        self._server = ActionServer(
            node,
            Imagine,
            "imagine",
            execute_callback=self._execute,
            goal_callback=lambda goal: GoalResponse.ACCEPT,
            cancel_callback=self._cancel,
            # Goals that wait must not hold up other callbacks.
            callback_group=ReentrantCallbackGroup(),
        )

    def close(self) -> None:
        """Take the action away, once the goals that were cancelled with the work queue have been answered."""
        self._closed = True
        if not self._open:
            self._server.destroy()

    def _cancel(self, handle: Any) -> CancelResponse:
        job = self._jobs.get(bytes(handle.goal_id.uuid))
        if job is not None:
            job.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle[Any, Any, Any]) -> Imagine.Result:
        self._open += 1
        try:
            return await self._answer(handle)
        finally:
            self._open -= 1
            executor = self._node.executor
            if self._closed and not self._open and executor is not None:
                # After this goal's own bookkeeping.
                executor.create_task(self._server.destroy)

    async def _answer(self, handle: ServerGoalHandle[Any, Any, Any]) -> Imagine.Result:
        result = Imagine.Result()
        start = time.monotonic()
        candidates: list[_Candidate] = []
        key = bytes(handle.goal_id.uuid)
        try:
            active = self._active()
            if active is None:
                raise ValueError("the node is not active; activate it first (ros2 lifecycle set ... activate)")
            goal, limits = handle.request, self._limits()
            candidates = self._candidates(goal, active, limits)
            rollout = self._rollout(goal, candidates, active, limits)
            result.seed = rollout.seed
            job = self._start(handle, goal, rollout, candidates, active)
            self._jobs[key] = job
            if handle.is_cancel_requested:
                job.cancel()
            await awaitable(self._node, job.future)
        except (ValueError, BusyError) as error:
            result.status, result.message = Imagine.Result.REJECTED, str(error)
            self._node.get_logger().warning(f"imagine: goal refused: {error}", throttle_duration_sec=2.0)
        except Cancelled as reason:
            result.status, result.message = Imagine.Result.CANCELLED, str(reason)
        except Exception as error:
            result.status, result.message = Imagine.Result.FAILED, f"{type(error).__name__}: {error}"
            self._node.get_logger().error(f"imagine: {result.message}")
        self._jobs.pop(key, None)
        seconds = time.monotonic() - start
        frames = sum(candidate.done for candidate in candidates)
        result.duration.sec, result.duration.nanosec = int(seconds), int(seconds % 1 * 1e9)
        result.seconds_per_frame = seconds / frames if frames else float("nan")
        if frames:
            active = self._active()
            if active is not None:
                result.trajectories = [
                    self._trajectory(candidate, active.outputs, handle.request.return_frames)
                    for candidate in candidates
                ]
        self._finish(handle, result.status)
        return result

    def _finish(self, handle: ServerGoalHandle[Any, Any, Any], status: int) -> None:
        if handle.is_cancel_requested:
            handle.canceled()
        elif status == Imagine.Result.OK:
            handle.succeed()
        else:
            handle.abort()

    def _candidates(self, goal: Imagine.Goal, active: Active, limits: Limits) -> list[_Candidate]:
        count, frames = len(goal.candidates), sum(len(candidate.path.poses) for candidate in goal.candidates)
        if not 1 <= count <= limits.max_candidates:
            raise ValueError(f"candidates: expected 1 to {limits.max_candidates} (imagine.max_candidates), got {count}")
        if frames > limits.max_frames:
            raise ValueError(
                f"candidates: expected at most {limits.max_frames} poses in all (imagine.max_frames), got {frames}"
            )
        now = self._node.get_clock().now().nanoseconds
        candidates = []
        for index, candidate in enumerate(goal.candidates):
            name = f"candidates[{index}].path"
            if len(candidate.label) > MAX_LABEL:
                raise ValueError(f"candidates[{index}].label: expected at most {MAX_LABEL} characters")
            try:
                poses, frame_id, stamps = path_to_poses(candidate.path)
            except ValueError as error:
                raise ValueError(f"candidates[{index}].{error}") from None
            poses = active.frames.optical(poses, frame_id, goal.pose_of, max(stamps[0], 0), name)
            check_poses(poses, limits.max_distance, name)
            candidates.append(_Candidate(candidate.label, poses, frame_stamps(stamps, now, limits.fps, name)))
        return candidates

    def _rollout(self, goal: Imagine.Goal, candidates: list[_Candidate], active: Active, limits: Limits) -> Rollout:
        if goal.remember and len(candidates) > 1:
            raise ValueError(f"remember: expected a single candidate to remember, got {len(candidates)}")
        if goal.seed < -1:
            raise ValueError(f"seed: expected -1 or more, got {goal.seed}")
        if len(goal.prompt) > MAX_PROMPT:
            raise ValueError(f"prompt: expected at most {MAX_PROMPT} characters, got {len(goal.prompt)}")
        if goal.prompt and not active.engine.world.preset.text:
            raise ValueError(f"prompt: the preset {active.engine.world.preset.name} takes no text")
        if goal.steps > 1000:
            raise ValueError(f"steps: expected at most 1000, got {goal.steps}")
        world, poses = active.engine.world, []
        for candidate in candidates:
            length = len(candidate.poses)
            while world.frames_for(length) < len(candidate.poses):
                length += 1
            poses.append(padded(candidate.poses, length))
        active.engine.check(poses)
        only = candidates[0].stamps if len(candidates) == 1 else None
        return Rollout(
            tuple(poses),
            remember=goal.remember,
            seed=draw_seed(goal.seed),
            steps=goal.steps or limits.steps,
            prompt=goal.prompt or None,
            batch=limits.batch,
            stamps=None if only is None else only + [only[-1]] * (len(poses[0]) - len(only)),
        )

    def _start(
        self,
        handle: ServerGoalHandle[Any, Any, Any],
        goal: Imagine.Goal,
        rollout: Rollout,
        candidates: list[_Candidate],
        active: Active,
    ) -> Job:
        feedback = Imagine.Feedback(frames_total=sum(len(candidate.poses) for candidate in candidates))

        def on_chunk(chunk: ImaginedChunk) -> None:
            candidate = candidates[chunk.candidate]
            stop = len(candidate.poses) - chunk.first
            if len(candidates) == 1:
                stamps = [*candidate.stamps, *[candidate.stamps[-1]] * len(chunk)]
                active.outputs.frames(chunk, stamps[chunk.first : chunk.first + len(chunk)], 0, stop)
            candidate.chunks.append(chunk if goal.return_frames else _without_frames(chunk))
            feedback.frames_done = sum(other.done for other in candidates)
            feedback.candidate = chunk.candidate
            feedback.coverage = float(chunk.coverage[:stop].mean())
            feedback.stage = "write"
            handle.publish_feedback(feedback)

        def on_progress(progress: Progress) -> None:
            if progress.stage != "write":
                feedback.stage, feedback.candidate = progress.stage, progress.candidate
                handle.publish_feedback(feedback)

        if len(candidates) == 1:
            active.outputs.path(candidates[0].poses, candidates[0].stamps)
        return active.worker.start(
            rolling(active.engine, active.worker, rollout, on_chunk, on_progress),
            name=f"goal of {len(candidates)} candidates",
            exclusive=rollout.remember,
        )

    def _trajectory(self, candidate: _Candidate, outputs: Outputs, frames: bool) -> ImaginedTrajectory:
        message = ImaginedTrajectory(label=candidate.label)
        done = candidate.done
        if not done:
            return message
        stamps = candidate.stamps[:done]
        poses = torch.cat([chunk.camera.cam2world for chunk in candidate.chunks])[:done]
        message.path = outputs.path_message(poses, stamps)
        message.coverage = [float(value) for chunk in candidate.chunks for value in chunk.coverage][:done]
        camera = candidate.chunks[0].camera[0]
        message.camera_info = camera_to_info(camera, outputs.header(stamps[0]))
        if frames:
            for index in range(done):
                chunk = next(chunk for chunk in candidate.chunks if index < chunk.first + len(chunk))
                place, header = index - chunk.first, outputs.header(stamps[index])
                message.images.append(numpy_to_image(chunk.rgb[place], "rgb8", header))
                message.depths.append(numpy_to_image(chunk.depth[place], "32FC1", header))
                message.visibilities.append(numpy_to_image(chunk.visible[place], "32FC1", header))
        return message


def _without_frames(chunk: ImaginedChunk) -> ImaginedChunk:
    """The chunk without its pixels, which a goal that does not ask for them need not keep."""
    return replace(chunk, rgb=chunk.rgb[:, :0], depth=chunk.depth[:, :0], visible=chunk.visible[:, :0])
