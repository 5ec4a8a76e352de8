"""What a client asks a node besides goals: previews, grids of occupancy, scores of views."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.client.arguments import flag, one_of, real, whole
from mirage_ros.client.link import Link, wait_for
from mirage_ros.occupancy.prospects import ViewScore
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.conversions import (
    camera_from_info,
    grid_to_cells,
    image_to_numpy,
    ns_from_stamp,
    numpy_to_image,
    pose_to_stamped,
    poses_to_path,
    stamp_from_ns,
)
from mirage_ros.ros.parameters import MAX_SEED, POSES_OF

ANSWERS = ("preview/image", "preview/visibility", "preview/camera_info")


class Previews:
    """Asks for previews, one at a time, each answered by three topics with one stamp; any thread may ask."""

    def __init__(self, link: Link) -> None:
        """Set up; the topics are listened to from the first question on."""
        self._link, self._listening = link, False
        self._answers: dict[int, dict[str, Any]] = {}
        self._turn = threading.Lock()

    def ask(self, pose: Tensor, world_frame: str, limit: float) -> ImaginedFrame:
        """What the memory knows of a view.

        Args:
            pose: (4, 4) float64, optical.
            world_frame: that it is in.
            limit: time.monotonic() at which it is too late.

        Raises:
            TimeoutError: the node did not answer.
        """
        link = self._link
        with self._turn:
            if not self._listening:
                self._listening = True
                for name in ANSWERS:
                    link.listen(name, partial(self._note, name))
            publisher = link.publisher("preview/pose")
            answering = lambda: all(link.node.count_publishers(link.prefix + name) for name in ANSWERS)  # noqa: E731
            wait_for(lambda: publisher.get_subscription_count() and answering(), limit)
            stamp = link.now()
            answer: dict[str, Any] = {}
            self._answers = {stamp: answer}
            publisher.publish(pose_to_stamped(pose, Header(stamp=stamp_from_ns(stamp), frame_id=world_frame)))
            late = "preview: the node did not answer; has it seen a camera frame?"
            wait_for(lambda: len(answer) == len(ANSWERS), limit, late)
        image, visibility, info = (answer[name] for name in ANSWERS)
        visible, camera = image_to_numpy(visibility), camera_from_info(info, pose)
        rgb = image_to_numpy(image, "rgb8")
        # No depth comes with a preview: it is unknown everywhere.
        depth = np.zeros_like(visible)
        return ImaginedFrame(rgb, depth, camera, stamp, visible=visible, coverage=visible.mean())

    def _note(self, name: str, message: Any) -> None:
        answer = self._answers.get(ns_from_stamp(message.header.stamp))
        if answer is not None:
            answer[name] = message


@dataclass(frozen=True, eq=False)
class Grid:
    """Occupancy of the ground in the world frame.

    Attributes:
        cells: (rows, columns) int8, rows along y, columns along x: 0 free to 100 occupied, -1 where it says nothing.
        resolution: metres, side of a cell.
        corner: (2,) metres, x and y of the corner of cell (0, 0).
    """

    cells: NDArray[np.int8]
    resolution: float
    corner: NDArray[np.float64]

    def at(self, places: NDArray[np.floating]) -> NDArray[np.int8]:
        """(...) values at places (..., 2 or more) x, y metres; -1 off the grid."""
        columns, rows = np.floor((np.asarray(places)[..., :2] - self.corner) / self.resolution).astype(int).T
        inside = (rows >= 0) & (rows < len(self.cells)) & (columns >= 0) & (columns < self.cells.shape[1])
        values = np.full(inside.shape, -1, np.int8)
        values[inside] = self.cells[rows[inside], columns[inside]]
        return values.T

    @property
    def centres(self) -> NDArray[np.float64]:
        """(rows, columns, 2) metres, x and y of the cells' middles."""
        rows, columns = np.indices(self.cells.shape)
        return np.stack([columns + 0.5, rows + 0.5], axis=-1) * self.resolution + self.corner


class Grids:
    """Listens to the topics of grids from the first question on; they keep the last message for whoever comes late."""

    def __init__(self, link: Link) -> None:
        """Set up."""
        self._link = link
        self._newest: dict[str, Any] = {}

    def newest(self, topic: str, limit: float) -> Grid:
        """The newest grid of a topic; a TimeoutError if none came until time.monotonic() was at the limit."""
        if topic not in self._newest:
            self._newest[topic] = None
            self._link.listen(topic, lambda message: self._newest.__setitem__(topic, message))
        wait_for(
            lambda: self._newest[topic], limit, f"occupancy: nothing on {topic}; has the node seen a camera frame?"
        )
        cells, resolution, corner = grid_to_cells(self._newest[topic])
        return Grid(cells, resolution, corner)


def _path(index: int, poses: Tensor | NDArray[np.floating]) -> Tensor:
    """One view (4, 4) or a path of them as (T, 4, 4) float64; a ValueError for anything else."""
    path = torch.as_tensor(poses).double()
    if path.shape[-2:] != (4, 4) or path.ndim not in (2, 3):
        raise ValueError(f"paths[{index}]: expected (4, 4) or (T, 4, 4) poses, got {tuple(path.shape)}")
    return path.reshape(-1, 4, 4)


def ask_scores(
    link: Link,
    timeout: float,
    paths: Sequence[Tensor | NDArray[np.floating]],
    header: Header,
    pose_of: str,
    goal: NDArray[np.uint8] | None,
    imagine: bool,
    seed: int,
    radius: float,
) -> list[ViewScore]:
    """The scores of (T, 4, 4) paths in the frame of a header; the rest as `Mirage.score_views` has it.

    Raises:
        ValueError: poses are of nothing that there is, or another argument is no such thing; names it.
    """
    answer = link.ask(
        "score_views",
        timeout,
        paths=[poses_to_path(_path(index, poses), header) for index, poses in enumerate(paths)],
        pose_of=one_of("pose_of", pose_of, POSES_OF),
        goal=Image() if goal is None else numpy_to_image(goal, "rgb8", header),
        imagine=flag("imagine", imagine),
        seed=whole("seed", seed, -1, MAX_SEED),
        radius=real("radius", radius),
    )
    if answer.message:
        link.node.get_logger().warning(f"score_views: {answer.message}", once=True)
    names = [field.name for field in fields(ViewScore)]
    return [ViewScore(**{name: getattr(score, name) for name in names}) for score in answer.scores]
