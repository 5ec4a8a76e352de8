"""Messages of several topics that carry the same stamp, brought together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mirage_ros.ros.conversions import ns_from_stamp


class StampSynchroniser:
    """Collects messages until every topic has one with the same stamp.

    Attributes:
        dropped: incomplete sets given up because newer ones filled the queue.
    """

    def __init__(self, topics: Iterable[str], size: int = 10) -> None:
        """Set up the queue.

        Args:
            topics: names that make a complete set.
            size: stamps waiting at most; the oldest is dropped beyond.
        """
        self._topics = frozenset(topics)
        if not self._topics:
            raise ValueError("topics: expected at least one, got none")
        if size < 1:
            raise ValueError(f"size: expected at least one waiting stamp, got {size}")
        self._size = size
        self._waiting: dict[int, dict[str, Any]] = {}
        self.dropped = 0

    def add(self, topic: str, message: Any) -> dict[str, Any] | None:
        """Take a message with a header.

        Returns:
            The complete set by topic, in case this message completes one. Older incomplete sets are dropped then: what
            is newer has overtaken them.

        Raises:
            ValueError: a topic that was not announced.
        """
        if topic not in self._topics:
            raise ValueError(f"topic: expected one of {sorted(self._topics)}, got {topic!r}")
        stamp = ns_from_stamp(message.header.stamp)
        entry = self._waiting.setdefault(stamp, {})
        entry[topic] = message
        if len(entry) == len(self._topics):
            stale = [other for other in self._waiting if other < stamp]
            for other in stale:
                del self._waiting[other]
            self.dropped += len(stale)
            return self._waiting.pop(stamp)
        if len(self._waiting) > self._size:
            # The one that came first, not the earliest stamp: after a clock jumps back, new stamps are the earliest.
            del self._waiting[next(iter(self._waiting))]
            self.dropped += 1
        return None
