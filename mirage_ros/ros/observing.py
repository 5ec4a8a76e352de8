"""Writing real camera frames to the memory: which ones, how often, with what pose."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Any

import torch
from rclpy.clock import JumpThreshold
from rclpy.duration import Duration
from torch import Tensor

from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.camera_input import CameraInput
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import ns_from_stamp, pose_from_stamped
from mirage_ros.ros.corrections import Corrections
from mirage_ros.ros.pose_buffer import CLOCK_RESET, PoseBuffer
from mirage_ros.ros.transforms import FrameIds, check_poses
from mirage_ros.ros.waiting import TransformPendingError

# A request for a camera frame that none answers ends after this many seconds.
OBSERVE_TIMEOUT = 60.0
# Seconds without a complete camera frame after which incomplete ones are reported: of a topic that is slower than the
# others, most are.
STARVED = 2.0

Added = concurrent.futures.Future[int]


class Observing:
    """Takes the camera's messages while the node is active."""

    def __init__(self, context: NodeContext, frames: FrameIds, corrections: Corrections) -> None:
        """Set up; `frames` brings poses into the world frame and gives TF's, `corrections` knows when they jump."""
        self._context, self._frames, self._corrections = context, frames, corrections
        # Of camera_pose, and of the newest frame: whether TF placed it, and where.
        self._through, self._place = False, torch.zeros(3, dtype=torch.float64)
        self._incomplete = self._completed = 0
        self._fed = time.monotonic()
        self._poses = PoseBuffer(max_gap=context.parameters.observation.max_gap)
        self._camera = CameraInput(context.parameters.observation)
        self._observing: Added | None = None
        self._asked: list[tuple[Added, float]] = []
        self._last, self._last_time = (-1, ""), 0.0
        # Simulated time that is set back, as when a recording starts anew. Other clocks show it in the stamps.
        self._jumps = context.node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=None, min_backward=Duration(nanoseconds=-1), on_clock_change=False),
            post_callback=lambda jump: setattr(self, "_set_back", True),
        )
        self._set_back = False

    def add(self, topic: str, message: Any) -> None:
        """Take a message of a camera topic; a ValueError if it, or the frame it completes, is unusable."""
        self._look_at_clock()
        if topic == "image":
            # Before it is taken for the time that it is, which would make those after it look set back.
            self._check_future(ns_from_stamp(message.header.stamp), "image")
        back = self._camera.add(topic, message)
        if back is not None:
            self._restart(back + CLOCK_RESET, message.header.frame_id)
        if topic == "image":
            self._frames.camera_frame = message.header.frame_id
        self.pump()

    def _look_at_clock(self) -> None:
        # Not in the callback itself: the clock is not to be read there.
        if self._set_back:
            self._set_back = False
            self._restart(self._context.now() - 1)

    def _look_at_link(self) -> None:
        # Before anything is placed by it.
        change = self._corrections.look(self._place)
        if change is not None and self._through:
            self._poses.move(change)

    def _restart(self, stamp: int, frame: str | None = None) -> None:
        """The clock, of one frame_id's images or of all, was set back: what is stamped later is of another time."""
        self._camera.restart(stamp, frame)
        self._poses.set_back(stamp)
        self._frames.restart()
        self._corrections.restart()
        self._context.health.event(
            "clock", f"was set back to {stamp * 1e-9:.3f} s; frames, poses and transforms from later are forgotten"
        )
        self._context.node.get_logger().warning("the clock was set back; camera frames and poses start anew")

    def pose(self, message: Any) -> None:
        """Take a message of camera_pose; a ValueError if it is not usable."""
        self._look_at_clock()
        self._look_at_link()
        pose, frame, stamp = pose_from_stamped(message, "camera_pose")
        self._check_future(stamp, "camera_pose")
        pose = self._frames.optical(pose, frame, "optical", stamp, "camera_pose")
        self._through = not self._frames.in_world(frame)
        if self._through:
            pose = self._corrections.place(pose, stamp)
        self._check_distance(pose, "camera_pose")
        self._poses.add(stamp, pose)
        self.pump()

    def pump(self) -> None:
        """Hand the next camera frame to the worker, unless one is there already or it is not time for it.

        Raises:
            ValueError: a frame is not usable; it is gone.
        """
        self._look_at_clock()
        self._look_at_link()
        self._camera.settle()
        while (waiting := self._camera.waiting()) is not None:
            header, arrived = waiting
            stamp = ns_from_stamp(header.stamp)
            busy = self._observing is not None and not self._observing.done()
            if busy or not (self._asked or self._due(stamp, header.frame_id)):
                self._camera.skip()
                continue
            try:
                pose = self._pose_at(stamp, header.frame_id, time.monotonic() - arrived)
                place = None if pose is None else self._depth_place(time.monotonic() - arrived)
            except ValueError as error:
                self._camera.skip()
                if isinstance(error, TransformPendingError):
                    self._context.health.event(f"tf {error.link}", str(error))
                    raise ValueError(str(error)) from None
                raise
            if pose is None or place is None:
                return
            self._observe(self._camera.take(pose, place), header.frame_id)

    def expire(self) -> None:
        """Answer requests for a camera frame that have waited too long, and report frames that stay incomplete."""
        now, incomplete, completed = time.monotonic(), self._camera.dropped, self._camera.completed
        if completed > self._completed:
            self._fed = now
        elif incomplete > self._incomplete and now - self._fed > STARVED:
            needed = " and ".join(self._camera.topics)
            slop = self._context.parameters.observation.slop
            self._context.health.event(
                "image",
                f"{incomplete} camera frames stayed incomplete: {needed} must come with stamps that differ by at most "
                f"{slop:g} s (observation.slop)",
            )
        self._incomplete, self._completed = incomplete, completed
        for entry in [entry for entry in self._asked if entry[1] < now]:
            self._asked.remove(entry)
            entry[0].set_exception(TimeoutError(f"no complete camera frame came within {OBSERVE_TIMEOUT:g} s"))

    def observe_next(self) -> Added:
        """The next camera frame will be written, whatever the rate; resolves to the number of new elements."""
        request: Added = concurrent.futures.Future()
        self._asked.append((request, time.monotonic() + OBSERVE_TIMEOUT))
        return request

    def close(self) -> None:
        """Give up requests that wait."""
        self._jumps.unregister()
        for future, _ in self._asked:
            future.cancel()
        self._asked.clear()

    def _check_future(self, stamp: int, name: str) -> None:
        ahead, limit = (stamp - self._context.now()) * 1e-9, self._context.parameters.observation.max_future
        if ahead > limit:
            raise ValueError(
                f"{name}.header.stamp: expected at most {limit:g} s ahead of now (observation.max_future), "
                f"got {ahead:.1f} s; are the clocks in step, is use_sim_time set?"
            )

    def _check_distance(self, pose: Tensor, name: str) -> None:
        check_poses(pose, self._context.parameters.imagine.max_distance, name)

    def _pose_at(self, stamp: int, frame: str, waited: float) -> Tensor | None:
        """(4, 4) optical pose of a camera in the world frame; None while it may still come.

        Args:
            stamp: nanoseconds of the image.
            frame: the image's frame_id.
            waited: seconds since the image came.
        """
        source, tolerance = self._context.parameters.observation.pose, self._context.parameters.tf_tolerance
        if source == "origin":
            return torch.eye(4, dtype=torch.float64)
        if source == "topic":
            pose = self._poses.at(stamp)
            if pose is not None or waited < tolerance:
                return pose
            # A robot that stands still may say nothing more.
            pose = self._poses.latest(stamp)
            if pose is None:
                raise ValueError(
                    f"camera_pose: expected poses around the image's stamp {stamp * 1e-9:.3f}, {self._poses.span()} "
                    f"{tolerance:g} s after the image came (tf_tolerance)"
                )
            return pose
        try:
            pose = self._frames.transform(self._context.parameters.world_frame, frame, stamp, "image.header.frame_id")
        except TransformPendingError:
            # Transforms come a little later than images.
            if waited < tolerance:
                return None
            raise
        pose, self._through = self._corrections.place(pose, stamp), True
        self._check_distance(pose, "image: the camera's pose in TF")
        return pose

    def _depth_place(self, waited: float) -> Tensor | None:
        """(4, 4) pose of the depth camera in the colour camera's frame; None while it may still come."""
        frames = self._camera.depth_frames()
        if frames is None:
            return torch.eye(4, dtype=torch.float64)
        try:
            return self._frames.transform(*frames, 0, "depth.header.frame_id")
        except TransformPendingError:
            if waited < self._context.parameters.tf_tolerance:
                return None
            raise

    def _due(self, stamp: int, frame: str) -> bool:
        wanted = self._context.parameters.observation
        enough = not wanted.rate or time.monotonic() - self._last_time >= 1 / wanted.rate
        # The same image twice adds nothing; stamps may go back when a recording starts anew.
        return wanted.enabled and enough and (stamp, frame) != self._last

    def _observe(self, frame: RgbdFrame, frame_id: str) -> None:
        session = self._context.session
        self._last, self._last_time = (int(frame.stamp), frame_id), time.monotonic()
        self._place = frame.camera.cam2world[:3, 3].double().cpu()
        if self._through:
            self._corrections.note(int(frame.stamp))
        if self._camera.doubts:
            self._context.health.event("depth", self._camera.doubts)
        self._observing = self._context.worker.call(lambda: session.observe(frame), slot="observation")
        # Only now: of a queue that is full, requests wait for the next camera frame.
        asked, self._asked = self._asked, []

        def done(future: Added) -> None:
            error = None if future.cancelled() else future.exception()
            for request, _ in asked:
                if future.cancelled():
                    request.cancel()
                elif error is not None:
                    request.set_exception(error)
                else:
                    request.set_result(future.result())

        self._context.health.watch(self._observing, "image")
        self._observing.add_done_callback(done)
