"""Where the demo's camera frames come from: a simulated robot, or a recorded walk."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mirage_ros.client import Mirage
from mirage_ros.demo.camera_receiver import SimCameraReceiver
from mirage_ros.demo.recorder import Recorder
from mirage_ros.recordings.rgbd_folder import RgbdFolder
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.trajectory import pan

# Drawing a frame takes a fraction of this, also on a slow machine.
TIMEOUT = 60.0


@dataclass(frozen=True, eq=False)
class DemoPlan:
    """Where the robot looks and what is imagined.

    Attributes:
        walk: (N, 4, 4) poses whose camera frames go into the memory.
        path: (T, 4, 4) poses to imagine.
        candidates: label and (T, 4, 4) poses of what a planner chooses from.
    """

    walk: Tensor
    path: Tensor
    candidates: tuple[tuple[str, Tensor], ...]


def three_ways(pose: Tensor, ahead: Tensor, frames: int) -> tuple[tuple[str, Tensor], ...]:
    """Candidates from a pose, of 9 frames at most: on along the path, a turn to the left, a turn to the right."""
    frames, angle = min(frames, 9), 0.8
    return (
        ("ahead", ahead[:frames]),
        ("left", pan(pose.double(), angle, frames, axis=(0, -1, 0))),
        ("right", pan(pose.double(), angle, frames)),
    )


class Robot(ABC):
    """A source of camera frames."""

    plan: DemoPlan

    @abstractmethod
    def show(self, mirage: Mirage, index: int) -> RgbdFrame:
        """Go to a pose of the walk, have the node write what the camera sees there, and return it."""

    @abstractmethod
    def look(self, index: int) -> RgbdFrame:
        """What is really seen from a pose of the path; the node does not learn of it."""


class SimRobot(Robot):
    """The simulated camera, a process of its own that is moved by its topic cmd_pose."""

    def __init__(self, recorder: Recorder, walk: int, frames: int, path: Tensor) -> None:
        """Listen to the camera.

        Args:
            recorder: receives and records.
            walk: camera frames to show.
            frames: to imagine.
            path: (N, 4, 4) collision-free poses in the scene, long enough for both.
        """
        self._recorder = recorder
        self._receiver = SimCameraReceiver(recorder.node, on_message=recorder.record)
        # Half of what is imagined lies where the robot was, in between its steps; half where it was not.
        before = frames // 2
        known = path[walk - before : walk - 1].clone()
        known[:, :3, 3] = (known[:, :3, 3] + path[walk - before + 1 : walk, :3, 3]) / 2
        imagined = torch.cat([known, path[walk - 1 : walk - 1 + frames - len(known)]])
        ahead = path[walk - 1 : walk - 1 + frames]
        self.plan = DemoPlan(path[:walk], imagined, three_ways(path[walk - 1], ahead, frames))

    def show(self, mirage: Mirage, index: int) -> RgbdFrame:
        """See `Robot`."""
        frame = self._go(self.plan.walk[index])
        mirage.observe_next()
        return frame

    def look(self, index: int) -> RgbdFrame:
        """See `Robot`."""
        return self._go(self.plan.path[index])

    def _go(self, pose: Tensor) -> RgbdFrame:
        self._recorder.send_camera_to(pose)
        limit = time.monotonic() + TIMEOUT
        while time.monotonic() < limit:
            frame = self._receiver.next(self._recorder.executor, TIMEOUT)
            if float((frame.camera.cam2world - pose).abs().max()) < 1e-4:
                return frame
        raise TimeoutError(f"the simulated camera did not get to {pose[:3, 3].tolist()}; is the place occupied?")


class RecordedRobot(Robot):
    """A recorded walk: every second frame of its first part is shown, what is left out is imagined."""

    def __init__(self, folder: Path, walk: int, frames: int) -> None:
        """Read a folder, see `recordings.rgbd_folder`; at most `walk` frames are shown and `frames` imagined."""
        self._folder = RgbdFolder(folder)
        count = len(self._folder)
        if count < 6:
            raise ValueError(f"rgbd: expected at least 6 frames in {folder}, got {count}")
        poses = self._folder.cam2world
        self._shown = list(range(0, count, 2))[:walk]
        self._left_out = list(range(1, min(count, self._shown[-1] + 2), 2))[:frames]
        print(f"{count} frames: {len(self._shown)} shown, {len(self._left_out)} between them imagined")
        back = poses[self._shown].flip(0)
        self.plan = DemoPlan(poses[self._shown], poses[self._left_out], three_ways(back[0], back, frames))

    def show(self, mirage: Mirage, index: int) -> RgbdFrame:
        """See `Robot`."""
        frame = self._folder[self._shown[index]]
        mirage.observe(frame.rgb, frame.depth, frame.camera)
        return RgbdFrame(frame.rgb, frame.depth, frame.camera)

    def look(self, index: int) -> RgbdFrame:
        """See `Robot`."""
        frame = self._folder[self._left_out[index]]
        return RgbdFrame(frame.rgb, frame.depth, frame.camera)
