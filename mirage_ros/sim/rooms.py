"""Scene family `rooms`: furnished living rooms, studies and bedrooms without windows."""

from __future__ import annotations

from numpy.random import Generator

from mirage_ros.sim import furniture, textures
from mirage_ros.sim import walls_and_windows as shell
from mirage_ros.sim.furniture import WOODS, Sized
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.placement import Floor, Footprint
from mirage_ros.sim.textures import jitter, palette, pick

WALLS = palette("room_walls")
PIECES: tuple[Sized, ...] = (
    (furniture.shelf, (0.8, 0.3, 1.5), (1.6, 0.36, 2.1), True),
    (furniture.sofa, (1.5, 0.85, 0.75), (2.2, 0.95, 0.85), True),
    (furniture.cabinet, (0.8, 0.42, 0.7), (1.5, 0.5, 1.1), True),
    (furniture.bed, (1.0, 2.0, 0.9), (1.6, 2.05, 1.1), True),
    (furniture.plant, (0.45, 0.45, 0.9), (0.6, 0.6, 1.5), True),
    (furniture.floor_lamp, (0.4, 0.4, 1.5), (0.4, 0.4, 1.75), True),
    (furniture.boxes, (0.45, 0.45, 0.4), (0.6, 0.6, 0.9), True),
    (furniture.round_table, (0.6, 0.6, 0.5), (1.0, 1.0, 0.75), False),
    (furniture.boxes, (0.4, 0.4, 0.3), (0.6, 0.6, 0.7), False),
)


def build_room(mjcf: Mjcf, rng: Generator) -> tuple[Floor, float]:
    """Add a room; returns its floor and its height."""
    length, width, height = (float(v) for v in rng.uniform([4.2, 3.8, 2.45], [6.8, 5.8, 2.9]))
    _enclose(mjcf, rng, length, width, height)
    floor = Floor(length, width, [])
    # The doorway stays free.
    door = shell.four_walls(length, width, height)[1]
    x, y, _ = door.point(_door_along(door.length), 0, 0.5)
    floor.occupied.append(Footprint(x, y, 1.0, 1.0, 0.0, 0.0, 0.01))
    _lay_rug(mjcf, rng, floor)
    furniture.dining_corner(mjcf, rng, floor)
    chosen = rng.permutation(len(PIECES)).tolist() + rng.integers(0, len(PIECES), 3).tolist()
    furniture.furnish(mjcf, rng, floor, furniture.sized(rng, map(PIECES.__getitem__, chosen)))
    del floor.occupied[0]
    mjcf.cylinder((0, 0, height - 0.05), 0.22, 0.1, mjcf.paint((0.97, 0.95, 0.88), glow=0.7))
    mjcf.lamp((0.3, 0.2, height - 0.15), 0.7, shadow=True)
    mjcf.lamp((-length / 3, width / 4, height - 0.4), 0.3, shadow=False)
    return floor, height


def _door_along(wall_length: float) -> float:
    return wall_length / 2 - 0.9


def _enclose(mjcf: Mjcf, rng: Generator, length: float, width: float, height: float) -> None:
    base = pick(rng, WALLS)
    plain = mjcf.sheet(textures.plaster(rng, base), metres=1.6)
    feature = plain
    style = rng.integers(4)
    if style == 0:
        feature = mjcf.sheet(textures.wallpaper(rng, jitter(rng, base), pick(rng, WALLS)), metres=1.1)
    elif style == 1:
        feature = mjcf.sheet(textures.bricks(rng, jitter(rng, (0.6, 0.36, 0.28)), (0.72, 0.7, 0.66)), metres=0.9)
    elif style == 2:
        feature = mjcf.sheet(
            textures.plaster(rng, jitter(rng, (base[0] * 0.65, base[1] * 0.65, base[2] * 0.65))), metres=1.6
        )
    board = mjcf.paint(jitter(rng, (0.9, 0.89, 0.86), 0.02))
    walls = shell.four_walls(length, width, height)
    for index, wall in enumerate(walls):
        shell.raise_wall(mjcf, wall, feature if index == 0 else plain)
        shell.skirting(mjcf, wall, board)
        blocked = []
        if index == 1:
            along = _door_along(wall.length)
            shell.hang_door(
                mjcf, wall, along, furniture.some_wood(mjcf, rng), board, mjcf.paint(furniture.METAL, shine=0.8)
            )
            blocked.append((along - 0.6, along + 0.6))
        shell.hang_pictures(mjcf, rng, wall, int(rng.integers(1, 4)), blocked)
    floors = (
        lambda: (textures.planks(rng, pick(rng, WOODS)), 1.2),
        lambda: (textures.planks(rng, pick(rng, WOODS), rows=8), 1.1),
        lambda: (textures.tiles(rng, jitter(rng, (0.72, 0.7, 0.66)), jitter(rng, (0.45, 0.44, 0.42))), 1.6),
        lambda: (textures.carpet(rng, pick(rng, furniture.CLOTHS)), 1.5),
    )
    pixels, metres = floors[rng.integers(len(floors))]()
    shell.lay_floor(mjcf, length, width, mjcf.sheet(pixels, metres=metres, shine=0.15))
    white = jitter(rng, (0.9, 0.9, 0.88), 0.015)
    shell.close_ceiling(mjcf, length, width, height, mjcf.sheet(textures.plaster(rng, white), metres=2.0))


def _lay_rug(mjcf: Mjcf, rng: Generator, floor: Floor) -> None:
    if rng.random() < 0.75:
        size = rng.uniform([1.4, 1.0], [2.4, 1.7])
        x, y = rng.uniform(-0.2, 0.2, 2) * [floor.length, floor.width]
        pixels = textures.rug(rng, pick(rng, furniture.CLOTHS), pick(rng, WALLS))
        mjcf.box((x, y, 0.006), (size[0], size[1], 0.012), mjcf.sheet(pixels), yaw=float(rng.uniform(-0.3, 0.3)))
