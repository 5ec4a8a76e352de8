"""Imagined frames as a subscriber gets them: five topics with one stamp."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.ros.conversions import (
    camera_from_info,
    depth_to_metres,
    image_to_numpy,
    ns_from_stamp,
    pose_from_stamped,
)

PARTS = ("imagined/image", "imagined/depth", "imagined/visibility", "imagined/camera_info", "imagined/pose")
# Frames that wait for their last parts; of topics that lose messages, some never come.
WAITING = 64


@dataclass(frozen=True, eq=False, kw_only=True)
class ReceivedFrame(ImaginedFrame):
    """An imagined frame as a subscriber gets it.

    Attributes:
        received: time.monotonic of its last part.
    """

    received: float


class FrameParts:
    """Brings the messages of `PARTS` together."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[int, dict[str, Any]] = OrderedDict()

    def add(self, name: str, message: Any) -> ReceivedFrame | None:
        """Take a message of one of the topics; the frame that it completes.

        Raises:
            ValueError: messages of one stamp are unusable or contradict each other.
        """
        stamp = ns_from_stamp(message.header.stamp)
        parts = self._waiting.setdefault(stamp, {})
        parts[name] = message
        if len(parts) < len(PARTS):
            if len(self._waiting) > WAITING:
                self._waiting.popitem(last=False)
            return None
        del self._waiting[stamp]
        image, depth, visibility, info, pose = (parts[part] for part in PARTS)
        visible = image_to_numpy(visibility)
        return ReceivedFrame(
            image_to_numpy(image, "rgb8"),
            depth_to_metres(depth),
            camera_from_info(info, pose_from_stamped(pose)[0]),
            stamp,
            visible=visible,
            coverage=visible.mean(),
            received=time.monotonic(),
        )
