"""Floors, ceilings, walls with openings, doors and pictures: what encloses a scene."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from numpy.random import Generator

from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.pictures import poster

# Walls and floor reach into each other this far: where they only touch, rays slip through.
OVERLAP = 0.03
WALL_DEPTH = 0.1
# Things on a wall stand off by different amounts, so that no two surfaces lie in one plane.
STANDOFF = 0.012


@dataclass(frozen=True)
class Opening:
    """The hole of a window: from `left` to `right` along the wall, seen from inside, and above the floor, metres."""

    left: float
    right: float
    bottom: float
    top: float


@dataclass(frozen=True)
class Wall:
    """One of the four inner faces of a rectangular shell.

    Attributes:
        facing: yaw of the normal that points into the room.
        distance: from the middle of the shell, metres.
        length, height: of the face, metres.
        x, y: the middle of the shell, metres.
        depth: thickness of what is behind the face, metres.
    """

    facing: float
    distance: float
    length: float
    height: float
    x: float = 0.0
    y: float = 0.0
    depth: float = WALL_DEPTH

    def point(self, along: float, height: float, off: float) -> tuple[float, float, float]:
        """World position: `along` to the right of the middle, as seen from inside, and `off` into the room."""
        normal = math.cos(self.facing), math.sin(self.facing)
        right = -normal[1], normal[0]
        return (
            self.x + normal[0] * (off - self.distance) + right[0] * along,
            self.y + normal[1] * (off - self.distance) + right[1] * along,
            height,
        )


def four_walls(length: float, width: float, height: float) -> list[Wall]:
    """Walls of a room, counter-clockwise from the one at -x."""
    return [
        Wall(0.0, length / 2, width, height),
        Wall(math.pi / 2, width / 2, length, height),
        Wall(math.pi, length / 2, width, height),
        Wall(-math.pi / 2, width / 2, length, height),
    ]


def raise_wall(mjcf: Mjcf, wall: Wall, material: str, openings: Sequence[Opening] = ()) -> None:
    """Build a wall around its openings: full-height strips between them, low and high pieces beside."""
    left = -wall.length / 2 - wall.depth

    def piece(a: float, b: float, bottom: float, top: float) -> None:
        if b - a < 1e-3 or top - bottom < 1e-3:
            return
        centre = wall.point((a + b) / 2, (bottom + top) / 2, -wall.depth / 2)
        mjcf.panel(centre, b - a + OVERLAP, top - bottom + OVERLAP, wall.facing, material, wall.depth)

    for opening in sorted(openings, key=lambda o: o.left):
        piece(left, opening.left, 0, wall.height)
        piece(opening.left, opening.right, 0, opening.bottom)
        piece(opening.left, opening.right, opening.top, wall.height)
        left = opening.right
    piece(left, wall.length / 2 + wall.depth, 0, wall.height)


def lay_floor(mjcf: Mjcf, length: float, width: float, material: str) -> None:
    """The floor, its upper face at height zero."""
    mjcf.box((0, 0, -0.05), (length + 0.3, width + 0.3, 0.1), material)


def close_ceiling(mjcf: Mjcf, length: float, width: float, height: float, material: str) -> None:
    """The ceiling, its lower face at `height`; lower faces show textures mirrored, which plaster does not mind."""
    mjcf.box((0, 0, height + 0.05), (length + 0.3, width + 0.3, 0.1), material)


def skirting(
    mjcf: Mjcf, wall: Wall, material: str, height: float = 0.09, gaps: Sequence[tuple[float, float]] = ()
) -> None:
    """A board along the foot of a wall, but for gaps: spans in metres from its middle."""
    edges = [-wall.length / 2, *(edge for gap in sorted(gaps) for edge in gap), wall.length / 2]
    for a, b in zip(edges[::2], edges[1::2], strict=True):
        mjcf.panel(wall.point((a + b) / 2, height / 2, 0.006), b - a, height, wall.facing, material, 0.016)


def hang_door(mjcf: Mjcf, wall: Wall, along: float, leaf: str, frame: str, metal: str) -> None:
    """A closed door with panels and a handle."""
    mjcf.panel(wall.point(along, 1.03, 0.004), 1.02, 2.1, wall.facing, frame, 0.03)
    mjcf.panel(wall.point(along, 1.0, 0.016), 0.88, 2.02, wall.facing, leaf, 0.03)
    for bottom in (0.55, 1.5):
        mjcf.panel(wall.point(along, bottom, 0.024), 0.62, 0.72, wall.facing, frame, 0.024)
        mjcf.panel(wall.point(along, bottom, 0.028), 0.56, 0.66, wall.facing, leaf, 0.024)
    x, y, z = wall.point(along + 0.36, 1.03, 0.06)
    mjcf.ball((x, y, z), 0.035, metal)


def hang_pictures(mjcf: Mjcf, rng: Generator, wall: Wall, count: int, blocked: Sequence[tuple[float, float]]) -> None:
    """At most `count` posters beside each other and what is on the wall: spans in metres from its middle."""
    taken = list(blocked)
    for _ in range(count * 6):
        if count == 0:
            return
        tall = float(rng.uniform(0.45, 0.95))
        ratio = float(rng.choice([0.7, 0.75, 1.0, 1.4]))
        wide = tall * ratio
        if wide > wall.length - 0.4:
            continue
        along = float(rng.uniform(-0.5, 0.5)) * (wall.length - wide - 0.2)
        if any(along - wide / 2 < b + 0.08 and a < along + wide / 2 + 0.08 for a, b in taken):
            continue
        taken.append((along - wide / 2, along + wide / 2))
        pixels = poster(rng, 160, max(48, int(160 * ratio)))
        centre = wall.point(along, float(rng.uniform(1.35, 1.65)), STANDOFF)
        mjcf.panel(centre, wide, tall, wall.facing, mjcf.sheet(pixels), 0.02)
        count -= 1


def frame_window(mjcf: Mjcf, wall: Wall, opening: Opening, material: str, panes: int) -> None:
    """Frame, sill and bars of a window; what is behind stays open to the sky."""
    centre, width = (opening.left + opening.right) / 2, opening.right - opening.left
    middle, height = (opening.bottom + opening.top) / 2, opening.top - opening.bottom
    bar = 0.06
    for z in (opening.bottom + bar / 2, opening.top - bar / 2):
        mjcf.panel(wall.point(centre, z, -0.05), width + bar, bar, wall.facing, material, 0.08)
    for i in range(panes + 1):
        along = opening.left + bar / 2 + (width - bar) * i / panes
        mjcf.panel(wall.point(along, middle, -0.05), bar, height, wall.facing, material, 0.07)
    mjcf.panel(wall.point(centre, opening.bottom - 0.02, 0.05), width + 0.2, 0.04, wall.facing, material, 0.26)
