"""Things that move: their shapes, and closed smooth courses that stay clear of the furniture."""

from __future__ import annotations

import math
from dataclasses import dataclass

from numpy.random import Generator

from mirage_ros.sim import textures
from mirage_ros.sim.furniture import CLOTHS, OBJECTS
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.placement import Floor
from mirage_ros.sim.textures import pick

# Metres that each reaches around its course and above the floor; a drone, up to the ceiling.
KINDS = {"ball": (0.16, 0.3), "vacuum": (0.2, 0.1), "person": (0.3, 1.75), "drone": (0.25, math.inf)}


@dataclass(frozen=True)
class Mover:
    """A body on an elliptic course.

    Attributes:
        name: of the body in the model.
        kind: one of KINDS.
        centre: of the course, world x, y, z of the body's origin, metres.
        radii: of the course along its two axes, metres.
        yaw: of the first axis, radians.
        period: seconds for a round.
        phase: where it is at time zero, radians.
        rolling: radius of a ball that rolls, metres; 0 for what does not.
    """

    name: str
    kind: str
    centre: tuple[float, float, float]
    radii: tuple[float, float]
    yaw: float
    period: float
    phase: float
    rolling: float = 0.0

    def pose(self, time: float) -> tuple[tuple[float, float, float], tuple[float, float, float, float]]:
        """Position, and orientation as MuJoCo's wxyz quaternion, at `time` seconds."""
        angle = self.phase + 2 * math.pi * time / self.period
        a, b = self.radii[0] * math.cos(angle), self.radii[1] * math.sin(angle)
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        x, y, z = self.centre
        if self.kind == "drone":
            z += 0.1 * math.sin(2 * angle)
        position = (x + cos * a - sin * b, y + sin * a + cos * b, z)
        heading = self.yaw + math.atan2(self.radii[1] * math.cos(angle), -self.radii[0] * math.sin(angle))
        # The mean radius gives the way that a ball rolled; it turns about the axis to its left.
        roll = angle * (self.radii[0] + self.radii[1]) / 2 / self.rolling if self.rolling else 0.0
        w, k = math.cos(heading / 2), math.sin(heading / 2)
        cos, sin = math.cos(roll / 2), math.sin(roll / 2)
        return position, (w * cos, -k * sin, w * sin, k * cos)


def add_mover(mjcf: Mjcf, rng: Generator, floor: Floor, index: int, headroom: float) -> Mover | None:
    """Add one moving thing whose whole course is free; None if the floor is too full for it."""
    kind = list(KINDS)[rng.integers(len(KINDS))]
    reach, top = KINDS[kind]
    for _ in range(30):
        radii = (float(rng.uniform(0.3, 1.4)), float(rng.uniform(0.15, 0.7)))
        length, width = 2 * (radii[0] + reach), 2 * (radii[1] + reach)
        place = floor.stand(rng, length, width, min(top, headroom), margin=0.05)
        if place is None:
            continue
        # What flies above the furniture would be fine anywhere, but a course of its own keeps cameras out of its way.
        speed = float(rng.uniform(0.4, 1.1))
        circumference = math.pi * (3 * sum(radii) - math.sqrt((3 * radii[0] + radii[1]) * (radii[0] + 3 * radii[1])))
        name = f"mover{index}"
        height, rolling = _shape(mjcf, rng, kind, name, headroom)
        period = round(circumference / speed, 3)
        phase = float(rng.uniform(0, 2 * math.pi))
        return Mover(name, kind, (place.x, place.y, height), radii, place.yaw, period, phase, rolling)
    return None


def _shape(mjcf: Mjcf, rng: Generator, kind: str, name: str, headroom: float) -> tuple[float, float]:
    """Add the body; returns the height of its origin and the radius it rolls on."""
    paint = mjcf.paint(pick(rng, OBJECTS), shine=0.4)
    if kind == "ball":
        radius = float(rng.uniform(0.1, 0.16))
        skin = mjcf.skin(textures.rug(rng, pick(rng, OBJECTS), (0.92, 0.91, 0.88), 64), shine=0.3)
        mjcf.moving(name, [mjcf.ball((0, 0, 0), radius, skin)])
        return radius, radius
    if kind == "vacuum":
        dark = mjcf.paint((0.1, 0.1, 0.11), shine=0.5)
        parts = [mjcf.cylinder((0, 0, 0.045), 0.18, 0.09, paint), mjcf.cylinder((0.06, 0, 0.1), 0.05, 0.02, dark)]
        mjcf.moving(name, parts)
        return 0.005, 0.0
    if kind == "person":
        shirt = mjcf.skin(textures.fabric(rng, pick(rng, CLOTHS)))
        trousers, skin = mjcf.paint(pick(rng, CLOTHS)), mjcf.paint((0.8, 0.6, 0.48))
        parts = [
            mjcf.capsule((0, 0.1, 0.42), 0.09, 0.84, trousers),
            mjcf.capsule((0, -0.1, 0.42), 0.09, 0.84, trousers),
            mjcf.capsule((0, 0, 1.12), 0.19, 0.72, shirt),
            mjcf.capsule((0, 0.24, 1.1), 0.06, 0.62, shirt),
            mjcf.capsule((0, -0.24, 1.1), 0.06, 0.62, shirt),
            mjcf.ball((0, 0, 1.6), 0.12, skin),
            mjcf.ball((-0.02, 0, 1.65), 0.115, mjcf.paint((0.2, 0.13, 0.08))),
        ]
        mjcf.moving(name, parts)
        return 0.0, 0.0
    rotor = mjcf.paint((0.3, 0.3, 0.32))
    parts = [mjcf.box((0, 0, 0), (0.16, 0.16, 0.06), paint)]
    parts += [mjcf.cylinder((x, y, 0.05), 0.08, 0.015, rotor) for x in (-0.13, 0.13) for y in (-0.13, 0.13)]
    mjcf.moving(name, parts)
    return float(rng.uniform(1.2, min(1.8, headroom - 0.5))), 0.0
