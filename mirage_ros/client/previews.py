"""Previews for a client: one question at a time, answered by three topics with one stamp."""

from __future__ import annotations

import threading
import time
from typing import Any

from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.client.link import Link, wait_for
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.conversions import camera_from_info, image_to_numpy, ns_from_stamp, pose_to_stamped, stamp_from_ns
from mirage_ros.ros.topics import topic

ANSWERS = ("preview/image", "preview/visibility", "preview/camera_info")


class Previews:
    """Asks for previews; any thread may, and they take turns."""

    def __init__(self, link: Link) -> None:
        """Set up; the topics are listened to from the first question on."""
        self._link = link
        self._listening = False
        self._answers: dict[int, dict[str, Any]] = {}
        self._turn, self._changed = threading.Lock(), threading.Condition()

    def ask(self, pose: Tensor, world_frame: str, limit: float) -> ImaginedFrame:
        """What the memory knows of a view.

        Args:
            pose: (4, 4) float64, optical.
            world_frame: that it is in.
            limit: time.monotonic() at which it is too late.

        Raises:
            TimeoutError: the node did not answer.
        """
        with self._turn:
            self._listen(limit)
            stamp = self._link.now()
            message = pose_to_stamped(pose, Header(stamp=stamp_from_ns(stamp), frame_id=world_frame))
            with self._changed:
                self._answers.clear()
                self._link.publisher("preview/pose").publish(message)
                while len(self._answers.get(stamp, ())) < len(ANSWERS):
                    if not self._changed.wait(max(limit - time.monotonic(), 0)):
                        raise TimeoutError("preview: the node did not answer; has it seen a camera frame?")
                image, visibility, info = (self._answers[stamp][name] for name in ANSWERS)
        visible = image_to_numpy(visibility)
        camera = camera_from_info(info, pose)
        return ImaginedFrame(
            image_to_numpy(image, "rgb8"), None, camera, stamp, visible=visible, coverage=visible.mean()
        )

    def _listen(self, limit: float) -> None:
        node, prefix = self._link.node, self._link.prefix
        if not self._listening:
            self._listening = True
            for name in ANSWERS:
                row = topic(name)
                node.create_subscription(
                    row.kind,
                    prefix + name,
                    lambda message, name=name: self._note(name, message),
                    row.qos(output="best_effort"),
                )
        publisher = self._link.publisher("preview/pose")
        wait_for(
            lambda: (
                publisher.get_subscription_count() and all(node.count_publishers(prefix + name) for name in ANSWERS)
            ),
            limit,
        )

    def _note(self, name: str, message: Any) -> None:
        with self._changed:
            self._answers.setdefault(ns_from_stamp(message.header.stamp), {})[name] = message
            self._changed.notify_all()
