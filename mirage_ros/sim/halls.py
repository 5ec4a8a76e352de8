"""Scene family `halls`: corridors, and open halls with columns and windows to the sky."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from mirage_ros.sim import furniture, textures
from mirage_ros.sim import walls_and_windows as shell
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.pictures import panorama
from mirage_ros.sim.placement import Floor, Footprint
from mirage_ros.sim.textures import jitter, palette, pick

WALLS, ACCENTS = palette("hall_walls"), palette("hall_accents")


def build_hall(mjcf: Mjcf, rng: Generator) -> tuple[Floor, float]:
    """Add a corridor or an open hall; returns its floor and its height."""
    mjcf.sky(panorama(rng))
    if rng.random() < 0.45:
        return _corridor(mjcf, rng)
    return _open_hall(mjcf, rng)


def _ground(mjcf: Mjcf, rng: Generator, length: float, width: float) -> None:
    style = rng.integers(3)
    if style == 0:
        chips = [pick(rng, WALLS), (0.35, 0.33, 0.3), (0.6, 0.5, 0.42)]
        pixels, metres = textures.terrazzo(rng, jitter(rng, (0.68, 0.67, 0.64)), chips), 1.3
    elif style == 1:
        pixels, metres = textures.tiles(rng, jitter(rng, (0.6, 0.61, 0.62)), jitter(rng, (0.5, 0.5, 0.52))), 2.4
    else:
        pixels, metres = textures.concrete(rng, jitter(rng, (0.55, 0.55, 0.53))), 2.5
    shell.lay_floor(mjcf, length, width, mjcf.sheet(pixels, metres=metres, shine=0.25))


def _wall_material(mjcf: Mjcf, rng: Generator) -> str:
    base = pick(rng, WALLS)
    pixels = textures.concrete(rng, base) if rng.random() < 0.5 else textures.plaster(rng, base)
    return mjcf.sheet(pixels, metres=2.2)


def _windows(rng: Generator, wall: shell.Wall, bottom: float, top: float) -> list[shell.Opening]:
    wide, gap = float(rng.uniform(1.2, 2.2)), float(rng.uniform(0.5, 1.0))
    count = int((wall.length - gap) / (wide + gap))
    start = -(count * (wide + gap) - gap) / 2
    return [shell.Opening(start + i * (wide + gap), start + i * (wide + gap) + wide, bottom, top) for i in range(count)]


def _corridor(mjcf: Mjcf, rng: Generator) -> tuple[Floor, float]:
    length, width, height = (float(v) for v in rng.uniform([10, 2.2, 2.6], [16, 3.2, 3.1]))
    _ground(mjcf, rng, length, width)
    shell.close_ceiling(mjcf, length, width, height, mjcf.sheet(textures.plaster(rng, (0.88, 0.88, 0.87)), metres=1.2))
    material, board = _wall_material(mjcf, rng), mjcf.paint(pick(rng, ACCENTS))
    metal = mjcf.paint(furniture.METAL, shine=0.8)
    leaf = mjcf.skin(textures.wood(rng, pick(rng, furniture.WOODS)))
    for index, wall in enumerate(shell.four_walls(length, width, height)):
        end = index % 2 == 0
        openings = [shell.Opening(-0.7, 0.7, 0.9, height - 0.4)] if end else []
        shell.raise_wall(mjcf, wall, material, openings)
        shell.skirting(mjcf, wall, board, 0.12)
        for opening in openings:
            shell.frame_window(mjcf, wall, opening, metal, 2)
        if not end:
            doors = np.arange(-length / 2 + 1.6, length / 2 - 1.2, float(rng.uniform(2.6, 3.8)))
            for along in doors:
                shell.hang_door(mjcf, wall, float(along), leaf, board, metal)
            shell.hang_pictures(mjcf, rng, wall, int(rng.integers(3, 7)), [(d - 0.6, d + 0.6) for d in doors])
    floor = Floor(length, width, [])
    pieces = (
        (furniture.bench, (1.4, 0.4, 0.45), True),
        (furniture.plant, (0.5, 0.5, 1.3), True),
        (furniture.cabinet, (0.9, 0.4, 1.0), True),
        (furniture.boxes, (0.5, 0.5, 0.7), True),
        (furniture.plant, (0.5, 0.5, 1.1), True),
    )
    furniture.furnish(mjcf, rng, floor, pieces)
    panel = mjcf.paint((0.97, 0.97, 0.95), glow=0.9)
    lamps = np.linspace(-0.38, 0.38, 4) * length
    for index, x in enumerate(lamps):
        mjcf.box((float(x), 0, height - 0.015), (1.2, 0.3, 0.05), panel)
        mjcf.lamp((float(x), 0, height - 0.1), 0.3, shadow=index == 1)
    return floor, height


def _open_hall(mjcf: Mjcf, rng: Generator) -> tuple[Floor, float]:
    length, width, height = (float(v) for v in rng.uniform([9, 7, 3.6], [13, 10, 4.6]))
    _ground(mjcf, rng, length, width)
    shell.close_ceiling(mjcf, length, width, height, mjcf.sheet(textures.concrete(rng, (0.72, 0.72, 0.71)), metres=2.0))
    material, board = _wall_material(mjcf, rng), mjcf.paint(pick(rng, ACCENTS))
    metal = mjcf.paint(furniture.METAL, shine=0.8)
    glazed = set(rng.permutation(4)[: rng.integers(1, 3)].tolist())
    for index, wall in enumerate(shell.four_walls(length, width, height)):
        openings = _windows(rng, wall, float(rng.uniform(0.4, 1.0)), height - 0.7) if index in glazed else []
        shell.raise_wall(mjcf, wall, material, openings)
        shell.skirting(mjcf, wall, board, 0.14)
        for opening in openings:
            shell.frame_window(mjcf, wall, opening, metal, 3)
        if not openings:
            shell.hang_pictures(mjcf, rng, wall, int(rng.integers(3, 6)), [])
    floor = Floor(length, width, [])
    pillar = mjcf.skin(textures.concrete(rng, pick(rng, WALLS), 128))
    for x in (-length / 4, length / 4):
        for y in (-width / 4, width / 4):
            side = 0.38
            floor.occupied.append(Footprint(x, y, side, side, 0.0, 0.0, height))
            mjcf.box((x, y, height / 2), (side, side, height + 0.02), pillar)
            mjcf.box((x, y, 0.1), (side + 0.06, side + 0.06, 0.2), board)
    pieces = (
        (furniture.bench, (1.6, 0.45, 0.45), False),
        (furniture.bench, (1.6, 0.45, 0.45), False),
        (furniture.cabinet, (2.2, 0.6, 1.05), False),
        (furniture.round_table, (0.9, 0.9, 0.72), False),
        (furniture.round_table, (0.9, 0.9, 0.72), False),
        (furniture.plant, (0.7, 0.7, 1.8), False),
        (furniture.plant, (0.6, 0.6, 1.4), True),
        (furniture.boxes, (0.8, 0.8, 1.1), True),
        (furniture.shelf, (1.8, 0.4, 1.9), True),
        (furniture.boxes, (0.7, 0.7, 0.8), False),
    )
    furniture.furnish(mjcf, rng, floor, pieces)
    for index, x in enumerate((-length / 4, length / 4)):
        mjcf.box((x, 0, height - 0.3), (0.25, width * 0.6, 0.08), mjcf.paint((0.97, 0.97, 0.95), glow=0.9))
        mjcf.lamp((x, 0, height - 0.4), 0.5, shadow=index == 0)
    return floor, height
