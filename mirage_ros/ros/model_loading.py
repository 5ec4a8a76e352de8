"""The world model and the perception that parameters ask for."""

from __future__ import annotations

import torch

from mirage_ros.machine import set_threads
from mirage_ros.perception import registry
from mirage_ros.perception.pipeline import Perception
from mirage_ros.ros.parameters import MirageParameters, ObservationParameters
from mirage_ros.world.model import WorldModel


def load_world(parameters: MirageParameters) -> WorldModel:
    """The world model, which perceives imagined frames as perception.depth and perception.filter say.

    Raises:
        MissingWeightsError: the weights are not there; the message says what to do.
        ValueError: a parameter is not usable.
    """
    set_threads(parameters.threads)
    device = parameters.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    world = WorldModel.from_pretrained(
        parameters.weights or None,
        preset=parameters.preset,
        device=device,
        dtype=None if parameters.dtype == "auto" else getattr(torch, parameters.dtype),
        random_weights=parameters.random_weights,
    )
    how, joint = parameters.perception, bool(world.preset.depth_channels)
    if how.depth != "auto" or how.filter != "none" or world.perception is None:
        world.perception = make_perception(how.depth, how.filter, joint=joint)
    return world


def camera_perception(wanted: ObservationParameters, device: torch.device) -> Perception | None:
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
