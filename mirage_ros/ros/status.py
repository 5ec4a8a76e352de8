"""What the node tells about itself: refused messages, silent topics, status and diagnostics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.node import Node
from std_msgs.msg import Header

from mirage_ros.msg import MemoryStatus
from mirage_ros.ros.requests import Snapshot

# A refusal or another event is reported for this many seconds after it happened.
FRESH = 10.0
OK, WARN, ERROR, STALE = (
    DiagnosticStatus.OK,
    DiagnosticStatus.WARN,
    DiagnosticStatus.ERROR,
    DiagnosticStatus.STALE,
)


@dataclass
class _Event:
    message: str
    time: float
    count: int = 1


class Health:
    """Collects what goes wrong; any thread may report.

    Attributes:
        refused: number of refused messages of each topic since the start.
        failure: why the last transition failed; empty if it did not.
    """

    def __init__(self, node: Node, silence: Callable[[], float]) -> None:
        """Set up.

        Args:
            node: logs, and names what is reported.
            silence: seconds after which a topic counts as silent.
        """
        self._node, self._silence = node, silence
        self._events: dict[str, _Event] = {}
        self._expected: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self.refused: dict[str, int] = {}
        self.failure = ""

    def expect(self, *topics: str) -> None:
        """Topics that must not be silent from now on, and no others."""
        self._expected = dict.fromkeys(topics, time.monotonic())
        self._heard.clear()

    def heard(self, topic: str) -> None:
        """A message came."""
        self._heard[topic] = time.monotonic()

    def refuse(self, topic: str, reason: str) -> None:
        """A message was not used."""
        self.refused[topic] = self.refused.get(topic, 0) + 1
        self.event(topic, f"refused: {reason}")
        self._node.get_logger().warning(f"{topic}: {reason}; ignored", throttle_duration_sec=2.0)

    def event(self, topic: str, message: str) -> None:
        """Something happened that is worth a warning for a while."""
        message = message[:500]
        old = self._events.get(topic)
        self._events[topic] = _Event(message, time.monotonic(), old.count + 1 if old else 1)

    def subscription_events(self, topic: str) -> SubscriptionEventCallbacks:
        """Reports publishers whose quality of service this subscription cannot hear."""
        return SubscriptionEventCallbacks(
            incompatible_qos=lambda info: self._mismatch(topic, "a publisher offers less than", info),
            use_default_callbacks=False,
        )

    def publisher_events(self, topic: str) -> PublisherEventCallbacks:
        """Reports subscribers whose quality of service this publisher does not serve."""
        return PublisherEventCallbacks(
            incompatible_qos=lambda info: self._mismatch(topic, "a subscriber asks for more than", info),
            use_default_callbacks=False,
        )

    def _mismatch(self, topic: str, what: str, info: Any) -> None:
        text = f"QoS mismatch: {what} this node's (policy {info.last_policy_kind}); nothing is delivered between them"
        self.event(topic, text)
        self._node.get_logger().warning(f"{topic}: {text}", throttle_duration_sec=2.0)

    def silent(self) -> list[tuple[str, float]]:
        """Expected topics that are silent, and for how many seconds."""
        now = time.monotonic()
        quiet = [(topic, now - self._heard.get(topic, since)) for topic, since in self._expected.items()]
        return [(topic, seconds) for topic, seconds in quiet if seconds > self._silence()]

    def diagnostics(self, state: str, snapshot: Snapshot | None, backlog: int, notes: tuple[str, ...]) -> Any:
        """The message for /diagnostics.

        Args:
            state: of the lifecycle.
            snapshot: of the engine, if there is one.
            backlog: jobs that wait.
            notes: fallbacks of perception.
        """
        statuses = [self._lifecycle(state)]
        if state == "active":
            statuses.append(self._inputs())
        if snapshot is not None:
            statuses += [self._memory(snapshot), self._work(snapshot, backlog, notes)]
        stamp = self._node.get_clock().now().to_msg()
        return DiagnosticArray(header=Header(stamp=stamp), status=statuses)

    def _status(self, part: str, level: bytes, message: str, **values: object) -> DiagnosticStatus:
        name = self._node.get_fully_qualified_name()
        pairs = [KeyValue(key=key, value=str(value)) for key, value in values.items()]
        return DiagnosticStatus(level=level, name=f"{name}: {part}", message=message, hardware_id=name, values=pairs)

    def _lifecycle(self, state: str) -> DiagnosticStatus:
        if state == "active":
            return self._status("lifecycle", OK, "active", state=state)
        step = "configure, then activate" if state == "unconfigured" else "activate"
        name = self._node.get_fully_qualified_name()
        advice = f"{state}: {step} it (ros2 lifecycle set {name} {step.split(',')[0]}), or set autostart"
        if self.failure:
            return self._status("lifecycle", ERROR, f"{self.failure}; {advice}", state=state)
        return self._status("lifecycle", WARN, advice, state=state)

    def _inputs(self) -> DiagnosticStatus:
        problems = []
        for topic, seconds in self.silent():
            full = self._node.resolve_topic_name(topic)
            publishers = self._node.count_publishers(full)
            hint = "nobody publishes it" if not publishers else f"{publishers} publisher(s), but nothing arrives"
            problems.append(f"no {topic} for {seconds:.0f} s on {full} ({hint})")
        now = time.monotonic()
        for topic, event in list(self._events.items()):
            if now - event.time < FRESH:
                problems.append(f"{topic}: {event.message}")
        level, message = (WARN, "; ".join(problems)) if problems else (OK, "all topics are heard")
        counts = {f"refused {topic}": count for topic, count in self.refused.items()}
        return self._status("inputs", level, message, **counts)

    def _memory(self, snapshot: Snapshot) -> DiagnosticStatus:
        level, message = OK, f"{snapshot.elements} elements of {snapshot.frames} frames"
        if snapshot.evicted:
            level, message = WARN, f"{message}; full: {snapshot.evicted} elements were evicted (memory.max_bytes)"
        elif not snapshot.elements:
            level, message = WARN, "empty: nothing can be imagined before the first camera frame"
        return self._status("memory", level, message, bytes=snapshot.bytes, max_bytes=snapshot.max_bytes)

    def _work(self, snapshot: Snapshot, backlog: int, notes: tuple[str, ...]) -> DiagnosticStatus:
        message = "; ".join([snapshot.stage, *notes])
        level = WARN if backlog > 4 or notes else OK
        if backlog > 4:
            message = f"{message}; {backlog} pieces of work wait: more is asked for than this device can do"
        return self._status("work", level, message, backlog=backlog)


def memory_status(snapshot: Snapshot, header: Header, backlog: int, dropped: int) -> MemoryStatus:
    """The message for memory/status."""
    message = MemoryStatus(
        header=header,
        elements=snapshot.elements,
        bytes=snapshot.bytes,
        max_bytes=snapshot.max_bytes,
        evicted=snapshot.evicted,
        frames=snapshot.frames,
        observed_frames=snapshot.observed_frames,
        visibility=snapshot.visibility,
        backlog=backlog,
        dropped=dropped,
        state=snapshot.stage,
        **{f"{stage}_time": seconds for stage, seconds in snapshot.seconds.items()},
    )
    if math.isfinite(snapshot.written):
        age = time.monotonic() - snapshot.written
        message.age = Duration(sec=int(age), nanosec=int(age % 1 * 1e9))
    return message
