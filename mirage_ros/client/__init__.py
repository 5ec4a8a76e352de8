"""Facade for planners: ask a running node `mirage` for views of places where the robot is not.

    with Mirage() as mirage:
        result = mirage.imagine([left, right])       # (T, 4, 4) poses each, optical axes, world frame
        best = max(result.trajectories, key=lambda t: t.coverage.mean())

Blocking and asyncio, typed results as numpy arrays, time limits everywhere. It has a node, an executor and a thread of
its own, and works beside whatever rclpy code the program has.
"""

from __future__ import annotations

from mirage_ros.machine import wait_passively
from mirage_ros.ros.dds import use_default_profile

wait_passively()
use_default_profile()

from mirage_ros.client.connection import Mirage  # noqa: E402  (the DDS profile must be chosen before rclpy loads)
from mirage_ros.client.goal import Goal  # noqa: E402
from mirage_ros.client.queries import Grid  # noqa: E402
from mirage_ros.client.results import Imagination, ImaginationCancelled, Imagined, MirageError  # noqa: E402
from mirage_ros.occupancy.prospects import ViewScore  # noqa: E402

__all__ = ["Goal", "Grid", "Imagination", "ImaginationCancelled", "Imagined", "Mirage", "MirageError", "ViewScore"]
