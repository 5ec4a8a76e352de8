"""What a planner gets back, as numpy arrays, and the errors that it may meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from action_msgs.msg import GoalStatus
from numpy.typing import NDArray

from mirage_ros.action import Imagine
from mirage_ros.geometry import Camera
from mirage_ros.msg import ImaginedTrajectory
from mirage_ros.ros.conversions import camera_from_info, image_to_numpy, path_to_poses


class MirageError(RuntimeError):
    """The node refused or failed; the message is its reason."""


class ImaginationCancelled(MirageError):  # noqa: N818  (not an error: somebody asked for it)
    """The goal was cancelled.

    Attributes:
        partial: what was finished before.
    """

    def __init__(self, message: str, partial: Imagination) -> None:
        super().__init__(message)
        self.partial = partial


@dataclass(frozen=True, eq=False)
class Imagined:
    """What was imagined along one candidate.

    Attributes:
        label: of the candidate.
        poses: (T, 4, 4) float64 optical cam2world in the world frame.
        stamps: (T,) int64 nanoseconds.
        coverage: (T,) float32 share of the view that the memory knew before.
        rgb: (T, H, W, 3) uint8; without rows if frames were not asked for, as are the next two.
        depth: (T, H, W) float32 metres along the optical axis, +inf where too far to tell (sky), 0 where unknown.
        visible: (T, H, W) float32, 0 where invented, 1 where remembered.
        camera: optics of the frames and their poses, (T,); None while nothing was imagined.
    """

    label: str
    poses: NDArray[np.float64]
    stamps: NDArray[np.int64]
    coverage: NDArray[np.float32]
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    visible: NDArray[np.float32]
    camera: Camera | None

    def __len__(self) -> int:
        return len(self.poses)


@dataclass(frozen=True, eq=False)
class Imagination:
    """The result of one goal.

    Attributes:
        trajectories: one for each candidate, in order.
        seed: that was used.
        seconds: from the start of the work to its end, on the node.
        seconds_per_frame: of all candidates.
    """

    trajectories: tuple[Imagined, ...]
    seed: int
    seconds: float
    seconds_per_frame: float


@dataclass(frozen=True, eq=False)
class PreviewFrame:
    """What the memory knows of one view.

    Attributes:
        rgb: (H, W, 3) uint8, dark grey where nothing is known.
        visible: (H, W) float32, 0 or 1.
        camera: its optics and pose.
    """

    rgb: NDArray[np.uint8]
    visible: NDArray[np.float32]
    camera: Camera

    @property
    def coverage(self) -> float:
        """Share of the view that is known."""
        return float(self.visible.mean())


def imagination_of(result: Any, status: int) -> Imagination:
    """The result of a goal that succeeded.

    Raises:
        ImaginationCancelled, MirageError: it did not.
    """
    imagination = Imagination(
        tuple(imagined_of(message) for message in result.trajectories),
        int(result.seed),
        result.duration.sec + result.duration.nanosec * 1e-9,
        float(result.seconds_per_frame),
    )
    # A node that is deactivated gives goals up without having been asked by their clients.
    if status == GoalStatus.STATUS_CANCELED or result.status == Imagine.Result.CANCELLED:
        raise ImaginationCancelled(result.message or "cancelled", imagination)
    if status != GoalStatus.STATUS_SUCCEEDED or result.status != Imagine.Result.OK:
        raise MirageError(f"imagine: {result.message or 'the node gave no reason'}")
    return imagination


def imagined_of(message: ImaginedTrajectory) -> Imagined:
    """One trajectory of a result as arrays."""
    if not message.path.poses:
        empty = np.zeros((0, 0, 0))
        return Imagined(
            message.label,
            np.zeros((0, 4, 4)),
            np.zeros(0, np.int64),
            np.zeros(0, np.float32),
            np.zeros((0, 0, 0, 3), np.uint8),
            empty.astype(np.float32),
            empty.astype(np.float32),
            None,
        )
    poses, _, stamps = path_to_poses(message.path)
    optics = camera_from_info(message.camera_info, poses[0])
    height, width = (optics.height, optics.width) if message.images else (0, 0)

    def stacked(images: Any, shape: tuple[int, ...], kind: Any) -> Any:
        return np.stack([image_to_numpy(image) for image in images]) if images else np.zeros((0, *shape), kind)

    return Imagined(
        label=message.label,
        poses=poses.numpy(),
        stamps=np.array(stamps, np.int64),
        coverage=np.array(message.coverage, np.float32),
        rgb=stacked(message.images, (height, width, 3), np.uint8),
        depth=stacked(message.depths, (height, width), np.float32),
        visible=stacked(message.visibilities, (height, width), np.float32),
        camera=optics.at(poses),
    )
