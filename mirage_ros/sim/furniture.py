"""Pieces of furniture, each built into a footprint whose own y axis points to its front."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from mirage_ros.sim import textures
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.placement import Floor, Footprint
from mirage_ros.sim.textures import Colour, jitter, palette, pick

# What builds it into its place; length, width and height in metres; whether it leans on a wall.
Maker = Callable[[Mjcf, Generator, Footprint], None]
Piece = tuple[Maker, Sequence[float], bool]
# The same with length, width and height from and to.
Sized = tuple[Maker, Sequence[float], Sequence[float], bool]

WOODS, CLOTHS, OBJECTS = (palette(name) for name in ("woods", "cloths", "objects"))
METAL: Colour = (0.55, 0.56, 0.58)


def some_wood(mjcf: Mjcf, rng: Generator) -> str:
    """Material of a piece of wood."""
    return mjcf.skin(textures.wood(rng, pick(rng, WOODS)), shine=0.25)


def some_cloth(mjcf: Mjcf, rng: Generator) -> str:
    """Material of upholstery."""
    return mjcf.skin(textures.fabric(rng, pick(rng, CLOTHS)))


def sized(rng: Generator, pieces: Iterable[Sized]) -> Iterator[Piece]:
    """Draw the sizes of pieces, each when it is asked for."""
    return ((maker, rng.uniform(low, high).tolist(), leans) for maker, low, high, leans in pieces)


def furnish(mjcf: Mjcf, rng: Generator, floor: Floor, pieces: Iterable[Piece]) -> None:
    """Put pieces where there is room for them; the rest is left out."""
    for maker, size, leans in pieces:
        place = floor.lean(rng, *size) if leans else floor.stand(rng, *size)
        if place is not None:
            maker(mjcf, rng, place)


class Builder:
    """Adds parts in the axes of one footprint: x along its length, y to its front, z up."""

    def __init__(self, mjcf: Mjcf, place: Footprint) -> None:
        self.mjcf, self.place = mjcf, place

    def box(
        self, x: float, y: float, z: float, size: tuple[float, float, float], material: str, turn: float = 0
    ) -> None:
        """A cuboid whose bottom is at height z."""
        px, py = self.place.place(x, y)
        self.mjcf.box((px, py, z + size[2] / 2), size, material, yaw=self.place.yaw + turn)

    def cylinder(self, x: float, y: float, z: float, radius: float, height: float, material: str) -> None:
        """A cylinder whose bottom is at height z."""
        px, py = self.place.place(x, y)
        self.mjcf.cylinder((px, py, z + height / 2), radius, height, material)

    def ball(self, x: float, y: float, z: float, radius: float, material: str) -> None:
        """A sphere that rests at height z."""
        px, py = self.place.place(x, y)
        self.mjcf.ball((px, py, z + radius), radius, material)

    def legs(self, length: float, width: float, height: float, thick: float, material: str) -> None:
        """Four legs at the corners of a rectangle."""
        for i in (-1, 1):
            for j in (-1, 1):
                x, y = i * (length / 2 - thick), j * (width / 2 - thick)
                self.box(x, y, 0, (thick, thick, height), material)


def table(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A table with things on it."""
    part, material = Builder(mjcf, place), some_wood(mjcf, rng)
    height = place.top
    part.box(0, 0, height - 0.04, (place.length, place.width, 0.04), material)
    part.legs(place.length - 0.06, place.width - 0.06, height - 0.04, 0.06, material)
    part.box(0, 0, height - 0.1, (place.length - 0.16, place.width - 0.16, 0.06), material)
    clutter(mjcf, rng, place, height, int(rng.integers(3, 8)))


def clutter(mjcf: Mjcf, rng: Generator, place: Footprint, height: float, count: int) -> None:
    """Cups, balls, books, boxes, bottles and bowls on a surface, in a loose grid so that they do not meet."""
    part = Builder(mjcf, place)
    columns = max(1, int(place.length / 0.24))
    for slot in rng.permutation(columns)[:count]:
        x = (slot + 0.5) / columns * place.length - place.length / 2
        y = float(rng.uniform(-0.25, 0.25)) * place.width
        paint = mjcf.paint(pick(rng, OBJECTS), shine=float(rng.uniform(0.1, 0.6)))
        kind = rng.integers(6)
        if kind == 0:
            part.cylinder(x, y, height, 0.04, 0.1, paint)
        elif kind == 1:
            part.ball(x, y, height, float(rng.uniform(0.05, 0.09)), paint)
        elif kind == 2:
            for level in range(int(rng.integers(1, 5))):
                cover = mjcf.paint(pick(rng, OBJECTS))
                part.box(x, y, height + 0.03 * level, (0.15, 0.2, 0.028), cover, float(rng.uniform(-0.4, 0.4)))
        elif kind == 3:
            size = rng.uniform(0.08, 0.18, 3)
            part.box(x, y, height, (size[0], size[1], size[2]), paint, float(rng.uniform(-1, 1)))
        elif kind == 4:
            part.cylinder(x, y, height, 0.035, 0.2, paint)
            part.cylinder(x, y, height + 0.2, 0.014, 0.07, paint)
        else:
            part.cylinder(x, y, height, 0.05, 0.02, paint)
            part.cylinder(x, y, height + 0.02, 0.1, 0.05, paint)


def chair(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A chair with a slatted back."""
    part, frame = Builder(mjcf, place), some_wood(mjcf, rng)
    seat = some_cloth(mjcf, rng) if rng.random() < 0.5 else frame
    part.legs(place.length, place.width, 0.43, 0.04, frame)
    part.box(0, 0, 0.43, (place.length, place.width, 0.05), seat)
    back = -place.width / 2 + 0.03
    for x in (-place.length / 2 + 0.03, place.length / 2 - 0.03):
        part.box(x, back, 0.48, (0.04, 0.04, place.top - 0.48), frame)
    for z in np.linspace(0.58, place.top - 0.09, 3):
        part.box(0, back, float(z), (place.length - 0.06, 0.025, 0.07), frame)


def shelf(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A bookcase, its boards full of books and a few objects."""
    part, material = Builder(mjcf, place), some_wood(mjcf, rng)
    length, depth, height = place.length, place.width, place.top
    part.box(0, -depth / 2 + 0.01, 0, (length, 0.02, height), material)
    for x in (-length / 2 + 0.0125, length / 2 - 0.0125):
        part.box(x, 0, 0, (0.025, depth, height), material)
    covers = [mjcf.paint(pick(rng, OBJECTS + CLOTHS)) for _ in range(10)]
    levels = np.linspace(0.04, height - 0.025, max(3, int(height / 0.36)) + 1)
    for low, high in pairwise(levels):
        part.box(0, 0, float(low) - 0.025, (length, depth, 0.025), material)
        x = -length / 2 + 0.05
        while x < length / 2 - 0.09:
            if rng.random() < 0.13:
                x += float(rng.uniform(0.08, 0.2))
                continue
            thick, tall = float(rng.uniform(0.03, 0.07)), float(rng.uniform(0.6, 0.88)) * float(high - low - 0.025)
            part.box(x + thick / 2, 0.01, float(low), (thick - 0.004, depth * 0.75, tall), covers[rng.integers(10)])
            x += thick
    part.box(0, 0, height - 0.025, (length, depth, 0.025), material)


def sofa(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A sofa with cushions."""
    part, cloth = Builder(mjcf, place), some_cloth(mjcf, rng)
    length, depth = place.length, place.width
    part.box(0, 0, 0.08, (length, depth, 0.22), cloth)
    part.box(0, -depth / 2 + 0.11, 0.3, (length, 0.22, place.top - 0.3), cloth)
    for x in (-length / 2 + 0.1, length / 2 - 0.1):
        part.box(x, 0.02, 0.3, (0.2, depth - 0.04, 0.26), cloth)
    seats = max(2, round((length - 0.4) / 0.65))
    wide = (length - 0.4) / seats
    for i in range(seats):
        x = -length / 2 + 0.2 + wide * (i + 0.5)
        part.box(x, 0.1, 0.3, (wide - 0.015, depth - 0.26, 0.13), cloth)
        if rng.random() < 0.6:
            part.box(
                x, -depth / 2 + 0.29, 0.43, (0.36, 0.12, 0.34), some_cloth(mjcf, rng), float(rng.uniform(-0.2, 0.2))
            )
    for x in (-length / 2 + 0.08, length / 2 - 0.08):
        for y in (-depth / 2 + 0.08, depth / 2 - 0.08):
            part.cylinder(x, y, 0, 0.025, 0.09, mjcf.paint((0.15, 0.12, 0.1)))


def cabinet(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A chest with drawers or doors, and things on top."""
    part, body = Builder(mjcf, place), some_wood(mjcf, rng)
    front = body if rng.random() < 0.5 else some_wood(mjcf, rng)
    knob = mjcf.paint(METAL, shine=0.8)
    length, depth, height = place.length, place.width, place.top
    part.box(0, 0, 0.06, (length, depth, height - 0.06), body)
    part.box(0, -0.02, 0, (length - 0.06, depth - 0.06, 0.06), mjcf.paint((0.12, 0.1, 0.09)))
    columns, rows = max(1, round(length / 0.55)), int(rng.integers(1, 4))
    wide, tall = length / columns, (height - 0.12) / rows
    for i in range(columns):
        for j in range(rows):
            x, z = -length / 2 + wide * (i + 0.5), 0.09 + tall * j
            part.box(x, depth / 2, z + 0.01, (wide - 0.03, 0.025, tall - 0.025), front)
            part.ball(x, depth / 2 + 0.025, z + tall * 0.55, 0.018, knob)
    clutter(mjcf, rng, place, height, int(rng.integers(1, 5)))


def bed(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A bed whose head is at the back."""
    part, frame, sheet = Builder(mjcf, place), some_wood(mjcf, rng), some_cloth(mjcf, rng)
    length, depth = place.length, place.width
    part.box(0, 0, 0.1, (length, depth, 0.2), frame)
    part.box(0, -depth / 2 + 0.03, 0.1, (length, 0.06, place.top - 0.1), frame)
    part.box(0, 0.03, 0.3, (length - 0.06, depth - 0.1, 0.18), mjcf.paint((0.88, 0.87, 0.84)))
    part.box(0, depth * 0.12, 0.3, (length - 0.02, depth * 0.74, 0.21), sheet)
    for x in (-length / 4, length / 4):
        part.box(x, -depth / 2 + 0.32, 0.48, (length * 0.38, 0.4, 0.11), mjcf.paint((0.93, 0.92, 0.9)))


def plant(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A potted plant."""
    part = Builder(mjcf, place)
    pot = mjcf.paint(pick(rng, ((0.6, 0.35, 0.24), (0.85, 0.84, 0.8), (0.25, 0.27, 0.3))))
    leaves = mjcf.skin(textures.foliage(rng))
    radius = place.length / 2
    part.cylinder(0, 0, 0, radius * 0.6, 0.3, pot)
    part.cylinder(0, 0, 0.3, 0.025, max(place.top - 0.75, 0.1), mjcf.paint((0.35, 0.25, 0.15)))
    for _ in range(int(rng.integers(7, 13))):
        angle, reach = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.75) * radius
        x, y = place.place(float(reach * math.cos(angle)), float(reach * math.sin(angle)))
        z = float(rng.uniform(max(0.45, place.top - 0.75), place.top - 0.15))
        mjcf.ball((x, y, z), [float(v) for v in rng.uniform(0.08, 0.17, 3)], leaves)


def floor_lamp(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A standing lamp with a bright shade."""
    part, metal = Builder(mjcf, place), mjcf.paint((0.2, 0.2, 0.21), shine=0.6)
    part.cylinder(0, 0, 0, 0.15, 0.03, metal)
    part.cylinder(0, 0, 0.03, 0.015, place.top - 0.28, metal)
    part.cylinder(0, 0, place.top - 0.28, 0.17, 0.28, mjcf.paint(jitter(rng, (0.95, 0.87, 0.7)), glow=0.6))


def boxes(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """Cardboard boxes or crates, stacked."""
    part, z = Builder(mjcf, place), 0.0
    side = place.length
    while z + 0.18 < place.top and side > 0.2:
        tall = float(min(rng.uniform(0.2, 0.4), place.top - z))
        paper = mjcf.skin(textures.wood(rng, jitter(rng, (0.66, 0.5, 0.33))), shine=0.02)
        part.box(0, 0, z, (side * 0.7, side * 0.66, tall), paper, float(rng.uniform(-0.25, 0.25)))
        tape = mjcf.paint((0.8, 0.72, 0.52))
        part.box(0, 0, z + tall, (side * 0.6, 0.05, 0.003), tape)
        z, side = z + tall, side * float(rng.uniform(0.7, 0.95))


def round_table(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A round table on one foot."""
    part, material = Builder(mjcf, place), some_wood(mjcf, rng)
    part.cylinder(0, 0, 0, place.length * 0.28, 0.03, material)
    part.cylinder(0, 0, 0.03, 0.05, place.top - 0.07, material)
    part.cylinder(0, 0, place.top - 0.04, place.length / 2, 0.04, material)
    inner = Footprint(place.x, place.y, place.length * 0.6, place.length * 0.5, place.yaw, 0.0, place.top)
    clutter(mjcf, rng, inner, place.top, 3)


def bench(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A plain bench on two blocks."""
    part, seat = Builder(mjcf, place), some_wood(mjcf, rng)
    foot = mjcf.paint(jitter(rng, (0.4, 0.4, 0.42)))
    for x in (-place.length * 0.38, place.length * 0.38):
        part.box(x, 0, 0, (0.1, place.width * 0.9, place.top - 0.05), foot)
    for y in np.linspace(-0.36, 0.36, 4):
        part.box(0, float(y) * place.width, place.top - 0.05, (place.length, place.width * 0.2, 0.05), seat)


def dining_corner(mjcf: Mjcf, rng: Generator, floor: Floor) -> None:
    """A table with chairs on its long sides."""
    length, width, height = (float(v) for v in rng.uniform([1.0, 0.65, 0.7], [1.6, 0.85, 0.76]))
    group = floor.stand(rng, length + 0.2, width + 1.1, height)
    if group is None:
        return
    floor.occupied.remove(group)
    place = Footprint(group.x, group.y, length, width, group.yaw, 0.0, height)
    floor.occupied.append(place)
    table(mjcf, rng, place)
    for side in (-1, 1):
        for along in np.linspace(-0.28, 0.28, 2) * length:
            if rng.random() < 0.8:
                x, y = place.place(float(along), side * (width / 2 + 0.22))
                yaw = place.yaw + (0 if side < 0 else math.pi) + float(rng.normal(0, 0.15))
                seat = Footprint(x, y, 0.4, 0.4, yaw, 0.0, 0.9)
                floor.occupied.append(seat)
                chair(mjcf, rng, seat)
