"""Camera frames from topics: image, optics and depth with one stamp, and the pose that the camera had then."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.conversions import (
    camera_from_info,
    compressed_to_numpy,
    depth_to_metres,
    image_to_numpy,
    ns_from_stamp,
)
from mirage_ros.ros.parameters import ObservationParameters
from mirage_ros.trajectory import interpolate

# Poses that are remembered: ten seconds at 100 Hz.
POSES = 1000
# A pose this much older than the image still counts, if none comes after it: half a second.
MAX_EXTRAPOLATION = 500_000_000
# Images out of order by up to this much are late; by more, the clock was set back.
CLOCK_RESET = 2_000_000_000
# Share by which the shape of a depth image may differ from its image's; a pixel more or less is rounding.
SHAPE_TOLERANCE = 0.02


class StampSynchroniser:
    """Collects messages until every topic has one with the same stamp.

    Attributes:
        dropped: incomplete sets given up because newer ones filled the queue.
    """

    def __init__(self, topics: Iterable[str], size: int = 10) -> None:
        """Topics that make a complete set, and how many stamps wait at most; the oldest is dropped beyond."""
        self._topics, self._size = frozenset(topics), size
        self._waiting: dict[int, dict[str, Any]] = {}
        self.dropped = 0

    def add(self, topic: str, message: Any) -> dict[str, Any] | None:
        """Take a message with a header.

        Returns:
            The complete set by topic, in case this message completes one. Older incomplete sets are dropped then: what
            is newer has overtaken them.

        Raises:
            ValueError: a topic that was not announced, or a stamp that is no time.
        """
        if topic not in self._topics:
            raise ValueError(f"topic: expected one of {sorted(self._topics)}, got {topic!r}")
        stamp = ns_from_stamp(message.header.stamp)
        entry = self._waiting.setdefault(stamp, {})
        entry[topic] = message
        if len(entry) == len(self._topics):
            stale = [other for other in self._waiting if other < stamp]
            for other in stale:
                del self._waiting[other]
            self.dropped += len(stale)
            return self._waiting.pop(stamp)
        if len(self._waiting) > self._size:
            # The one that came first, not the earliest stamp: after a clock jumps back, new stamps are the earliest.
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        return None


class PoseBuffer:
    """The camera's last poses, for any moment between them."""

    def __init__(self, size: int = POSES) -> None:
        self._poses: deque[tuple[int, Tensor]] = deque(maxlen=size)

    def add(self, stamp: int, pose: Tensor) -> None:
        """Append a (4, 4) pose; one that is older than the last starts anew, as after a clock was set back."""
        if self._poses and stamp < self._poses[-1][0]:
            if self._poses[-1][0] - stamp < CLOCK_RESET:
                return
            self._poses.clear()
        if self._poses and stamp == self._poses[-1][0]:
            self._poses.pop()
        self._poses.append((stamp, pose))

    def at(self, stamp: int) -> Tensor | None:
        """The (4, 4) pose at a moment in nanoseconds; None while a pose from after it is still to come.

        A ValueError if the moment is before all poses that are known.
        """
        after = next((index for index, entry in enumerate(self._poses) if entry[0] >= stamp), None)
        if after is None:
            return None
        time, pose = self._poses[after]
        if time == stamp:
            return pose
        if after == 0:
            raise ValueError(
                f"camera_pose: expected a pose from before the image, whose stamp is {stamp * 1e-9:.3f}; the oldest is "
                f"from {time * 1e-9:.3f}"
            )
        before, earlier = self._poses[after - 1]
        # Nanoseconds since the epoch are too large for exact differences in float64; relative ones are not.
        times = torch.tensor([0.0, float(time - before)], dtype=torch.float64)
        query = torch.tensor([float(stamp - before)], dtype=torch.float64)
        return interpolate(torch.stack([earlier, pose]), times, query)[0]

    def latest(self, stamp: int) -> Tensor | None:
        """The last pose, if it is at most half a second older than the moment."""
        if not self._poses or stamp - self._poses[-1][0] > MAX_EXTRAPOLATION:
            return None
        return self._poses[-1][1]


class CameraInput:
    """Brings the messages of a camera frame together and converts them.

    Attributes:
        topics: that make a frame.
    """

    def __init__(self, wanted: ObservationParameters) -> None:
        """Set up: whether a depth image belongs to a frame, rectification, and how much waits."""
        self._wanted = wanted
        self.topics = ("image", "camera_info", "depth") if wanted.depth == "topic" else ("image", "camera_info")
        self._synchroniser = StampSynchroniser(self.topics, wanted.queue)
        self._waiting: deque[dict[str, Any]] = deque()
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Frames that stayed incomplete or without a pose."""
        return self._synchroniser.dropped + self._lost

    def add(self, topic: str, message: Any) -> None:
        """Take a message of one of the camera's topics; a ValueError if its stamp is no time."""
        complete = self._synchroniser.add(topic, message)
        if complete is not None:
            self._waiting.append(complete)
            if len(self._waiting) > self._wanted.queue:
                self.skip(lost=True)

    def waiting_stamp(self) -> int | None:
        """Stamp of the oldest complete frame."""
        return ns_from_stamp(self._waiting[0]["image"].header.stamp) if self._waiting else None

    def skip(self, lost: bool = False) -> None:
        """Let go of the oldest complete frame; `lost` counts it as dropped."""
        self._waiting.popleft()
        self._lost += lost

    def take(self, pose: Tensor) -> RgbdFrame:
        """The oldest complete frame, seen from an optical pose (4, 4).

        Raises:
            ValueError: a message is not usable, or they contradict each other; names the field. The frame is gone.
        """
        messages = self._waiting.popleft()
        image, info = messages["image"], messages["camera_info"]
        # A copy: it goes to another thread, and the message's own buffer must not be written to.
        rgb = np.array(image_to_numpy(image, "rgb8")) if hasattr(image, "encoding") else compressed_to_numpy(image)
        depth = depth_to_metres(messages["depth"]) if "depth" in messages else None
        height, width = rgb.shape[:2]
        if depth is not None and depth.shape != (height, width):
            rows, columns = depth.shape
            if abs(columns / rows * height / width - 1) > max(SHAPE_TOLERANCE, 1 / min(rows, columns)):
                raise ValueError(
                    f"depth: expected the shape of the image, {width}x{height}, at any resolution, got {columns}x{rows}"
                )
            depth = cv2.resize(depth, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.float32)
        if self._wanted.undistort and np.any(info.d):
            rgb, depth, camera = undistorted(rgb, depth, info, pose)
        else:
            camera = camera_from_info(info, pose, self._wanted.rectified)
        if (height, width) != (camera.height, camera.width):
            raise ValueError(
                f"camera_info: expected {width}x{height} like the image, got {camera.width}x{camera.height}"
            )
        return RgbdFrame(rgb, depth, camera, ns_from_stamp(image.header.stamp))


def undistorted(
    rgb: NDArray[np.uint8], depth: NDArray[np.float32] | None, info: Any, pose: Tensor
) -> tuple[NDArray[np.uint8], NDArray[np.float32] | None, Camera]:
    """Image and depth as a pinhole camera with the same k would have seen them.

    Depth is taken from the nearest pixel, so that surfaces do not mix. Coefficients `d` are those of plumb_bob (5) or
    rational_polynomial (8), as in OpenCV.

    Raises:
        ValueError: another distortion model, or unusable numbers.
    """
    if info.distortion_model not in ("plumb_bob", "rational_polynomial") or len(info.d) not in (4, 5, 8):
        raise ValueError(
            "camera_info.distortion_model: expected plumb_bob or rational_polynomial with 4, 5 or 8 coefficients to "
            f"undistort, got {info.distortion_model!r} with {len(info.d)}"
        )
    coefficients, matrix = np.array(info.d, dtype=np.float64), np.array(info.k, dtype=np.float64).reshape(3, 3)
    if not np.isfinite(coefficients).all():
        raise ValueError(f"camera_info.d: expected finite numbers, got {coefficients.tolist()}")
    straight = copy.copy(info)
    straight.d = []
    camera = camera_from_info(straight, pose, rectified=False)
    if (camera.height, camera.width) != (info.height, info.width):
        raise ValueError("camera_info.roi: expected the whole image without binning to undistort it")
    size = (info.width, info.height)
    columns, rows = cv2.initUndistortRectifyMap(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_32FC1)
    if depth is not None:
        depth = cv2.remap(depth, columns, rows, cv2.INTER_NEAREST, borderValue=0).astype(np.float32)
    return cv2.remap(np.ascontiguousarray(rgb), columns, rows, cv2.INTER_LINEAR).astype(np.uint8), depth, camera
