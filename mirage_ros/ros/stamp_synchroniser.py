"""Messages of several topics brought together by their stamps: equal ones where there are, else the nearest."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from mirage_ros.ros.conversions import ns_from_stamp

# The topic that others are matched to, and the one of which the last message holds where it is sent seldom.
PIVOT, KEPT = "image", "camera_info"
# Seconds that an image waits at least before the last camera_info is taken for its own.
KEPT_PATIENCE = 0.1
# Cameras whose full queues are kept beside each other; of more, what came first goes.
CAMERAS = 4
Waiting = OrderedDict[tuple[int, str], Any]
# Frame ids of which something is kept.
MOST_FRAMES = 64


class StampSynchroniser:
    """Collects messages until every topic has one for an image.

    For each image a topic gives the message with the same stamp, or, once nothing nearer can come, the nearest one
    within the slop. camera_info gives its last message of the image's frame_id where there is none, because some
    drivers send it once. Of cameras that share a topic, messages of the same frame_id belong together; each has a clock
    and a queue of its own.

    Attributes:
        dropped: images given up because newer ones of their camera were complete or filled the queue.
    """

    def __init__(self, topics: Iterable[str], size: int = 10, slop: float = 0.0) -> None:
        """Set up.

        Args:
            topics: that make a complete set, 'image' among them.
            size: messages of a topic and frame_id that wait at most; the one that came first is dropped beyond.
            slop: seconds by which stamps may differ.
        """
        self._partners = tuple(name for name in topics if name != PIVOT)
        self._size, self._slop = size, round(slop * 1e9)
        # By (stamp, frame_id), in the order of arrival; images with the time at which they came.
        self._images: Waiting = OrderedDict()
        self._others: dict[str, Waiting] = {name: OrderedDict() for name in self._partners}
        self._kept: dict[str, Any] = {}
        # Frame ids of images: what bears another image's is that one's.
        self._cameras: dict[str, None] = {}
        self.dropped = 0

    def add(self, topic: str, message: Any, now: float) -> None:
        """Take a message with a header at a time in seconds of a steady clock.

        Raises:
            ValueError: a topic that was not announced, or a stamp that is no time.
        """
        if topic != PIVOT and topic not in self._others:
            raise ValueError(f"topic: expected one of {sorted((PIVOT, *self._others))}, got {topic!r}")
        frame = message.header.frame_id
        key = (ns_from_stamp(message.header.stamp), frame)
        if topic == PIVOT:
            self._cameras[frame] = None
            keep_newest(self._cameras, frame)
            self._images[key] = (message, now)
            self.dropped += self._bound(self._images, frame)
            return
        if topic == KEPT:
            self._kept[frame] = message
            keep_newest(self._kept, frame)
        self._others[topic][key] = message
        self._bound(self._others[topic], frame)

    def complete(self, now: float) -> list[tuple[dict[str, Any], float]]:
        """Sets by topic that are complete by now, in the order of their stamps, and when their images came.

        Images of a camera that are older than one of these are given up.
        """
        found = []
        for key in sorted(self._images):
            image, arrived = self._images[key]
            parts = {PIVOT: image}
            for topic in self._partners:
                match = self._match(topic, key, now - arrived)
                if match is None:
                    break
                parts[topic] = match
            else:
                found.append((key, parts, arrived))
        for (stamp, frame), parts, _ in found:
            del self._images[stamp, frame]
            self.dropped += _drop_older(self._images, frame, stamp)
            for topic, waiting in self._others.items():
                _drop_older(waiting, parts[topic].header.frame_id, stamp - self._slop)
        return [(parts, arrived) for _, parts, arrived in found]

    def forget_after(self, stamp: int, frame: str | None = None) -> None:
        """Let go of what is stamped later, nanoseconds, as after a clock was set back to then.

        Args:
            stamp: of the newest that stays.
            frame: of the images whose clock it was, with all that may belong to them; None for everybody's.
        """
        foreign = set() if frame is None else self._cameras.keys() - {frame}
        for waiting in (self._images, *self._others.values()):
            for key in [key for key in waiting if key[0] > stamp and key[1] not in foreign]:
                del waiting[key]

    def _bound(self, waiting: Waiting, frame: str) -> int:
        """Drop what came first of too many of a frame_id, or of all; how many that were."""
        own = [key for key in waiting if key[1] == frame]
        gone = own[: -self._size] or list(waiting)[: -self._size * CAMERAS]
        for key in gone:
            del waiting[key]
        return len(gone)

    def _match(self, topic: str, key: tuple[int, str], waited: float) -> Any:
        """The message of a topic that belongs to an image; None while there is none."""
        (stamp, frame), foreign = key, self._cameras.keys() - {key[1]}
        waiting = {other: message for other, message in self._others[topic].items() if other[1] not in foreign}
        if key in waiting:
            return waiting[key]
        nearest = min(waiting, key=lambda other: (abs(other[0] - stamp), other[1] != frame), default=None)
        if nearest is not None and nearest[0] == stamp:
            return waiting[nearest]
        if nearest is not None and abs(nearest[0] - stamp) <= self._slop:
            # Streams come in order: what is later than the image has passed by all that could be nearer.
            passed = any(other[0] > stamp and other[1] == nearest[1] for other in waiting)
            if passed or waited * 1e9 > max(self._slop, 1):
                return waiting[nearest]
        if topic == KEPT and waited > KEPT_PATIENCE:
            return self._kept.get(frame, self._kept.get(""))
        return None


def _drop_older(waiting: Waiting, frame: str, stamp: int) -> int:
    """Drop what is of a frame_id and from before a moment, nanoseconds; how many that were."""
    older = [key for key in waiting if key[1] == frame and key[0] < stamp]
    for key in older:
        del waiting[key]
    return len(older)


def keep_newest(table: dict[str, Any], frame: str) -> None:
    """Let the entry of a frame_id be the newest of a table, and the oldest go: nobody has that many cameras."""
    table[frame] = table.pop(frame)
    while len(table) > MOST_FRAMES:
        del table[next(iter(table))]
