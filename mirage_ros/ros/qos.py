"""Quality of service of the package's topics, in one place."""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

RELIABILITIES = ("reliable", "best_effort")


def image_qos(reliability: str = "reliable", depth: int = 10) -> QoSProfile:
    """For images and what travels with them.

    Reliable by default although sensors often are not: RViz and most subscribers ask for reliable, and a reliable
    publisher serves both kinds while a best-effort one is silently ignored by reliable subscribers.

    Raises:
        ValueError: an unknown reliability or a depth below one.
    """
    if reliability not in RELIABILITIES:
        raise ValueError(f"reliability: expected one of {', '.join(RELIABILITIES)}, got {reliability!r}")
    if depth < 1:
        raise ValueError(f"depth: expected at least one message, got {depth}")
    policy = ReliabilityPolicy.RELIABLE if reliability == "reliable" else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=policy)


def latched_qos() -> QoSProfile:
    """For state that a late subscriber must see at once: the last message, transient local."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )
