"""What the node tells about itself: refused messages, silent topics, status and diagnostics."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from builtin_interfaces.msg import Duration
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from std_msgs.msg import Header

from mirage_ros.msg import MemoryStatus
from mirage_ros.ros.parameter_declaration import LiveParameters
from mirage_ros.ros.requests import Snapshot
from mirage_ros.ros.stamp_synchroniser import KEPT
from mirage_ros.ros.topics import CAMERA, INPUTS
from mirage_ros.world.results import Cancelled

# A refusal or another event is reported for this many seconds after it happened.
FRESH = 10.0
# Messages in a row with one stamp after which that is reported.
STUCK = 5
# Messages that make up a camera frame.
FRAME_TOPICS = tuple(row.name for row in INPUTS if row.delivery == CAMERA)
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class Health:
    """Collects what goes wrong; any thread may report.

    Attributes:
        refused: number of refused messages of each topic since the start.
        standing: by topic, what is wrong until it is taken out again.
        failure: why the last transition failed; empty if it did not.
    """

    def __init__(self, node: Node, live: LiveParameters) -> None:
        """Set up; the node logs, and names what is reported."""
        self._node, self._live = node, live
        self._events: dict[str, tuple[str, float]] = {}
        self._expected: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        # The last stamp of a topic, and how many messages have had it.
        self._stamps: dict[str, tuple[int, int]] = {}
        self.refused: dict[str, int] = {}
        self.standing: dict[str, str] = {}
        self.failure = ""

    def expect(self, *topics: str) -> None:
        """Topics that must not be silent from now on, and no others."""
        self._expected = dict.fromkeys(topics, time.monotonic())
        self._heard.clear()
        self._stamps.clear()

    def heard(self, topic: str) -> None:
        """A message came."""
        self._heard[topic] = time.monotonic()

    def stamped(self, topic: str, stamp: int) -> None:
        """A message came whose stamp, nanoseconds, should be its own alone."""
        last, count = self._stamps.get(topic, (stamp, 0))
        self._stamps[topic] = (stamp, count + 1 if last == stamp else 1)

    def refuse(self, topic: str, reason: str) -> None:
        """A message was not used.

        What is wrong with a camera frame shows when the last of its messages comes, which may be another: of these
        topics the one that the reason begins with counts, if it names one.
        """
        if topic in FRAME_TOPICS:
            topic = next((name for name in FRAME_TOPICS if reason.startswith((f"{name}: ", f"{name}."))), topic)
        reason = reason.removeprefix(f"{topic}: ")
        self.refused[topic] = self.refused.get(topic, 0) + 1
        self.event(topic, f"refused: {reason}")
        self._node.get_logger().warning(f"{topic}: {reason}; ignored", throttle_duration_sec=2.0)

    def watch(self, work: Future[Any], topic: str, part: str = "") -> None:
        """Refuse under a topic, the reason after a part's name, when work fails and was not cancelled."""

        def done(finished: Future[Any]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if error is not None and not isinstance(error, Cancelled):
                self.refuse(topic, f"{part}{error}")

        work.add_done_callback(done)

    def event(self, topic: str, message: str) -> None:
        """Something happened that is worth a warning for a while."""
        self._events[topic] = (message[:500], time.monotonic())

    def diagnostics(self, state: str, snapshot: Snapshot | None = None, backlog: int = 0) -> DiagnosticArray:
        """The message for /diagnostics in a state of the lifecycle; of the session, if there is one, and its queue."""
        statuses = [self._lifecycle(state)]
        if state == "active":
            problems = [*self._silent(), *self._stuck(), *self._mismatches(), *self._told()]
            level, message = (WARN, "; ".join(problems)) if problems else (OK, "all topics are heard")
            counts = {f"refused {topic}": count for topic, count in self.refused.items()}
            links = {topic: told for topic, told in self._fresh() if topic.startswith("tf ")}
            statuses.append(self._status("inputs", level, message, **counts, **links))
        if snapshot is not None:
            statuses += [self._memory(snapshot), self._work(snapshot, backlog)]
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

    def _silent(self) -> Iterator[str]:
        now, limit = time.monotonic(), self._live.current.status.silence
        for topic, since in self._expected.items():
            if topic == KEPT and topic in self._heard:
                # The last one holds, and some drivers send no other.
                continue
            seconds = now - self._heard.get(topic, since)
            if seconds > limit:
                full = self._node.resolve_topic_name(topic)
                publishers = self._node.count_publishers(full)
                hint = "nobody publishes it" if not publishers else f"{publishers} publisher(s), but nothing arrives"
                yield f"no {topic} for {seconds:.0f} s on {full} ({hint})"

    def _stuck(self) -> Iterator[str]:
        for topic, (stamp, count) in list(self._stamps.items()):
            if count >= STUCK:
                what = f"{stamp * 1e-9:.3f} s" if stamp else "zero"
                yield f"{topic}: stamps do not advance, the last {count} are {what}; one stamp is one frame"

    def _mismatches(self) -> Iterator[str]:
        """Publishers and subscribers whose quality of service does not fit the node's, as long as they are there."""
        node = self._node
        pairs = [
            (mine.topic_name, "a publisher offers less than", other.node_name, other.qos_profile, mine.qos_profile)
            for mine in node.subscriptions
            for other in node.get_publishers_info_by_topic(mine.topic_name)
        ]
        pairs += [
            (mine.topic_name, "a subscriber asks for more than", other.node_name, mine.qos_profile, other.qos_profile)
            for mine in node.publishers
            for other in node.get_subscriptions_info_by_topic(mine.topic_name)
        ]
        for topic, what, whose, offered, wanted in pairs:
            # `qos_check_compatible` takes the endless times of discovered endpoints for limits.
            policies = [
                name
                for name, less, more in (
                    ("reliability", ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE),
                    ("durability", DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL),
                )
                if getattr(offered, name) == less and getattr(wanted, name) == more
            ]
            if policies:
                name, why = topic.removeprefix(node.get_namespace()).lstrip("/"), " and ".join(policies)
                yield f"{name}: QoS mismatch: {what} this node's ({why} of {whose}); nothing is delivered between them"

    def _fresh(self) -> Iterator[tuple[str, str]]:
        since = time.monotonic() - FRESH
        yield from ((topic, message) for topic, (message, at) in list(self._events.items()) if at > since)

    def _told(self) -> Iterator[str]:
        yield from (f"{topic}: {message}" for topic, message in (*self._fresh(), *list(self.standing.items())))

    def _memory(self, snapshot: Snapshot) -> DiagnosticStatus:
        level, message = OK, f"{snapshot.elements} elements of {snapshot.frames} frames"
        if snapshot.evicted:
            level, message = WARN, f"{message}; full: {snapshot.evicted} elements were evicted (memory.max_bytes)"
        elif not snapshot.elements:
            level, message = WARN, "empty: nothing can be imagined before the first camera frame"
        return self._status("memory", level, message, bytes=snapshot.bytes, max_bytes=snapshot.max_bytes)

    def _work(self, snapshot: Snapshot, backlog: int) -> DiagnosticStatus:
        message = "; ".join([snapshot.stage, *snapshot.notes])
        level = WARN if backlog > 4 or snapshot.notes else OK
        if backlog > 4:
            message = f"{message}; {backlog} pieces of work wait: more is asked for than this device can do"
        return self._status("work", level, message, backlog=backlog)


def memory_status(snapshot: Snapshot, header: Header, backlog: int, dropped: int) -> MemoryStatus:
    """The message for memory/status."""
    same = ("elements", "bytes", "max_bytes", "evicted", "frames", "observed_frames", "visibility")
    message = MemoryStatus(
        header=header,
        backlog=backlog,
        dropped=dropped,
        state=snapshot.stage,
        **{name: getattr(snapshot, name) for name in same},
        **{f"{stage}_time": seconds for stage, seconds in snapshot.seconds.items()},
    )
    if math.isfinite(snapshot.written):
        age = time.monotonic() - snapshot.written
        message.age = Duration(sec=int(age), nanosec=int(age % 1 * 1e9))
    return message
