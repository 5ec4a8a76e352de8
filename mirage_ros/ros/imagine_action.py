"""The action `imagine`: candidate trajectories, feedback for each chunk, cancelling, results."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from torch import Tensor

from mirage_ros.action import Imagine
from mirage_ros.geometry import Camera
from mirage_ros.msg import ImaginedTrajectory
from mirage_ros.ros.active_state import ActiveState, Stage
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import camera_to_info, ns_from_stamp, numpy_to_image, path_to_poses
from mirage_ros.ros.parameters import MAX_STEPS, UNSEEN_OF
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.requests import ImagineRequest, draw_seed, frame_stamps
from mirage_ros.ros.topics import check_prompt_length
from mirage_ros.ros.transforms import check_poses
from mirage_ros.ros.waiting import OpenRequests
from mirage_ros.ros.work_queue import BusyError, Job
from mirage_ros.world.results import Cancelled, ImaginedChunk, Progress

MAX_LABEL = 1000
Handle: TypeAlias = ServerGoalHandle[Any, Any, Any]


@dataclass(eq=False)
class _Candidate:
    """One trajectory of a goal and what became of it so far."""

    label: str
    poses: Tensor
    stamps: list[int]
    cameras: list[Camera] = field(default_factory=list)
    coverage: list[float] = field(default_factory=list)
    # With pixels, which a goal that does not ask for them need not keep.
    chunks: list[ImaginedChunk] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Frames that were imagined, those that only pad the trajectory left out."""
        return min(len(self.coverage), len(self.poses))


class ImagineAction:
    """The action server. Goals wait for the worker in coroutines, so that no thread of the executor does."""

    def __init__(self, context: NodeContext, stage: Stage) -> None:
        """Open the action; goals are imagined while something is active on the stage."""
        self._context, self._stage, self._session = context, stage, context.session
        self._jobs: dict[bytes, Job] = {}
        self._server = ActionServer(
            context.node,
            Imagine,
            "imagine",
            execute_callback=self._execute,
            goal_callback=lambda goal: GoalResponse.ACCEPT,
            cancel_callback=self._cancel,
            # Goals that wait must not hold up other callbacks.
            callback_group=ReentrantCallbackGroup(),
        )
        self._requests = OpenRequests(context.node, self._server.destroy)

    def close(self) -> None:
        """Take the action away, once the goals that were cancelled with the work queue have been answered."""
        self._requests.close()

    def _cancel(self, handle: Any) -> CancelResponse:
        job = self._jobs.get(bytes(handle.goal_id.uuid))
        if job is not None:
            job.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: Handle) -> Imagine.Result:
        with self._requests.one():
            result, start = Imagine.Result(), time.monotonic()
            candidates: list[_Candidate] = []
            try:
                await self._imagine(handle, result, candidates)
            except (ValueError, BusyError) as error:
                result.status, result.message = Imagine.Result.REJECTED, str(error)
                self._context.node.get_logger().warning(f"imagine: goal refused: {error}", throttle_duration_sec=2.0)
            except Cancelled as reason:
                result.status, result.message = Imagine.Result.CANCELLED, str(reason)
            except Exception as error:
                result.status, result.message = Imagine.Result.FAILED, f"{type(error).__name__}: {error}"
                self._context.node.get_logger().error(f"imagine: {result.message}")
            seconds, frames = time.monotonic() - start, sum(candidate.done for candidate in candidates)
            result.duration.sec, result.duration.nanosec = int(seconds), int(seconds % 1 * 1e9)
            result.seconds_per_frame = seconds / frames if frames else float("nan")
            active = self._stage.active
            if frames and active is not None:
                result.trajectories = [_trajectory(each, active.outputs) for each in candidates]
            if handle.is_cancel_requested:
                handle.canceled()
            elif result.status == Imagine.Result.OK:
                handle.succeed()
            else:
                handle.abort()
            return result

    async def _imagine(self, handle: Handle, result: Imagine.Result, candidates: list[_Candidate]) -> None:
        """Do the work of a goal; `candidates` is filled with its trajectories and what was imagined along them.

        Raises:
            ValueError, BusyError: it is refused.
            Cancelled: it was cancelled.
        """
        active, goal = self._stage.require(), handle.request
        placed: Any = await self._requests.awaitable(active.patience.future(lambda: self._candidates(goal, active)))
        candidates += placed
        request = self._request(goal, candidates)
        result.seed = request.seed
        job, key = self._start(handle, request, candidates, active), bytes(handle.goal_id.uuid)
        self._jobs[key] = job
        try:
            if handle.is_cancel_requested:
                job.cancel()
            await self._requests.awaitable(job.future)
        finally:
            del self._jobs[key]

    def _candidates(self, goal: Imagine.Goal, active: ActiveState) -> list[_Candidate]:
        limits = self._context.parameters.imagine
        count, frames = len(goal.candidates), sum(len(candidate.path.poses) for candidate in goal.candidates)
        if not 1 <= count <= limits.max_candidates:
            raise ValueError(f"candidates: expected 1 to {limits.max_candidates} (imagine.max_candidates), got {count}")
        if frames > limits.max_frames:
            raise ValueError(
                f"candidates: expected at most {limits.max_frames} poses in all (imagine.max_frames), got {frames}"
            )
        now, fps, candidates = self._context.now(), self._session.world.preset.fps, []
        for index, candidate in enumerate(goal.candidates):
            name = f"candidates[{index}].path"
            if len(candidate.label) > MAX_LABEL:
                raise ValueError(f"candidates[{index}].label: expected at most {MAX_LABEL} characters")
            try:
                poses, frame_id, stamps = path_to_poses(candidate.path)
            except ValueError as error:
                raise ValueError(f"candidates[{index}].{error}") from None
            stamp = ns_from_stamp(candidate.path.header.stamp, f"{name}.header.stamp") or stamps[0]
            poses = active.frames.optical(poses, frame_id, goal.pose_of, stamp, name)
            check_poses(poses, limits.max_distance, name)
            candidates.append(_Candidate(candidate.label, poses, frame_stamps(stamps, now, fps, name)))
        return candidates

    def _request(self, goal: Imagine.Goal, candidates: list[_Candidate]) -> ImagineRequest:
        if goal.remember and len(candidates) > 1:
            raise ValueError(f"remember: expected a single candidate to remember, got {len(candidates)}")
        seed = draw_seed(goal.seed)
        check_prompt_length(goal.prompt)
        self._session.world.networks.check_prompt(goal.prompt)
        if goal.steps > MAX_STEPS:
            raise ValueError(f"steps: expected at most {MAX_STEPS}, got {goal.steps}")
        if goal.unseen >= len(UNSEEN_OF):
            raise ValueError(f"unseen: expected PARAMETER, MEAN or SAMPLE (0 to 2), got {goal.unseen}")
        poses = [self._session.padded(each.poses) for each in candidates]
        self._session.check(poses)
        only = candidates[0].stamps if len(candidates) == 1 else None
        defaults = self._context.parameters.imagine
        return ImagineRequest(
            tuple(poses),
            remember=goal.remember,
            seed=seed,
            steps=goal.steps or defaults.steps,
            unseen=UNSEEN_OF[goal.unseen] if goal.unseen else defaults.unseen,
            samples=defaults.samples,
            prompt=goal.prompt or None,
            batch=defaults.batch,
            stamps=None if only is None else only + [only[-1]] * (len(poses[0]) - len(only)),
        )

    def _start(self, handle: Handle, request: ImagineRequest, candidates: list[_Candidate], active: ActiveState) -> Job:
        feedback: Any = Imagine.Feedback(frames_total=sum(len(candidate.poses) for candidate in candidates))

        def on_chunk(chunk: ImaginedChunk) -> None:
            candidate = candidates[chunk.candidate]
            stop = len(candidate.poses) - chunk.first
            if request.stamps is not None:
                active.outputs.frames(chunk, request.stamps[chunk.first : chunk.first + len(chunk)], 0, stop)
            candidate.cameras.append(chunk.camera)
            candidate.coverage += [float(value) for value in chunk.coverage]
            if handle.request.return_frames:
                candidate.chunks.append(chunk)
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
        worker = self._context.worker
        return worker.start(
            self._session.rollout(worker, request, on_chunk, on_progress),
            name=f"goal of {len(candidates)} candidates",
            exclusive=request.remember,
        )


def _trajectory(candidate: _Candidate, outputs: Outputs) -> ImaginedTrajectory:
    """What a goal's result says of a candidate, with the pixels that were kept."""
    message = ImaginedTrajectory(label=candidate.label)
    done = candidate.done
    if not done:
        return message
    stamps = candidate.stamps[:done]
    poses = torch.cat([camera.cam2world for camera in candidate.cameras])[:done]
    message.path = outputs.path_message(poses, stamps)
    message.coverage = candidate.coverage[:done]
    message.camera_info = camera_to_info(candidate.cameras[0][0], outputs.header(stamps[0]))
    for chunk in candidate.chunks:
        for place, stamp in enumerate(stamps[chunk.first : chunk.first + len(chunk)]):
            header = outputs.header(stamp)
            message.images.append(numpy_to_image(chunk.rgb[place], "rgb8", header))
            message.depths.append(numpy_to_image(chunk.depth[place], "32FC1", header))
            message.visibilities.append(numpy_to_image(chunk.visible[place], "32FC1", header))
            if chunk.uncertainty is not None:
                message.uncertainties.append(numpy_to_image(chunk.uncertainty[place], "32FC1", header))
    return message
