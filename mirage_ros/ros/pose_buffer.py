"""The poses that a camera had, from a topic, for any moment between them."""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor

from mirage_ros.trajectory import interpolate

# Poses that are remembered: ten seconds at 100 Hz.
POSES = 1000
# A pose this much older than the image still counts, if none comes after it: half a second.
MAX_EXTRAPOLATION = 500_000_000
# Images and poses out of order by up to this much are late; by more, the clock was set back.
CLOCK_RESET = 2_000_000_000
# Entries of two poses that differ by no more are those of a camera that stood still in between.
STILL = 0.01


class PoseBuffer:
    """The camera's last poses, for any moment between them."""

    def __init__(self, size: int = POSES, max_gap: float = math.inf) -> None:
        """Set up: how many are kept, and seconds between two beyond which nothing is known in between."""
        self._poses: deque[tuple[int, Tensor]] = deque(maxlen=size)
        self._max_gap = max_gap

    def move(self, change: Tensor) -> None:
        """All poses as seen after the world was moved by a (4, 4) transform."""
        self._poses = deque(((stamp, change @ pose) for stamp, pose in self._poses), maxlen=self._poses.maxlen)

    def add(self, stamp: int, pose: Tensor) -> None:
        """Append a (4, 4) pose; one that is older than the last starts anew, as after a clock was set back."""
        if self._poses and stamp < self._poses[-1][0]:
            if self._poses[-1][0] - stamp < CLOCK_RESET:
                return
            self._poses.clear()
        if self._poses and stamp == self._poses[-1][0]:
            self._poses.pop()
        self._poses.append((stamp, pose))

    def set_back(self, stamp: int) -> None:
        """Start anew if there are poses from later, nanoseconds: all are of before the clock was set back to then."""
        if self._poses and self._poses[-1][0] > stamp:
            self._poses.clear()

    def at(self, stamp: int) -> Tensor | None:
        """The (4, 4) pose at a moment in nanoseconds; None while a pose from after it is still to come.

        A ValueError if the moment is before all poses that are known, or in a gap of them.
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
        if time - before > self._max_gap * 1e9 and float((pose - earlier).abs().max()) > STILL:
            raise ValueError(
                f"camera_pose: expected poses at most {self._max_gap:g} s apart (observation.max_gap) around the "
                f"image's stamp {stamp * 1e-9:.3f}, got none from {before * 1e-9:.3f} to {time * 1e-9:.3f}"
            )
        # Nanoseconds since the epoch are too large for exact differences in float64; relative ones are not.
        times = torch.tensor([0.0, float(time - before)], dtype=torch.float64)
        query = torch.tensor([float(stamp - before)], dtype=torch.float64)
        return interpolate(torch.stack([earlier, pose]), times, query)[0]

    def span(self) -> str:
        """What is known, in words."""
        if not self._poses:
            return "got none"
        first, last = self._poses[0][0], self._poses[-1][0]
        return f"got those from {first * 1e-9:.3f} to {last * 1e-9:.3f}"

    def latest(self, stamp: int) -> Tensor | None:
        """The last pose, if it is at most half a second older than the moment."""
        if not self._poses or stamp - self._poses[-1][0] > MAX_EXTRAPOLATION:
            return None
        return self._poses[-1][1]
