"""A running node as the window's source."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from mirage_ros.client import ImaginationCancelled, Mirage
from mirage_ros.client.received import PARTS, FrameParts
from mirage_ros.media import Pixels
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.conversions import cloud_to_points, image_to_numpy, ns_from_stamp, path_to_poses
from mirage_ros.viewer.source import Listener, Task
from mirage_ros.world.results import Cancelled

# Columns of the robot's picture, and how many of its last ones wait for their pose.
COLUMNS, KEPT = 320, 100
# Seconds that a preview may take before the user is told.
PATIENCE = 10.0


class LiveNode:
    """A node `mirage` and the robot's camera."""

    def __init__(self, namespace: str = "", image: str = "image", timeout: float = 30.0) -> None:
        """Connect.

        Args:
            namespace: of the node.
            image: topic of the robot's camera, relative to the namespace.
            timeout: seconds to wait until the node is active.

        Raises:
            TimeoutError: no active node was found; says what was.
        """
        # Poses without a frame_id are in the node's world frame, whatever that is called.
        self._mirage = Mirage(namespace, timeout=timeout, world_frame="")
        self._image = image
        self._parts = FrameParts()
        self._pictures: OrderedDict[int, Pixels] = OrderedDict()
        self._lock = threading.Lock()

    def start(self, listener: Listener) -> None:
        """See `Source`."""
        handlers: dict[str, Callable[[Any], None]] = {
            "memory/points": lambda message: listener.cloud(*cloud_to_points(message)[:2]),
            "memory/frames": partial(self._on_frames, listener),
            "imagined/path": lambda message: listener.path(path_to_poses(message)[0]),
            **{name: partial(self._on_part, listener, name) for name in PARTS},
        }
        for name, handle in handlers.items():
            self._mirage.listen(name, handle)
        self._mirage.listen("image", partial(self._on_image, listener), at=self._image)

    def preview(self, pose: Tensor) -> ImaginedFrame:
        """See `Source`."""
        return self._mirage.preview(pose, PATIENCE)

    def imagine(self, paths: Sequence[Tensor], labels: Sequence[str], remember: bool) -> Task:
        """See `Source`."""
        goal = self._mirage.start(paths, labels=labels, remember=remember)
        task = Task(goal.cancel)

        def done(finished: Future[Any]) -> None:
            error = finished.exception()
            if isinstance(error, ImaginationCancelled):
                task.future.set_exception(Cancelled(str(error)))
            elif error is not None:
                task.future.set_exception(error)
            else:
                task.future.set_result(list(finished.result().trajectories))

        goal.future.add_done_callback(done)
        return task

    def close(self) -> None:
        """See `Source`."""
        self._mirage.close()

    def _on_part(self, listener: Listener, name: str, message: Any) -> None:
        frame = self._parts.add(name, message)
        if frame is not None:
            listener.imagined(frame)

    def _on_image(self, listener: Listener, message: Any) -> None:
        rgb = image_to_numpy(message, "rgb8")
        rows = max(1, round(rgb.shape[0] * COLUMNS / rgb.shape[1]))
        small = cv2.resize(rgb, (COLUMNS, rows), interpolation=cv2.INTER_AREA).astype(np.uint8)
        with self._lock:
            self._pictures[ns_from_stamp(message.header.stamp)] = small
            if len(self._pictures) > KEPT:
                self._pictures.popitem(last=False)
        listener.robot(small, None)

    def _on_frames(self, listener: Listener, message: Any) -> None:
        if not message.poses:
            return
        poses, _, stamps = path_to_poses(message)
        listener.observed(poses)
        with self._lock:
            picture = self._pictures.get(stamps[-1])
        if picture is not None:
            listener.robot(picture, poses[-1])
