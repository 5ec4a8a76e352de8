"""Scene family `warehouses`, never trained on: aisles between racks of pallets, under skylights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mirage_ros.sim import textures
from mirage_ros.sim import walls_and_windows as shell
from mirage_ros.sim.furniture import METAL, OBJECTS, Builder
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.pictures import panorama
from mirage_ros.sim.placement import Floor, Footprint
from mirage_ros.sim.textures import Colour, Pixels, fractal_noise, jitter, pick, shaded, to_pixels

CLADDING: tuple[Colour, ...] = ((0.62, 0.66, 0.7), (0.74, 0.73, 0.68), (0.5, 0.6, 0.58), (0.68, 0.58, 0.5))
STEEL: tuple[Colour, ...] = ((0.12, 0.25, 0.5), (0.2, 0.4, 0.3), (0.45, 0.46, 0.48))
BEAMS: tuple[Colour, ...] = ((0.88, 0.42, 0.1), (0.9, 0.7, 0.12), (0.75, 0.16, 0.12))
YELLOW: Colour = (0.85, 0.68, 0.12)
# Metres: racks from front to back, one bay, an upright or a beam.
DEPTH, BAY, PROFILE = 1.0, 2.3, 0.08
# What stays free before the door and at the far end.
YARD, END = 3.4, 2.0


def corrugated(rng: Generator, base: Colour, ribs: int, size: int = 128, *, upright: bool = True) -> Pixels:
    """Ribbed sheet metal with streaks of dirt along the ribs; it tiles."""
    wave = np.sin(2 * np.pi * ribs * np.arange(size) / size)
    shade = 1 + 0.16 * np.clip(2.2 * wave, -1, 1)
    streaks = fractal_noise(rng, size, size, 1.0, stretch=8.0)
    colours = shaded(base, shade + 0.04 * streaks.T if upright else shade[:, None] + 0.04 * streaks)
    return to_pixels(colours)


def carton(rng: Generator, size: int = 128) -> Pixels:
    """Cardboard with tape, a label and arrows."""
    colours = shaded(jitter(rng, (0.66, 0.5, 0.33)), 1 + 0.05 * fractal_noise(rng, size, size, 0.8, stretch=6.0))
    middle, edge = size // 2, size // 16
    colours[:, middle - edge : middle + edge] = (0.8, 0.7, 0.48)
    x, y = (int(v) for v in rng.integers(size // 10, size // 2, 2))
    colours[y : y + size // 4, x : x + size // 3] = 0.92
    for line in range(y + 4, y + size // 4 - 2, 6):
        colours[line : line + 2, x + 4 : x + int(rng.uniform(0.4, 0.9) * size / 3)] = 0.2
    return to_pixels(colours)


def hazard(size: int = 64) -> Pixels:
    """Black and yellow stripes; they tile."""
    y, x = np.mgrid[:size, :size]
    return to_pixels(np.where(((x + y) % size < size // 2)[..., None], np.asarray(YELLOW), 0.07))


@dataclass(frozen=True)
class Stock:
    """Materials that all goods of one store are made of."""

    cartons: Sequence[str]
    paints: Sequence[str]
    drum: Sequence[str]
    wrap: str
    timber: str
    deck: str
    rim: str

    @classmethod
    def order(cls, mjcf: Mjcf, rng: Generator) -> Stock:
        """Draw them."""
        wrap = textures.fabric(rng, jitter(rng, (0.72, 0.75, 0.78)))
        return cls(
            cartons=[mjcf.skin(carton(rng)) for _ in range(4)],
            paints=[mjcf.paint(pick(rng, OBJECTS), shine=0.4) for _ in range(5)],
            drum=[mjcf.skin(textures.plaster(rng, pick(rng, OBJECTS), 64), shine=0.5) for _ in range(3)],
            wrap=mjcf.skin(wrap, shine=0.6),
            timber=mjcf.skin(textures.wood(rng, jitter(rng, (0.66, 0.52, 0.34)))),
            deck=mjcf.skin(textures.planks(rng, jitter(rng, (0.66, 0.52, 0.34)), rows=5, size=128)),
            rim=mjcf.paint((0.2, 0.2, 0.21), shine=0.5),
        )

    def pallet(self, part: Builder, x: float, z: float) -> float:
        """An empty pallet, 1.1 by 0.9 m; returns the height of its top."""
        for y in (-0.36, 0.36):
            part.box(x, y, z, (1.1, 0.14, 0.1), self.timber)
        part.box(x, 0, z + 0.1, (1.1, 0.9, 0.025), self.deck)
        return z + 0.125

    def load(self, rng: Generator, part: Builder, x: float, z: float, room: float) -> None:
        """Goods on a pallet, less than `room` metres high above it."""
        kind, tall = int(rng.integers(5)), float(rng.uniform(0.55, 0.95)) * (room - 0.125)
        z = self.pallet(part, x, z)
        if kind == 0 and tall > 0.5:
            self.drums(rng, part, x, z, min(tall, 0.88))
        elif kind == 1:
            part.box(x, 0, z, (1.0, 0.84, tall), self.wrap)
        elif kind == 2:
            part.box(x, 0, z, (1.02, 0.84, tall * 0.7), self.paints[int(rng.integers(len(self.paints)))])
            part.box(x, 0, z + tall * 0.7, (1.06, 0.88, 0.05), self.rim)
        else:
            layers = max(1, round(tall / 0.45))
            for layer in range(layers):
                for column in (-0.27, 0.27):
                    if layer + 1 < layers or rng.random() < 0.7:
                        turn = float(rng.normal(0, 0.04))
                        size = 0.5, float(rng.uniform(0.7, 0.82)), tall / layers - 0.004
                        skin = self.cartons[int(rng.integers(len(self.cartons)))]
                        part.box(x + column, 0, z + layer * tall / layers, size, skin, turn)

    def drums(self, rng: Generator, part: Builder, x: float, z: float, tall: float) -> None:
        """Four drums."""
        steel = self.drum[int(rng.integers(len(self.drum)))]
        for i in (-0.25, 0.25):
            for j in (-0.22, 0.22):
                part.cylinder(x + i, j, z, 0.21, tall, steel)


def build_warehouse(mjcf: Mjcf, rng: Generator) -> tuple[Floor, float]:
    """Add a store; returns its floor and its height."""
    mjcf.sky(panorama(rng))
    # Of the many hundred parts none but floor and walls is large.
    mjcf.quads = 1
    length, width, height = (float(v) for v in rng.uniform([13, 9.5, 5.0], [18, 13, 6.5]))
    floor, stock = Floor(length, width, []), Stock.order(mjcf, rng)
    pixels = textures.concrete(rng, jitter(rng, (0.5, 0.5, 0.49)))
    shell.lay_floor(mjcf, length, width, mjcf.sheet(pixels, metres=3.0, shine=0.35))
    _enclose(mjcf, rng, length, width, height)
    line, steel, beam = mjcf.paint(YELLOW), mjcf.paint(pick(rng, STEEL), shine=0.4), mjcf.paint(pick(rng, BEAMS))
    levels = [0.12, *(float(rng.uniform(1.3, 1.6)) * np.arange(1, 3) + 0.12)]
    start, bays = -length / 2 + YARD, int((length - YARD - END) / BAY)
    crossing = int(rng.integers(1, bays - 1)) if bays > 3 and rng.random() < 0.6 else None
    for y, yaw in _rows(rng, width):
        for bay in range(bays):
            if bay != crossing:
                place = Footprint(start + (bay + 0.5) * BAY, y, BAY, DEPTH, yaw, 0.0, float(levels[-1]) + 1.0)
                floor.occupied.append(place)
                ends = [side for side in (-1, 1) if bay + side in (-1, bays, crossing)]
                _rack(mjcf, rng, place, levels, stock, steel, beam, [side if yaw == 0 else -side for side in ends])
        front = 1 if yaw == 0 else -1
        mjcf.box((start + bays * BAY / 2, y + front * (DEPTH / 2 + 0.16), 0.001), (bays * BAY, 0.09, 0.006), line)
    for side in (-1.7, 1.7):
        mjcf.box((start - YARD / 2 - 0.1, side, 0.001), (YARD - 0.5, 0.09, 0.006), line)
    for _ in range(int(rng.integers(4, 8))):
        tall = float(rng.uniform(0.4, 1.5))
        stack = floor.stand(rng, 1.2, 1.0, tall, 0.7)
        if stack is not None:
            part = Builder(mjcf, stack)
            if rng.random() < 0.3:
                z = 0.0
                while z + 0.13 < tall:
                    z = stock.pallet(part, 0, z) + 0.003
            else:
                stock.load(rng, part, 0, 0, tall)
    return floor, height


def _rows(rng: Generator, width: float) -> list[tuple[float, float]]:
    """Middle across the store, and yaw, of rows of racks: one along each long wall, back to back between them."""
    edge = width / 2 - DEPTH / 2 - 0.12
    rows = [(-edge, 0.0), (edge, math.pi)]
    inner = width - 2 * (DEPTH + 0.12)
    islands = max(1, int(inner / (2 * DEPTH + 2.6)))
    if inner - islands * (2 * DEPTH + 0.1) < (islands + 1) * 1.9:
        islands -= 1
    aisle = (inner - islands * (2 * DEPTH + 0.1)) / (islands + 1)
    shift = float(rng.uniform(-0.25, 0.25))
    for island in range(islands):
        middle = -inner / 2 + (island + 1) * aisle + (island + 0.5) * (2 * DEPTH + 0.1) + shift
        rows += [(middle - DEPTH / 2 - 0.05, math.pi), (middle + DEPTH / 2 + 0.05, 0.0)]
    return rows


def _rack(
    mjcf: Mjcf,
    rng: Generator,
    place: Footprint,
    levels: Sequence[float],
    stock: Stock,
    steel: str,
    beam: str,
    ends: Sequence[int],
) -> None:
    """One bay: uprights, beams and what lies on them; its own y axis points to the aisle."""
    part, half, reach = Builder(mjcf, place), place.length / 2, DEPTH / 2 - PROFILE / 2
    for side in (-1, 1):
        # Neighbours share an upright, which belongs to the one on its right.
        if side == -1 or side in ends:
            x = side * (half - PROFILE / 2)
            for y in (-reach, reach):
                part.box(x, y, 0, (PROFILE, PROFILE, place.top), steel)
            for z in np.arange(0.5, place.top - 0.3, 1.5):
                part.box(x, 0, float(z), (0.03, DEPTH - 0.1, 0.05), steel)
    for index, z in enumerate(levels):
        for y in (-reach, reach):
            part.box(0, y, float(z) - 0.12, (place.length - 0.02, 0.05, 0.11), beam)
        room = (levels[index + 1] - 0.14 if index + 1 < len(levels) else place.top) - z
        for x in (-0.54, 0.54):
            if rng.random() < 0.65:
                stock.load(rng, part, x, float(z), float(room))


def _enclose(mjcf: Mjcf, rng: Generator, length: float, width: float, height: float) -> None:
    """Ribbed walls with a roller door, a band of high windows, and a roof with skylights and girders."""
    base = pick(rng, CLADDING)
    cladding = mjcf.sheet(corrugated(rng, base, 8), metres=1.6, shine=0.3)
    plinth, metal = mjcf.sheet(textures.concrete(rng, (0.6, 0.6, 0.58)), metres=2.0), mjcf.paint(METAL, shine=0.6)
    glazed = int(rng.integers(1, 4))
    for index, wall in enumerate(shell.four_walls(length, width, height)):
        count = int((wall.length - 1) / 2.4) if index == glazed else 0
        openings = [
            shell.Opening(a, a + 1.8, height - 1.4, height - 0.5) for a in (np.arange(count) - count / 2) * 2.4 + 0.3
        ]
        shell.raise_wall(mjcf, wall, cladding, openings)
        shell.skirting(mjcf, wall, plinth, 0.9)
        for opening in openings:
            shell.frame_window(mjcf, wall, opening, metal, 2)
        if index == 0:
            _roller_door(mjcf, rng, wall, metal)
    roof = mjcf.sheet(corrugated(rng, (0.8, 0.81, 0.82), 10), metres=2.0)
    bands = int(rng.integers(2, 4))
    edges, ends = [-length / 2 - 0.15], length / 2 + 0.15
    for x in (np.arange(bands) - (bands - 1) / 2) * length / bands:
        edges += [float(x) - 0.45, float(x) + 0.45]
        for side in (-0.55, 0.55):
            mjcf.box((float(x) + side, 0, height - 0.15), (0.14, width, 0.32), metal)
        mjcf.lamp((float(x), 0, height - 0.5), 1.3 / bands, shadow=x == 0 or (bands == 2 and x < 0))
    for a, b in zip([*edges[::2]], [*edges[1::2], ends], strict=True):
        mjcf.box(((a + b) / 2, 0, height + 0.05), (b - a, width + 0.3, 0.1), roof)
        for y in (-width / 4, width / 4):
            mjcf.box(((a + b) / 2, y, height - 0.35), (0.9, 0.18, 0.1), mjcf.paint((0.97, 0.97, 0.95), glow=0.9))


def _roller_door(mjcf: Mjcf, rng: Generator, wall: shell.Wall, metal: str) -> None:
    slats = mjcf.sheet(corrugated(rng, jitter(rng, (0.7, 0.72, 0.74)), 12, upright=False), metres=1.2, shine=0.4)
    stripes = mjcf.sheet(hazard(), metres=0.4)
    mjcf.panel(wall.point(0, 1.65, 0.02), 3.2, 3.3, wall.facing, slats, 0.05)
    for side in (-1.7, 1.7):
        mjcf.panel(wall.point(side, 1.65, 0.04), 0.2, 3.3, wall.facing, stripes, 0.1)
    mjcf.panel(wall.point(0, 3.55, 0.1), 3.6, 0.5, wall.facing, metal, 0.3)
