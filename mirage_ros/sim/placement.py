"""Where things stand: footprints, finding room for them, and whether a robot fits between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

# Places that are tried before a piece is left out.
TRIES = 40


@dataclass(frozen=True)
class Footprint:
    """An upright box that something occupies.

    Attributes:
        x, y: centre, metres.
        length, width: full sides along its own axes, metres.
        yaw: of the length's axis, radians.
        bottom, top: heights, metres.
    """

    x: float
    y: float
    length: float
    width: float
    yaw: float = 0.0
    bottom: float = 0.0
    top: float = 1.0

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """(...) horizontal metres from (..., 2) points to the box, 0 inside."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        local = (points - np.array([self.x, self.y])) @ np.array([[cos, -sin], [sin, cos]])
        outside = np.maximum(np.abs(local) - np.array([self.length, self.width]) / 2, 0)
        return np.hypot(outside[..., 0], outside[..., 1])

    def corners(self, margin: float = 0.0) -> NDArray[np.float64]:
        """(9, 2) corners, middles of the sides and centre, grown by a margin."""
        a, b = self.length / 2 + margin, self.width / 2 + margin
        local = np.array([[i * a, j * b] for i in (-1, 0, 1) for j in (-1, 0, 1)])
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return local @ np.array([[cos, sin], [-sin, cos]]) + [self.x, self.y]

    def place(self, along: float, across: float) -> tuple[float, float]:
        """World x, y of a point given along the footprint's own axes from its centre."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + cos * along - sin * across, self.y + sin * along + cos * across

    def overlaps(self, other: Footprint, margin: float = 0.0) -> bool:
        """Whether two boxes come closer than a margin, seen from above; by the separating axis theorem."""
        a, b = self.corners(margin), other.corners()
        for yaw in (self.yaw, self.yaw + math.pi / 2, other.yaw, other.yaw + math.pi / 2):
            axis = np.array([math.cos(yaw), math.sin(yaw)])
            p, q = a @ axis, b @ axis
            if p.max() < q.min() or q.max() < p.min():
                return False
        return True


@dataclass
class Floor:
    """A rectangular floor, what stands on it and what divides it.

    Attributes:
        length, width: full sides along x and y, metres.
        occupied: what is in the way.
        x, y: its middle, metres.
        walls: inner walls, from floor to ceiling, and what is above their doorways.
        doorways: openings in those: the length's axis runs along the wall.
        lanes: ways that stay free, though nothing stands there.
    """

    length: float
    width: float
    occupied: list[Footprint]
    x: float = 0.0
    y: float = 0.0
    walls: list[Footprint] = field(default_factory=list)
    doorways: list[Footprint] = field(default_factory=list)
    lanes: list[Footprint] = field(default_factory=list)

    def stand(
        self, rng: Generator, length: float, width: float, height: float, margin: float = 0.35
    ) -> Footprint | None:
        """Find a free place anywhere and take it; None if there is none after some tries."""
        for _ in range(TRIES):
            x = self.x + rng.uniform(-0.5, 0.5) * (self.length - length)
            y = self.y + rng.uniform(-0.5, 0.5) * (self.width - width)
            footprint = Footprint(x, y, length, width, rng.uniform(-math.pi, math.pi), 0.0, height)
            if self.take(footprint, margin):
                return footprint
        return None

    def lean(
        self, rng: Generator, length: float, width: float, height: float, margin: float = 0.25
    ) -> Footprint | None:
        """Find a free place with its back to a wall and take it; its own y axis points into the room."""
        for _ in range(TRIES):
            side = int(rng.integers(4))
            yaw = (0.0, math.pi / 2, math.pi, -math.pi / 2)[side]
            reach, depth = (self.length, self.width) if side % 2 == 0 else (self.width, self.length)
            # The back keeps 2 cm from the wall, clear of the skirting board.
            x, y = rng.uniform(-0.5, 0.5) * (reach - length), -depth / 2 + width / 2 + 0.02
            cos, sin = math.cos(yaw), math.sin(yaw)
            x, y = self.x + cos * x - sin * y, self.y + sin * x + cos * y
            footprint = Footprint(x, y, length, width, yaw, 0.0, height)
            if self.take(footprint, margin):
                return footprint
        return None

    def take(self, footprint: Footprint, margin: float) -> bool:
        """Occupy a place that lies inside and keeps `margin` from everything, and say whether that was so."""
        inside = (np.abs(footprint.corners() - [self.x, self.y]) <= [self.length / 2, self.width / 2]).all()
        if not inside or any(footprint.overlaps(other, margin) for other in (*self.occupied, *self.walls)):
            return False
        if any(footprint.overlaps(lane) for lane in self.lanes):
            return False
        self.occupied.append(footprint)
        return True
