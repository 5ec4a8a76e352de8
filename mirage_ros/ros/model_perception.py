"""What a session finds out about camera frames and imagined ones."""

from __future__ import annotations

from mirage_ros.perception import registry
from mirage_ros.perception.pipeline import Perception
from mirage_ros.ros.parameters import ObservationParameters


def camera_perception(wanted: ObservationParameters, device: str) -> Perception | None:
    """What estimates the depth of camera frames; None where they bring it.

    Raises:
        PerceptionUnavailableError: what it needs is not installed.
    """
    if wanted.depth != "estimated":
        return None
    source = wanted.estimator_weights or None
    return registry.make_perception(wanted.estimator, "none", device=device, depth_source=source)


def make_perception(depth_estimator: str, dynamic_filter: str, *, joint: bool) -> Perception:
    """Perception of imagined frames by perception.depth and perception.filter; `joint`: the model has depth channels.

    Raises:
        ValueError: joint depth of a model without.
    """
    if depth_estimator == "joint" and not joint:
        raise ValueError("perception.depth: expected 'memory' for a preset without depth channels, got 'joint'")
    return registry.make_perception("joint" if joint and depth_estimator != "memory" else "memory", dynamic_filter)
