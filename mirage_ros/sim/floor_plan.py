"""The true plan of a scene, seen from above: what a robot on the floor could run into."""

from __future__ import annotations

import math
from collections.abc import Iterator
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from mirage_ros.sim.scene import Scene
from mirage_ros.sim.walls_and_windows import WALL_DEPTH

Places = NDArray[np.float64]
ROUND = ("cylinder", "capsule", "sphere", "ellipsoid")


def is_occupied(
    scene: Scene, places: Places, *, min_height: float = 0.1, max_height: float = 1.5, margin: float = 0.0
) -> NDArray[np.bool_]:
    """Whether some still part of a scene stands at places (..., 2), between two heights, metres.

    Round parts count with their largest section.

    Args:
        margin: metres by which every part is larger, such as half of a cell that counts as a whole.
    """
    occupied = np.zeros(places.shape[:-1], np.bool_)
    for kind, centre, half, yaw in _parts(scene):
        if centre[2] - half[2] >= max_height or centre[2] + half[2] <= min_height:
            continue
        cos, sin = math.cos(yaw), math.sin(yaw)
        local = (places - centre[:2]) @ np.array([[cos, -sin], [sin, cos]])
        if kind in ROUND:
            occupied |= np.square(local / (half[:2] + margin)).sum(axis=-1) <= 1
        else:
            occupied |= (np.abs(local) <= half[:2] + margin).all(axis=-1)
    return occupied


def is_inside(scene: Scene, places: Places) -> NDArray[np.bool_]:
    """Whether places (..., 2) are in a scene or in its walls; beyond them there is nothing."""
    return np.asarray((np.abs(places) <= np.array([scene.length, scene.width]) / 2 + WALL_DEPTH).all(axis=-1))


def _parts(scene: Scene) -> Iterator[tuple[str, Places, Places, float]]:
    """Kind, centre (3,), half sides (3,) along its own axes and z, and yaw of each part that does not move."""
    world = ElementTree.fromstring(scene.mjcf).find("worldbody")
    assert world is not None
    for geom in world.findall("geom"):
        kind = geom.get("type", "")
        centre, size, axes, turn = (
            np.array([float(value) for value in geom.get(name, "").split()])
            for name in ("pos", "size", "xyaxes", "euler")
        )
        if kind in ROUND:
            # MuJoCo has one radius, then half the length of what is between a capsule's ends.
            height = size[-1] if kind != "capsule" else size[0] + size[1]
            half = size if kind == "ellipsoid" else np.array([size[0], size[0], height])
        else:
            # A panel stands: its own y is the world's z.
            half = size[[0, 2, 1]] if len(axes) else size
        yaw = math.atan2(axes[1], axes[0]) if len(axes) else math.radians(turn[2]) if len(turn) else 0.0
        yield kind, centre, half, yaw
