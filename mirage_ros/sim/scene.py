"""Scenes: everything about one simulated place, grown from an integer seed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from mirage_ros.sim.flats import build_flat
from mirage_ros.sim.halls import build_hall
from mirage_ros.sim.mjcf import Mjcf
from mirage_ros.sim.movers import Mover, add_mover
from mirage_ros.sim.placement import Floor, Footprint
from mirage_ros.sim.rooms import build_room
from mirage_ros.sim.warehouses import build_warehouse

_BUILDERS: dict[str, tuple[Callable[[Mjcf, Generator], tuple[Floor, float]], float]] = {
    # Builder and ambient light. Their order is part of the seed: append, never insert.
    "rooms": (build_room, 0.46),
    "halls": (build_hall, 0.5),
    "flats": (build_flat, 0.5),
    "warehouses": (build_warehouse, 0.48),
}
FAMILIES = tuple(_BUILDERS)
MAX_MOVING = 3
# What a ROS parameter and every random generator hold alike.
MAX_SEED = 2**31 - 1


@dataclass(frozen=True)
class Scene:
    """One place. World frame: z up, the floor at height zero, the origin in the middle of the floor.

    Attributes:
        family, seed: what it was grown from.
        length, width, height: inner size along x, y and z, metres.
        obstacles: what stands on the floor, including the courses of what moves, and the inner walls.
        walls: those, and what is above their doorways.
        doorways: openings in the inner walls; the length's axis runs along the wall.
        movers: things that move.
        mjcf: MuJoCo's description.
        assets: the textures that it names, PNG.
    """

    family: str
    seed: int
    length: float
    width: float
    height: float
    obstacles: tuple[Footprint, ...]
    walls: tuple[Footprint, ...]
    doorways: tuple[Footprint, ...]
    movers: tuple[Mover, ...]
    mjcf: str
    assets: Mapping[str, bytes]

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the description, whose texture names are hashes of their pixels."""
        return hashlib.sha256(self.mjcf.encode()).hexdigest()


def build_scene(seed: int, family: str = "rooms", moving: int | None = None) -> Scene:
    """Grow a scene; the same arguments give the same one on every machine.

    Args:
        seed: an integer from 0 to MAX_SEED.
        family: one of FAMILIES.
        moving: number of moving things, 0 to 3; the seed draws it by default. A full room may hold fewer.

    Raises:
        ValueError: an argument is out of range; names it.
    """
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed: expected an integer from 0 to {MAX_SEED}, got {seed!r}")
    if family not in _BUILDERS:
        raise ValueError(f"family: expected one of {', '.join(FAMILIES)}, got {family!r}")
    if moving is not None and not 0 <= moving <= MAX_MOVING:
        raise ValueError(f"moving: expected 0 to {MAX_MOVING}, got {moving}")
    builder, ambient = _BUILDERS[family]
    # Streams of their own, so that the number of moving things does not change the furniture.
    still, lively = (
        np.random.Generator(np.random.PCG64(sequence))
        for sequence in np.random.SeedSequence([int(seed), FAMILIES.index(family)]).spawn(2)
    )
    mjcf = Mjcf()
    floor, height = builder(mjcf, still)
    # Drawn in any case: a number that is given leaves what moves as it would be.
    count = int(lively.integers(0, MAX_MOVING + 1))
    tried = (add_mover(mjcf, lively, floor, index, height) for index in range(count if moving is None else moving))
    movers = tuple(mover for mover in tried if mover is not None)
    return Scene(
        family=family,
        seed=int(seed),
        length=floor.length,
        width=floor.width,
        height=height,
        obstacles=(*floor.occupied, *floor.walls),
        walls=tuple(floor.walls),
        doorways=tuple(floor.doorways),
        movers=movers,
        mjcf=mjcf.xml(ambient),
        assets=mjcf.assets,
    )
