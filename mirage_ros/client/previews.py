"""Previews for a client: one question at a time, answered by three topics with one stamp."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import numpy as np
from std_msgs.msg import Header
from torch import Tensor

from mirage_ros.client.link import Link, wait_for
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.conversions import camera_from_info, image_to_numpy, ns_from_stamp, pose_to_stamped, stamp_from_ns

ANSWERS = ("preview/image", "preview/visibility", "preview/camera_info")


class Previews:
    """Asks for previews; any thread may, and they take turns."""

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
