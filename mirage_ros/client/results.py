"""What a planner gets back, as numpy arrays, and the errors that it may meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from action_msgs.msg import GoalStatus
from numpy.typing import NDArray

from mirage_ros.action import Imagine
from mirage_ros.geometry import Camera
from mirage_ros.msg import ImaginedTrajectory
from mirage_ros.rgbd import ImaginedFrame
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Imagined(ImaginedFrame):
    """What was imagined along one candidate: T frames, none where nothing was imagined.

    `rgb`, `depth` and `visible` are without rows if frames were not asked for; `stamp` is an array.

    Attributes:
        label: of the candidate.
    """

    label: str

    def __post_init__(self) -> None:
        if len(self.rgb):
            super().__post_init__()

    @property
    def poses(self) -> NDArray[np.float64]:
        """(T, 4, 4) optical cam2world in the world frame."""
        return self.camera.cam2world.numpy()

    @property
    def stamps(self) -> NDArray[np.int64]:
        """(T,) nanoseconds."""
        return np.asarray(self.stamp)


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


def imagination_of(result: Any, status: int) -> Imagination:
    """The result of a goal that succeeded; an ImaginationCancelled or MirageError of one that did not."""
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
    if message.path.poses:
        poses, _, stamps = path_to_poses(message.path)
        camera = camera_from_info(message.camera_info, poses[0]).at(poses)
    else:
        none, stamps = torch.zeros(0, 4, 4, dtype=torch.float64), []
        camera = Camera(torch.eye(3, dtype=torch.float64), none, 1, 1)

    def stacked(images: Any, kind: Any, *channels: int) -> Any:
        empty = np.zeros((0, camera.height, camera.width, *channels), kind)
        return np.stack([image_to_numpy(image) for image in images]) if images else empty

    return Imagined(
        label=message.label,
        stamp=np.array(stamps, np.int64),
        coverage=np.array(message.coverage, np.float32),
        rgb=stacked(message.images, np.uint8, 3),
        depth=stacked(message.depths, np.float32),
        visible=stacked(message.visibilities, np.float32),
        uncertainty=stacked(message.uncertainties, np.float32) if message.uncertainties else None,
        camera=camera,
    )
