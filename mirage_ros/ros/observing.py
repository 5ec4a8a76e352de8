"""Writing real camera frames to the memory: which ones, how often, with what pose."""

from __future__ import annotations

import concurrent.futures
import time
from typing import Any

import torch
from torch import Tensor

from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.camera_input import CameraInput, PoseBuffer
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.conversions import pose_from_stamped
from mirage_ros.ros.transforms import FrameIds, check_poses

# A request for a camera frame that none answers ends after this many seconds.
OBSERVE_TIMEOUT = 60.0
# Nanoseconds that an image waits for a pose from after it.
PATIENCE = 500_000_000

Added = concurrent.futures.Future[int]


class Observing:
    """Takes the camera's messages while the node is active."""

    def __init__(self, context: NodeContext, frames: FrameIds) -> None:
        """Set up; `frames` brings poses into the world frame."""
        self._context, self._frames = context, frames
        self._incomplete = 0
        self._poses = PoseBuffer()
        self._camera = CameraInput(context.parameters.observation)
        self._observing: Added | None = None
        self._asked: list[tuple[Added, float]] = []
        self._last_stamp, self._last_time = -1, 0.0

    def add(self, topic: str, message: Any) -> None:
        """Take a message of image, camera_info or depth; a ValueError if it, or the frame it completes, is unusable."""
        self._camera.add(topic, message)
        if topic == "image":
            self._frames.camera_frame = message.header.frame_id
        self.pump()

    def pose(self, message: Any) -> None:
        """Take a message of camera_pose; a ValueError if it is not usable."""
        pose, frame, stamp = pose_from_stamped(message, "camera_pose")
        self._check_future(stamp, "camera_pose")
        pose = self._frames.optical(pose, frame, "optical", stamp, "camera_pose")
        self._check_distance(pose, "camera_pose")
        self._poses.add(stamp, pose)
        self.pump()

    def pump(self) -> None:
        """Hand the next camera frame to the worker, unless one is there already or it is not time for it.

        Raises:
            ValueError: a frame is not usable; it is gone.
        """
        while (stamp := self._camera.waiting_stamp()) is not None:
            busy = self._observing is not None and not self._observing.done()
            if busy or not (self._asked or self._due(stamp)):
                self._camera.skip()
                continue
            in_time = False
            try:
                self._check_future(stamp, "image")
                in_time = True
                pose = self._pose_at(stamp)
            except ValueError:
                self._camera.skip(lost=in_time)
                raise
            if pose is None:
                return
            self._observe(self._camera.take(pose))

    def expire(self) -> None:
        """Answer requests for a camera frame that have waited too long, and report frames that stay incomplete."""
        now, incomplete = time.monotonic(), self._camera.dropped
        if incomplete > self._incomplete:
            needed = " and ".join(self._camera.topics)
            self._context.health.event(
                "image",
                f"{incomplete} camera frames stayed incomplete: {needed} must come with equal stamps, and the camera's "
                "pose from around that time",
            )
        self._incomplete = incomplete
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

    def _pose_at(self, stamp: int) -> Tensor | None:
        """(4, 4) optical pose of the camera in the world frame; None while it may still come."""
        source = self._context.parameters.observation.pose
        if source == "origin":
            return torch.eye(4, dtype=torch.float64)
        waited = self._context.now() - stamp
        if source == "topic":
            pose = self._poses.at(stamp)
            # A robot that stands still may say nothing more.
            return self._poses.latest(stamp) if pose is None and waited > PATIENCE else pose
        try:
            pose = self._frames.camera_pose(stamp)
        except ValueError:
            # Transforms come a little later than images.
            if 0 <= waited < PATIENCE:
                return None
            raise
        self._check_distance(pose, "image: the camera's pose in TF")
        return pose

    def _due(self, stamp: int) -> bool:
        wanted = self._context.parameters.observation
        enough = not wanted.rate or time.monotonic() - self._last_time >= 1 / wanted.rate
        # The same image twice adds nothing; stamps may go back when a recording starts anew.
        return wanted.enabled and enough and stamp != self._last_stamp

    def _observe(self, frame: RgbdFrame) -> None:
        asked, self._asked = self._asked, []
        session = self._context.session
        self._last_stamp, self._last_time = int(frame.stamp), time.monotonic()
        self._observing = self._context.worker.call(lambda: session.observe(frame), slot="observation")

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
