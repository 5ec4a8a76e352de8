"""Camera frames from topics: image, optics and depth with one stamp, and the pose that the camera had then."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.ros.conversions import (
    camera_from_info,
    compressed_to_numpy,
    depth_to_metres,
    image_to_numpy,
    ns_from_stamp,
)
from mirage_ros.ros.requests import Observation
from mirage_ros.ros.synchroniser import StampSynchroniser
from mirage_ros.trajectory import interpolate

# Poses that are remembered: ten seconds at 100 Hz.
POSES = 1000
# A pose this much older than the image still counts, if none comes after it: half a second.
MAX_EXTRAPOLATION = 500_000_000
# Images out of order by up to this much are late; by more, the clock was set back.
CLOCK_RESET = 2_000_000_000


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

        Raises:
            ValueError: the moment is before all poses that are known.
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

    def clear(self) -> None:
        """Forget all."""
        self._poses.clear()


class CameraInput:
    """Brings the messages of a camera frame together and converts them.

    Attributes:
        topics: that make a frame.
    """

    def __init__(
        self,
        pose_at: Callable[[int], Tensor | None],
        *,
        depth: bool,
        rectified: bool = False,
        undistort: bool = False,
        queue: int = 10,
    ) -> None:
        """Set up.

        Args:
            pose_at: optical pose (4, 4) at a moment in nanoseconds; None if it is to be asked again later.
            depth: a depth image belongs to a frame.
            rectified: the images are rectified; see `camera_from_info`.
            undistort: rectify them here.
            queue: stamps that wait for the other messages, and complete frames that wait for a pose.
        """
        self._pose_at = pose_at
        self._rectified, self._undistort = rectified, undistort
        self.topics = ("image", "camera_info", "depth") if depth else ("image", "camera_info")
        self._synchroniser = StampSynchroniser(self.topics, queue)
        self._waiting: deque[dict[str, Any]] = deque()
        self._queue = queue
        self._lost = 0

    @property
    def dropped(self) -> int:
        """Frames that stayed incomplete or without a pose."""
        return self._synchroniser.dropped + self._lost

    def add(self, topic: str, message: Any) -> None:
        """Take a message of one of the camera's topics.

        Raises:
            ValueError: its stamp is no time.
        """
        complete = self._synchroniser.add(topic, message)
        if complete is not None:
            self._waiting.append(complete)
            if len(self._waiting) > self._queue:
                self._waiting.popleft()
                self._lost += 1

    def waiting_stamp(self) -> int | None:
        """Stamp of the oldest complete frame."""
        return ns_from_stamp(self._waiting[0]["image"].header.stamp) if self._waiting else None

    def skip(self) -> None:
        """Let go of the oldest complete frame."""
        self._waiting.popleft()

    def take(self) -> Observation | None:
        """The oldest complete frame as arrays; None while it waits for its pose.

        Raises:
            ValueError: it is not usable; it is gone then.
        """
        if not self._waiting:
            return None
        messages = self._waiting[0]
        stamp = ns_from_stamp(messages["image"].header.stamp)
        try:
            pose = self._pose_at(stamp)
        except ValueError:
            self._waiting.popleft()
            self._lost += 1
            raise
        if pose is None:
            return None
        self._waiting.popleft()
        return self.convert(messages, pose, stamp)

    def convert(self, messages: dict[str, Any], pose: Tensor, stamp: int) -> Observation:
        """Arrays of one frame's messages.

        Raises:
            ValueError: a message is not usable, or they contradict each other; names the field.
        """
        image, info = messages["image"], messages["camera_info"]
        # A copy: it goes to another thread, and the message's own buffer must not be written to.
        rgb = np.array(image_to_numpy(image, "rgb8")) if hasattr(image, "encoding") else compressed_to_numpy(image)
        depth = depth_to_metres(messages["depth"]) if "depth" in messages else None
        if self._undistort and np.any(info.d):
            rgb, depth, camera = undistorted(rgb, depth, info, pose)
        else:
            camera = camera_from_info(info, pose, self._rectified)
        if rgb.shape[:2] != (camera.height, camera.width):
            size, told = f"{rgb.shape[1]}x{rgb.shape[0]}", f"{camera.width}x{camera.height}"
            raise ValueError(f"camera_info: expected {size} like the image, got {told}")
        return Observation(rgb, depth, camera, stamp)


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
    straight = type(info)(
        header=info.header, height=info.height, width=info.width, k=info.k, r=info.r, roi=info.roi,
        binning_x=info.binning_x, binning_y=info.binning_y,
    )  # fmt: skip
    camera = camera_from_info(straight, pose, rectified=False)
    if (camera.height, camera.width) != (info.height, info.width):
        raise ValueError("camera_info.roi: expected the whole image without binning to undistort it")
    size = (info.width, info.height)
    columns, rows = cv2.initUndistortRectifyMap(matrix, coefficients, np.eye(3), matrix, size, cv2.CV_32FC1)
    if depth is not None:
        depth = cv2.remap(depth, columns, rows, cv2.INTER_NEAREST, borderValue=0).astype(np.float32)
    return cv2.remap(np.ascontiguousarray(rgb), columns, rows, cv2.INTER_LINEAR).astype(np.uint8), depth, camera
