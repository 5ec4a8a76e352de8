"""From streamed poses and whole paths to rollouts: newest command first, a chunk at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mirage_ros.poses import invert
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.context import NodeContext
from mirage_ros.ros.publications import Outputs
from mirage_ros.ros.requests import ImagineRequest, draw_seed
from mirage_ros.ros.work_queue import BusyError, Job
from mirage_ros.world.results import ImaginedChunk

# A stream whose next pose is farther away than this (metres, radians) starts anew rather than going on from its last
# frame.
MAX_JUMP = 0.5
MAX_TURN = 0.8
# Poses that wait while a chunk is imagined; of more than a chunk takes, some in between are left out in the end.
MAX_PENDING = 1000


def thinned(count: int, most: int) -> list[int]:
    """At most `most` indices of `count`, evenly spread, the last among them."""
    if count <= most:
        return list(range(count))
    return np.linspace(0, count - 1, most + 1).round().astype(int)[1:].tolist()


class Commands:
    """Turns pose and path commands into previews and rollouts.

    Attributes:
        dropped: pose commands that newer ones replaced.
    """

    def __init__(self, context: NodeContext, outputs: Outputs) -> None:
        """Set up; what was imagined goes to the outputs."""
        self._context, self._outputs = context, outputs
        self._session, self._worker, self._health = context.session, context.worker, context.health
        self._pending: list[tuple[Tensor, int]] = []
        self._last_pose = 0.0
        # The last frame of the stream, from which it goes on.
        self._last: RgbdFrame | None = None
        self._job: Job | None = None
        self._topic = ""
        self._round = 0
        self.dropped = 0

    def pose(self, pose: Tensor, stamp: int) -> None:
        """A pose of a stream: an optical (4, 4) pose, nanoseconds."""
        self.preview(pose, stamp, "pose")
        if self.running and self._topic == "path":
            self._stop()
        self._pending.append((pose, stamp))
        if len(self._pending) > MAX_PENDING:
            self._pending.pop(0)
            self.dropped += 1
        self._last_pose = time.monotonic()
        self.pump()

    def preview(self, pose: Tensor, stamp: int, topic: str) -> None:
        """Publish what is known of the view, between two layers of what is being imagined, or at once."""

        def work() -> None:
            self._outputs.preview(self._session.preview(pose), stamp)

        try:
            called = self._worker.call(work, slot=f"preview of {topic}", quick=True)
        except BusyError as error:
            self._health.refuse(topic, str(error))
        else:
            self._health.watch(called, topic, "preview: ")

    def path(self, poses: Tensor, stamps: Sequence[int]) -> None:
        """Imagine optical poses (T, 4, 4); what was commanded before is given up."""
        self.clear()
        self._start("path", poses, stamps, None)

    def pump(self) -> None:
        """Start the next rollout of the stream, if there is enough for it and nothing else is being done."""
        if not self._pending or self.running:
            return
        first = self._continuation(self._pending[0][0])
        known = 0 if first is None else 1
        chunk = self._session.world.preset.chunk_frames
        paused = time.monotonic() - self._last_pose >= self._context.parameters.imagine.pause
        if not paused and known + len(self._pending) < chunk:
            return
        chosen = thinned(len(self._pending), chunk - known)
        self.dropped += len(self._pending) - len(chosen)
        poses = torch.stack([self._pending[index][0] for index in chosen])
        stamps = [self._pending[index][1] for index in chosen]
        self._pending.clear()
        self._start("pose", poses, stamps, first)

    def clear(self) -> None:
        """Give up what is under way or waiting, as before a path and after a reset."""
        self._round += 1
        self._stop()
        self._pending.clear()
        self._last = None

    @property
    def running(self) -> bool:
        """Whether a command is being imagined."""
        return self._job is not None and not self._job.future.done()

    def _stop(self) -> None:
        if self._job is not None and self.running:
            self._job.cancel()
            self.dropped += 1
        self._job = None

    def _continuation(self, pose: Tensor) -> RgbdFrame | None:
        """The stream's last frame, if the next pose is close to it."""
        if self._last is None:
            return None
        step = invert(self._last.camera.cam2world) @ pose
        cosine = (float(step[0, 0] + step[1, 1] + step[2, 2]) - 1) / 2
        near = float(step[:3, 3].norm()) <= MAX_JUMP and cosine >= np.cos(MAX_TURN)
        return self._last if near else None

    def _start(self, topic: str, poses: Tensor, stamps: Sequence[int], first: RgbdFrame | None) -> None:
        known = 0 if first is None else 1
        wanted = poses if first is None else torch.cat([first.camera.cam2world[None], poses])
        whole, real = self._session.padded(wanted), len(wanted)
        every = [stamps[0]] * known + list(stamps) + [stamps[-1]] * (len(whole) - real)
        options, turn = self._context.parameters.imagine, self._round
        request = ImagineRequest(
            (whole,),
            remember=options.remember,
            seed=draw_seed(options.seed),
            steps=options.steps,
            unseen=options.unseen,
            samples=options.samples,
            first=first,
            stamps=every,
        )

        def publish(chunk: ImaginedChunk) -> None:
            # A chunk that ends after `clear` was called is neither shown nor gone on from.
            if turn != self._round:
                return
            start, stop = max(known - chunk.first, 0), real - chunk.first
            if stop > start:
                self._outputs.frames(chunk, every[chunk.first : chunk.first + len(chunk)], start, stop)
            if 0 < stop <= len(chunk) and topic == "pose":
                last = stop - 1
                # Where it was asked for, which perception may have refined.
                camera = chunk.camera[last].at(wanted[-1])
                frame = RgbdFrame(chunk.rgb[last], chunk.depth[last], camera, every[chunk.first + last])
                # From one whose depth nobody knows, nothing can go on.
                self._last = frame if (chunk.depth[last] > 0).any() else None

        try:
            parts = self._session.rollout(self._worker, request, publish)
            self._job = self._worker.start(parts, name=f"rollout of {topic}", exclusive=True)
        except BusyError as error:
            self._health.refuse(topic, str(error))
            return
        self._health.watch(self._job.future, topic)
        self._topic = topic
        self._outputs.path(wanted[known:], stamps)
