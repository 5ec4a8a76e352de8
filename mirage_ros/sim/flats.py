"""Scene family `flats`: three to five furnished rooms with open doorways between them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.random import Generator

from mirage_ros.sim import furniture, textures
from mirage_ros.sim import walls_and_windows as shell
from mirage_ros.sim.furniture import Builder, Sized
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.pictures import panorama
from mirage_ros.sim.placement import Floor, Footprint
from mirage_ros.sim.textures import jitter, palette, pick

WALLS = palette("room_walls")
# Metres: an inner wall from room to room, a doorway, and its lining, which stands out of the wall.
THICK, DOOR_WIDTH, DOOR_HEIGHT, LINING = 0.12, 0.9, 2.05, 0.07
# Rooms are at least so wide, and a doorway so far from the corners.
LEAST_ROOM, LEAST_BESIDE = 2.5, 0.75
# What stays free: before a doorway, and from there to the middle of the room.
APPROACH, LANE = 1.0, 0.72


@dataclass(frozen=True)
class Plot:
    """A rectangle between the middles of inner walls and the faces of outer ones: x and y from and to, metres."""

    x: tuple[float, float]
    y: tuple[float, float]

    def halves(self, share: float) -> tuple[Plot, Plot]:
        """Divided across its longer side."""
        name = "x" if self.x[1] - self.x[0] > self.y[1] - self.y[0] else "y"
        low, high = getattr(self, name)
        cut = low + share * (high - low)
        return replace(self, **{name: (low, cut)}), replace(self, **{name: (cut, high)})

    def border(self, other: Plot) -> Footprint | None:
        """The inner wall between two plots."""
        for yaw, across, along in ((0.0, "y", "x"), (math.pi / 2, "x", "y")):
            (a, b), (c, d) = getattr(self, across), getattr(other, across)
            low, high = np.transpose([getattr(self, along), getattr(other, along)])
            low, high = float(low.max()), float(high.min())
            if (b == c or a == d) and high - low > 1e-6:
                middle, edge = (low + high) / 2, b if b == c else a
                x, y = (middle, edge) if across == "y" else (edge, middle)
                return Footprint(x, y, high - low, THICK, yaw)
        return None


def build_flat(mjcf: Mjcf, rng: Generator) -> tuple[Floor, float]:
    """Add a flat; returns its floor and its height."""
    mjcf.sky(panorama(rng))
    length, width, height = (float(v) for v in rng.uniform([8.2, 6.2, 2.45], [10.5, 8.0, 2.75]))
    plots, borders = _divide(rng, length, width)
    whole = Floor(length, width, [])
    board = mjcf.paint(jitter(rng, (0.9, 0.89, 0.86), 0.02))
    for border in borders:
        _raise_border(mjcf, whole, border, height, board)
    kinds = ["living", *rng.permutation(["bedroom", "kitchen", "study", "bedroom"]).tolist()]
    if "kitchen" not in kinds[: len(plots)]:
        kinds[1] = "kitchen"
    boards = textures.planks(rng, pick(rng, furniture.WOODS)), 1.2
    plots.sort(key=lambda plot: -(plot.x[1] - plot.x[0]) * (plot.y[1] - plot.y[0]))
    rooms = [_room(whole, plot) for plot in plots]
    for doorway in whole.doorways:
        _open_leaf(mjcf, rng, doorway, rooms)
    for index, (room, kind) in enumerate(zip(rooms, kinds, strict=False)):
        windows = _enclose(mjcf, rng, whole, room, height, board)
        pixels, metres = boards
        if kind == "kitchen":
            pixels, metres = textures.tiles(rng, jitter(rng, (0.72, 0.7, 0.66)), jitter(rng, (0.45, 0.44, 0.42))), 1.6
        elif rng.random() < 0.3:
            pixels, metres = textures.carpet(rng, pick(rng, furniture.CLOTHS)), 1.5
        # Up to the middle of the walls, where thresholds lie.
        size = room.length + THICK, room.width + THICK, 0.1
        mjcf.box((room.x, room.y, -0.05), size, mjcf.sheet(pixels, metres=metres, shine=0.15))
        _furnish(mjcf, rng, room, kind, windows)
        mjcf.cylinder((room.x, room.y, height - 0.04), 0.2, 0.08, mjcf.paint((0.97, 0.95, 0.88), glow=0.7))
        # Only one lamp throws shadows; the others shine through walls, so many rooms have weaker ones.
        mjcf.lamp((room.x, room.y, height - 0.15), 1.1 / len(rooms), shadow=index == 0)
        whole.occupied += room.occupied
        whole.lanes += room.lanes
    white = textures.plaster(rng, jitter(rng, (0.9, 0.9, 0.88), 0.015))
    shell.close_ceiling(mjcf, length, width, height, mjcf.sheet(white, metres=2.0))
    return whole, height


def _divide(rng: Generator, length: float, width: float) -> tuple[list[Plot], list[tuple[Footprint, float | None]]]:
    """Plots of rooms, and the walls between them with the place of the doorway along each, if it has one."""
    while True:
        plots = [Plot((-length / 2, length / 2), (-width / 2, width / 2))]
        for _ in range(int(rng.integers(2, 5))):
            largest = max(plots, key=lambda plot: (plot.x[1] - plot.x[0]) * (plot.y[1] - plot.y[0]))
            plots.remove(largest)
            plots += largest.halves(float(rng.uniform(0.38, 0.62)))
        if any(min(plot.x[1] - plot.x[0], plot.y[1] - plot.y[0]) < LEAST_ROOM for plot in plots):
            continue
        pairs = [(a, b, wall) for a, b in combinations(range(len(plots)), 2) if (wall := plots[a].border(plots[b]))]
        joined = list(range(len(plots)))
        borders: list[tuple[Footprint, float | None]] = []
        for index in rng.permutation(len(pairs)):
            a, b, wall = pairs[index]
            spare = wall.length / 2 - LEAST_BESIDE
            # A doorway wherever two parts of the flat are still apart, and sometimes a second way round.
            if spare > 0 and (joined[a] != joined[b] or rng.random() < 0.3):
                joined = [joined[a] if name == joined[b] else name for name in joined]
                borders.append((wall, float(rng.uniform(-spare, spare))))
            else:
                borders.append((wall, None))
        if len(set(joined)) == 1:
            return plots, borders


def _raise_border(mjcf: Mjcf, whole: Floor, border: tuple[Footprint, float | None], height: float, board: str) -> None:
    """Note an inner wall on the plan, and line its doorway."""
    wall, along = border
    ends = [-wall.length / 2, wall.length / 2]
    if along is not None:
        ends[1:1] = [along - DOOR_WIDTH / 2, along + DOOR_WIDTH / 2]
        doorway = Footprint(*wall.place(along, 0), DOOR_WIDTH, THICK, wall.yaw, 0.0, DOOR_HEIGHT)
        whole.doorways.append(doorway)
        whole.walls.append(replace(doorway, bottom=DOOR_HEIGHT, top=height))
        part, deep = Builder(mjcf, doorway), THICK + 0.04
        for side in (-1, 1):
            part.box(side * (DOOR_WIDTH + LINING) / 2, 0, 0, (LINING, deep, DOOR_HEIGHT + LINING), board)
        part.box(0, 0, DOOR_HEIGHT, (DOOR_WIDTH + LINING, deep - 0.004, LINING - 0.003), board)
        part.box(0, 0, 0, (DOOR_WIDTH + LINING, deep - 0.01, 0.012), board)
    for a, b in zip(ends[::2], ends[1::2], strict=True):
        whole.walls.append(Footprint(*wall.place((a + b) / 2, 0), b - a, THICK, wall.yaw, 0.0, height))


def _room(whole: Floor, plot: Plot) -> Floor:
    """The floor of a room inside its walls, with its doorways and lanes that join them."""
    sides = []
    for (low, high), reach in ((plot.x, whole.length / 2), (plot.y, whole.width / 2)):
        sides.append((low + (low > -reach) * THICK / 2, high - (high < reach) * THICK / 2))
    (left, right), (near, far) = sides
    room = Floor(right - left, far - near, [], (left + right) / 2, (near + far) / 2)
    for door in whole.doorways:
        for side in (-1, 1):
            x, y = door.place(0, side * THICK)
            if left < x < right and near < y < far:
                room.doorways.append(door)
                ahead = door.place(0, side * (APPROACH + THICK / 2))
                room.lanes += [_lane(door.place(0, 0), ahead), _lane(ahead, (room.x, room.y))]
    return room


def _lane(start: tuple[float, float], end: tuple[float, float]) -> Footprint:
    (x, y), (u, v) = start, end
    return Footprint((x + u) / 2, (y + v) / 2, math.hypot(u - x, v - y) + LANE, LANE, math.atan2(v - y, u - x))


def _open_leaf(mjcf: Mjcf, rng: Generator, doorway: Footprint, rooms: list[Floor]) -> None:
    """A door that stands open into one of the rooms, if it is in nobody's way there."""
    if rng.random() < 0.4:
        return
    beyond = float(rng.uniform(0, 0.25))
    for corner in rng.permutation(4):
        hinge, side = (1 if corner % 2 else -1), (1 if corner < 2 else -1)
        along, across = hinge * math.sin(beyond), side * math.cos(beyond)
        reach = DOOR_WIDTH / 2 + 0.01
        x, y = doorway.place(hinge * (DOOR_WIDTH / 2 + 0.03) + along * reach, side * 0.12 + across * reach)
        yaw = doorway.yaw + math.atan2(across, along)
        leaf = Footprint(x, y, DOOR_WIDTH - 0.02, 0.04, yaw, 0.0, DOOR_HEIGHT - 0.01)
        if any(room.take(leaf, 0.05) for room in rooms):
            part = Builder(mjcf, leaf)
            part.box(0, 0, 0.01, (leaf.length, leaf.width, leaf.top - 0.01), furniture.some_wood(mjcf, rng))
            for face in (-1, 1):
                part.ball(leaf.length / 2 - 0.08, face * 0.05, 1.0, 0.03, mjcf.paint(furniture.METAL, shine=0.8))
            return


def _enclose(mjcf: Mjcf, rng: Generator, whole: Floor, room: Floor, height: float, board: str) -> list[Footprint]:
    """Walls of one room with its own colour; returns where tall furniture would hide a window."""
    base = pick(rng, WALLS)
    plain = feature = mjcf.sheet(textures.plaster(rng, base), metres=1.6)
    if rng.random() < 0.4:
        feature = mjcf.sheet(textures.wallpaper(rng, jitter(rng, base), pick(rng, WALLS)), metres=1.1)
    windows, chosen = [], int(rng.integers(4))
    for index, face in enumerate(shell.four_walls(room.length, room.width, height)):
        wall = replace(face, x=room.x, y=room.y)
        normal, right = np.array([math.cos(wall.facing), math.sin(wall.facing)]), np.array(wall.point(1, 0, 0)[:2])
        middle = np.array(wall.point(0, 0, 0)[:2])
        outer = abs(middle @ normal) > (whole.length / 2 if index % 2 == 0 else whole.width / 2) - 1e-6
        wall = replace(wall, depth=shell.WALL_DEPTH if outer else THICK / 2)
        offsets = [np.array([door.x, door.y]) - middle for door in room.doorways]
        doors = [float(o @ (right - middle)) for o in offsets if abs(o @ normal) < THICK]
        reach = DOOR_WIDTH / 2 + LINING / 2
        openings = [shell.Opening(a - reach, a + reach, 0.0, DOOR_HEIGHT + 0.03) for a in doors]
        if outer and wall.length > 2 and rng.random() < 0.75:
            half, bottom = float(rng.uniform(0.45, 0.8)), float(rng.uniform(0.85, 1.05))
            along = float(rng.uniform(-0.5, 0.5)) * (wall.length - 2 * half - 0.6)
            opening = shell.Opening(along - half, along + half, bottom, min(height - 0.25, 2.15))
            shell.frame_window(mjcf, wall, opening, board, 2)
            windows.append(Footprint(*wall.point(along, 0, 0.2)[:2], 2 * half, 0.3, wall.facing + math.pi / 2))
            openings.append(opening)
        shell.raise_wall(mjcf, wall, feature if index == chosen else plain, openings)
        shell.skirting(mjcf, wall, board, gaps=[(a - reach, a + reach) for a in doors])
        taken = [(opening.left - 0.12, opening.right + 0.12) for opening in openings]
        shell.hang_pictures(mjcf, rng, wall, int(rng.integers(0, 3)), taken)
    return windows


def _counter(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A kitchen counter with sink and hob, and cupboards above."""
    part, front = Builder(mjcf, place), mjcf.paint(pick(rng, (*WALLS, *furniture.WOODS)), shine=0.3)
    top, metal = mjcf.skin(textures.terrazzo(rng, pick(rng, WALLS), WALLS, 128), shine=0.4), mjcf.paint(furniture.METAL)
    dark, body = mjcf.paint((0.09, 0.09, 0.1), shine=0.7), mjcf.paint((0.8, 0.79, 0.77))
    length, depth = place.length, place.width
    part.box(0, -0.04, 0, (length - 0.04, depth - 0.12, 0.1), dark)
    part.box(0, -0.02, 0.1, (length, depth - 0.05, 0.77), body)
    part.box(0, 0, 0.87, (length, depth, 0.04), top)
    part.box(0, -depth / 2 + 0.17, 1.45, (length, 0.33, place.top - 1.45), body)
    count = round(length / 0.5)
    for i in range(count):
        x, wide = (i + 0.5) / count * length - length / 2, length / count - 0.02
        part.box(x, depth / 2 - 0.04, 0.12, (wide, 0.025, 0.72), front)
        part.box(x, -depth / 2 + 0.34, 1.47, (wide, 0.025, place.top - 1.49), front)
        part.box(x, depth / 2 - 0.02, 0.76, (wide * 0.5, 0.02, 0.015), metal)
    part.box(-length / 4, 0.02, 0.909, (0.42, 0.3, 0.008), dark)
    part.cylinder(-length / 4, -0.2, 0.91, 0.015, 0.25, metal)
    part.box(length / 4, 0, 0.905, (0.56, 0.46, 0.01), dark)
    for x in (-0.13, 0.13):
        for y in (-0.11, 0.11):
            part.cylinder(length / 4 + x, y, 0.913, 0.085, 0.006, metal)


def _fridge(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A fridge with two doors."""
    part, steel = Builder(mjcf, place), mjcf.paint(jitter(rng, (0.84, 0.85, 0.86), 0.05), shine=0.6)
    part.box(0, -0.02, 0.02, (place.length, place.width - 0.04, place.top - 0.02), mjcf.paint((0.78, 0.78, 0.79)))
    for bottom, top in ((0.06, 0.6), (0.62, place.top)):
        part.box(0, place.width / 2 - 0.03, bottom, (place.length, 0.05, top - bottom), steel)
        part.box(-place.length / 2 + 0.06, place.width / 2, bottom + 0.1, (0.025, 0.03, 0.3), mjcf.paint((0.3,) * 3))


def _desk(mjcf: Mjcf, rng: Generator, place: Footprint) -> None:
    """A desk with a screen, and a chair before it."""
    back = Footprint(*place.place(0, -0.22), place.length, place.width - 0.44, place.yaw, 0.0, 0.74)
    furniture.table(mjcf, rng, back)
    part, dark = Builder(mjcf, back), mjcf.paint((0.08, 0.08, 0.09), shine=0.6)
    part.box(0, -0.22, 0.74, (0.05, 0.03, 0.14), dark)
    part.box(0, -0.2, 0.86, (0.56, 0.03, 0.34), mjcf.skin(textures.rug(rng, (0.15, 0.2, 0.3), pick(rng, WALLS), 64)))
    chair = Footprint(*place.place(0, place.width / 2 - 0.21), 0.42, 0.42, place.yaw + math.pi, 0.0, 0.9)
    furniture.chair(mjcf, rng, chair)


# What stands in each kind of room.
PIECES: dict[str, tuple[Sized, ...]] = {
    "living": (
        (furniture.shelf, (0.9, 0.3, 1.6), (1.6, 0.36, 2.1), True),
        (furniture.sofa, (1.5, 0.85, 0.75), (2.1, 0.95, 0.85), True),
        (furniture.cabinet, (0.9, 0.42, 0.5), (1.5, 0.5, 0.9), True),
        (furniture.floor_lamp, (0.4, 0.4, 1.5), (0.4, 0.4, 1.75), True),
        (furniture.plant, (0.45, 0.45, 0.9), (0.6, 0.6, 1.5), True),
        (furniture.round_table, (0.6, 0.6, 0.5), (0.8, 0.8, 0.6), False),
    ),
    "bedroom": (
        (furniture.cabinet, (0.9, 0.5, 1.8), (1.4, 0.58, 2.05), True),
        (furniture.bed, (1.2, 2.0, 0.9), (1.6, 2.05, 1.1), True),
        (furniture.cabinet, (0.5, 0.4, 0.5), (0.9, 0.45, 0.8), True),
        (furniture.floor_lamp, (0.4, 0.4, 1.5), (0.4, 0.4, 1.75), True),
    ),
    "kitchen": (
        (_counter, (1.7, 0.62, 2.1), (2.5, 0.66, 2.2), True),
        (_fridge, (0.6, 0.62, 1.7), (0.66, 0.66, 1.95), True),
        (furniture.round_table, (0.7, 0.7, 0.72), (0.9, 0.9, 0.75), False),
        (furniture.plant, (0.4, 0.4, 0.8), (0.5, 0.5, 1.2), True),
    ),
    "study": (
        (furniture.shelf, (0.9, 0.3, 1.7), (1.5, 0.36, 2.2), True),
        (_desk, (1.2, 1.1, 1.2), (1.5, 1.15, 1.2), True),
        (furniture.shelf, (0.7, 0.3, 0.9), (1.0, 0.36, 1.2), True),
        (furniture.plant, (0.45, 0.45, 0.9), (0.6, 0.6, 1.5), True),
    ),
}


def _furnish(mjcf: Mjcf, rng: Generator, room: Floor, kind: str, windows: list[Footprint]) -> None:
    if kind in ("living", "bedroom"):
        size = rng.uniform(0.4, 0.6, 2) * [room.length, room.width]
        rug = mjcf.sheet(textures.rug(rng, pick(rng, furniture.CLOTHS), pick(rng, WALLS)))
        mjcf.box((room.x, room.y, 0.006), (size[0], size[1], 0.012), rug, yaw=float(rng.uniform(-0.1, 0.1)))
    pieces = list(furniture.sized(rng, PIECES[kind]))
    lanes = list(room.lanes)
    room.lanes += windows
    furniture.furnish(mjcf, rng, room, [piece for piece in pieces if piece[1][2] > 1.1])
    room.lanes[:] = lanes
    furniture.furnish(mjcf, rng, room, [piece for piece in pieces if piece[1][2] <= 1.1])
    if kind in ("living", "kitchen"):
        furniture.dining_corner(mjcf, rng, room)
