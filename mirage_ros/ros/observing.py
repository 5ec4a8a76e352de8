"""Writing real camera frames to the memory: which ones, how often, with what pose."""

from __future__ import annotations

import concurrent.futures
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mirage_ros.ros.camera_input import CameraInput, PoseBuffer
from mirage_ros.ros.conversions import pose_from_stamped
from mirage_ros.ros.imagine_action import Active, check_poses
from mirage_ros.ros.requests import Observation

# A request for a camera frame that none answers ends after this many seconds.
OBSERVE_TIMEOUT = 60.0
# Nanoseconds that an image waits for a pose from after it.
PATIENCE = 500_000_000


class Grounding:
    """Takes the camera's messages while the node is active."""

    def __init__(
        self,
        active: Active,
        settings: Mapping[str, Any],
        now: Callable[[str], Any],
        clock: Callable[[], int],
        refuse: Callable[[str, str], None],
        event: Callable[[str, str], None],
    ) -> None:
        """Set up.

        Args:
            active: does the work.
            settings: start-up parameters by name.
            now: run-time parameters by name.
            clock: nanoseconds of the node's clock.
            refuse: told the topic and the reason when a frame cannot be used.
            event: told the topic and what should be known of it.
        """
        self._active, self._settings, self._now = active, settings, now
        self._clock, self._refuse, self._event = clock, refuse, event
        self._incomplete = 0
        self._poses = PoseBuffer()
        self._camera = CameraInput(
            self._pose_at,
            depth=settings["observation.depth"] == "topic",
            rectified=settings["observation.rectified"],
            undistort=settings["observation.undistort"],
            queue=settings["observation.queue"],
        )
        self._observing: concurrent.futures.Future[int] | None = None
        self._asked: list[tuple[concurrent.futures.Future[int], float]] = []
        self._last_stamp, self._last_time = -1, 0.0

    def add(self, topic: str, message: Any) -> None:
        """Take a message of image, camera_info or depth.

        Raises:
            ValueError: it, or the frame that it completes, is not usable.
        """
        self._camera.add(topic, message)
        if topic == "image":
            self._active.frames.camera_frame = message.header.frame_id
        self.pump()

    def pose(self, message: Any) -> None:
        """Take a message of camera_pose.

        Raises:
            ValueError: it is not usable.
        """
        pose, frame, stamp = pose_from_stamped(message, "camera_pose")
        self._check_future(stamp, "camera_pose")
        pose = self._active.frames.optical(pose, frame, "optical", stamp, "camera_pose")
        check_poses(pose[None], self._now("imagine.max_distance"), "camera_pose")
        self._poses.add(stamp, pose)
        self.pump()

    def pump(self) -> None:
        """Hand the next camera frame to the worker, unless one is there already or it is not time for it.

        Raises:
            ValueError: a frame is not usable; it is gone.
        """
        stamp = self._camera.waiting_stamp()
        while stamp is not None:
            busy = self._observing is not None and not self._observing.done()
            if busy or not (self._asked or self._due(stamp)):
                self._camera.skip()
            else:
                try:
                    self._check_future(stamp, "image")
                except ValueError:
                    self._camera.skip()
                    raise
                observation = self._camera.take()
                if observation is None:
                    return
                self._observe(observation)
            stamp = self._camera.waiting_stamp()

    def expire(self) -> None:
        """Answer requests for a camera frame that have waited too long, and report frames that stay incomplete."""
        now, incomplete = time.monotonic(), self._camera.dropped
        if incomplete > self._incomplete:
            needed = " and ".join(self._camera.topics)
            self._event(
                "image",
                f"{incomplete} camera frames stayed incomplete: {needed} must come with equal stamps, and the camera's "
                "pose from around that time",
            )
        self._incomplete = incomplete
        for entry in [entry for entry in self._asked if entry[1] < now]:
            self._asked.remove(entry)
            entry[0].set_exception(TimeoutError(f"no complete camera frame came within {OBSERVE_TIMEOUT:g} s"))

    def observe_next(self) -> concurrent.futures.Future[int]:
        """The next camera frame will be written, whatever the rate; resolves to the number of new elements."""
        request: concurrent.futures.Future[int] = concurrent.futures.Future()
        self._asked.append((request, time.monotonic() + OBSERVE_TIMEOUT))
        return request

    def close(self) -> None:
        """Give up requests that wait."""
        for future, _ in self._asked:
            future.cancel()
        self._asked.clear()

    def _check_future(self, stamp: int, name: str) -> None:
        ahead, limit = (stamp - self._clock()) * 1e-9, self._settings["observation.max_future"]
        if ahead > limit:
            raise ValueError(
                f"{name}.header.stamp: expected at most {limit:g} s ahead of now (observation.max_future), "
                f"got {ahead:.1f} s; are the clocks in step, is use_sim_time set?"
            )

    def _pose_at(self, stamp: int) -> Tensor | None:
        source = self._settings["observation.pose"]
        if source == "origin":
            return torch.eye(4, dtype=torch.float64)
        waited = self._clock() - stamp
        if source == "tf":
            try:
                frames = self._active.frames
                return frames.lookup(frames.world_frame, frames.camera_frame, stamp, "image")
            except ValueError:
                # Transforms come a little later than images.
                if 0 <= waited < PATIENCE:
                    return None
                raise
        pose = self._poses.at(stamp)
        # A robot that stands still may say nothing more.
        return self._poses.latest(stamp) if pose is None and waited > PATIENCE else pose

    def _due(self, stamp: int) -> bool:
        rate = self._now("observation.rate")
        enough = not rate or time.monotonic() - self._last_time >= 1 / rate
        # The same image twice adds nothing; stamps may go back when a recording starts anew.
        return bool(self._now("observation.enabled")) and enough and stamp != self._last_stamp

    def _observe(self, observation: Observation) -> None:
        asked, self._asked = self._asked, []
        engine = self._active.engine
        self._last_stamp, self._last_time = observation.stamp, time.monotonic()
        self._observing = self._active.worker.call(lambda: engine.observe(observation), slot="observation")

        def done(future: concurrent.futures.Future[int]) -> None:
            error = None if future.cancelled() else future.exception()
            if error is not None:
                self._refuse("image", str(error))
            for request, _ in asked:
                if future.cancelled():
                    request.cancel()
                elif error is not None:
                    request.set_exception(error)
                else:
                    request.set_result(future.result())

        self._observing.add_done_callback(done)
