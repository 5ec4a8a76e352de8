"""Procedural textures with the statistics of natural surfaces: 1/f variation, grain, joints, wear.

Every function takes a numpy Generator and returns (H, W, 3) uint8 rgb. Those named after a material tile without seams.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Field = NDArray[np.float64]
Colour = tuple[float, float, float]


@cache
def _palettes() -> dict[str, list[list[float]]]:
    content: dict[str, list[list[float]]] = json.loads(Path(__file__).with_name("palettes.json").read_text())
    return content


def palette(name: str) -> tuple[Colour, ...]:
    """Colours of palettes.json, red, green, blue in 0..1."""
    return tuple((red, green, blue) for red, green, blue in _palettes()[name])


def fractal_noise(rng: Generator, height: int, width: int, beta: float = 1.0, stretch: float = 1.0) -> Field:
    """Tileable noise (H, W) of mean 0 and deviation 1, whose amplitude falls with spatial frequency as 1/f^beta.

    Beta 0 is white, 1 is like natural images, 2 is clouds. Structures are `stretch` times longer along the rows.
    """
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None] * stretch
    radius = np.hypot(fy, fx)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / radius**beta
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(height, width))
    return noise / noise.std()


def jitter(rng: Generator, colour: Colour, amount: float = 0.04) -> Colour:
    """A colour near another one."""
    r, g, b = (float(min(max(value + rng.normal(0, amount), 0.02), 0.98)) for value in colour)
    return r, g, b


def pick(rng: Generator, colours: tuple[Colour, ...]) -> Colour:
    """One of the colours, varied a little."""
    return jitter(rng, colours[rng.integers(len(colours))])


def to_pixels(colours: Field) -> Pixels:
    """(H, W, 3) colours in 0..1, clipped and rounded."""
    return np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8)


def shaded(base: Colour, shade: Field, tint: Field | None = None) -> Field:
    """(H, W, 3) of one base colour, brightened by a factor (H, W) and warmed or cooled by a tint (H, W)."""
    colours = np.asarray(base) * shade[..., None]
    if tint is not None:
        colours = colours + tint[..., None] * np.array([0.03, 0.0, -0.03])
    return colours


def plaster(rng: Generator, base: Colour, size: int = 256) -> Pixels:
    """Painted wall: faint large stains and a fine roller pattern."""
    large, fine = fractal_noise(rng, size, size, 1.5), fractal_noise(rng, size, size, 0.4)
    return to_pixels(shaded(base, 1 + 0.028 * large + 0.025 * fine, 0.4 * fractal_noise(rng, size, size, 1.8)))


def wallpaper(rng: Generator, base: Colour, accent: Colour, size: int = 256) -> Pixels:
    """Stripes or a small repeated motif on plaster."""
    ground = plaster(rng, base, size) / 255.0
    y, x = np.mgrid[:size, :size] / size
    if rng.random() < 0.5:
        mask = (np.sin(2 * np.pi * x * rng.integers(3, 8)) > rng.uniform(-0.3, 0.6)).astype(float)
    else:
        count = rng.integers(3, 6)
        u, v = (x * count) % 1 - 0.5, (y * count) % 1 - 0.5
        angle = np.arctan2(v, u) * rng.integers(3, 7)
        mask = (np.hypot(u, v) < 0.28 + 0.1 * np.cos(angle)).astype(float)
    mask = cv2.GaussianBlur(mask, (3, 3), 0)[..., None] * rng.uniform(0.3, 0.8)
    return to_pixels(ground * (1 - mask) + np.asarray(accent) * mask)


def bricks(rng: Generator, base: Colour, mortar: Colour, rows: int = 8, size: int = 256) -> Pixels:
    """Running bond with bricks of varied shade."""
    y, x = np.mgrid[:size, :size] / size
    row = np.floor(y * rows).astype(int)
    u = x * rows / 2 + 0.5 * (row % 2)
    column = np.floor(u).astype(int) % (rows // 2)
    shade = rng.normal(1, 0.12, (rows, rows // 2))[row, column]
    gap = (np.minimum(y * rows % 1, 1 - y * rows % 1) < 0.07) | (np.minimum(u % 1, 1 - u % 1) < 0.035)
    rough = 1 + 0.07 * fractal_noise(rng, size, size, 0.8)
    brick = shaded(base, shade * rough)
    return to_pixels(np.where(gap[..., None], shaded(mortar, rough), brick))


def grain(rng: Generator, base: Colour, height: int, width: int) -> Field:
    """Wood grain along the rows, (H, W, 3) in 0..1."""
    warp = fractal_noise(rng, height, width, 1.6, stretch=8.0)
    y = np.arange(height)[:, None] / height
    rings = np.sin(2 * np.pi * (rng.uniform(3, 7) * y + 0.55 * warp))
    fibres = fractal_noise(rng, height, width, 0.5, stretch=24.0)
    return shaded(base, 1 + 0.09 * rings + 0.05 * fibres + 0.05 * warp, warp)


def wood(rng: Generator, base: Colour, size: int = 128) -> Pixels:
    """One board."""
    return to_pixels(grain(rng, base, size, size))


def planks(rng: Generator, base: Colour, rows: int = 6, size: int = 256) -> Pixels:
    """Floor boards, each cut from another place, with dark joints and staggered ends."""
    board = size // rows
    colours: Field = np.zeros((board * rows, size, 3))
    for i in range(rows):
        strip = grain(rng, base, board, size) * rng.normal(1, 0.09)
        strip[:1] *= 0.55
        strip[:, rng.integers(0, size - 2)] *= 0.6
        colours[i * board : (i + 1) * board] = np.roll(strip, rng.integers(0, size), axis=1)
    return to_pixels(np.asarray(cv2.resize(colours, (size, size), interpolation=cv2.INTER_AREA), np.float64))


def tiles(rng: Generator, base: Colour, accent: Colour, count: int = 4, size: int = 256) -> Pixels:
    """Square tiles with joints; plain or chequered."""
    y, x = np.mgrid[:size, :size] / size * count
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    shade = rng.normal(1, 0.04, (count, count))[i, j] * (1 + 0.03 * fractal_noise(rng, size, size, 1.2))
    colours = shaded(base, shade)
    if rng.random() < 0.5:
        colours = np.where(((i + j) % 2 == 0)[..., None], colours, shaded(accent, shade))
    edge = np.minimum.reduce([y % 1, 1 - y % 1, x % 1, 1 - x % 1]) < 0.025
    return to_pixels(np.where(edge[..., None], np.asarray(base) * 0.55, colours))


def carpet(rng: Generator, base: Colour, size: int = 256) -> Pixels:
    """Short pile: fine noise over broad wear."""
    fine, broad = fractal_noise(rng, size, size, 0.15), fractal_noise(rng, size, size, 1.4)
    return to_pixels(shaded(base, 1 + 0.12 * fine + 0.06 * broad, broad))


def fabric(rng: Generator, base: Colour, size: int = 128) -> Pixels:
    """Woven cloth, sometimes chequered."""
    y, x = np.mgrid[:size, :size]
    weave = 0.06 * np.sin(np.pi * x / 2) * np.sin(np.pi * y / 2)
    shade = 1 + weave + 0.06 * fractal_noise(rng, size, size, 0.9)
    if rng.random() < 0.4:
        period = size // rng.integers(3, 7)
        shade = shade - 0.16 * ((x // (period // 2)) % 2) - 0.16 * ((y // (period // 2)) % 2)
    return to_pixels(shaded(base, shade))


def concrete(rng: Generator, base: Colour, size: int = 256) -> Pixels:
    """Cast concrete with stains and pores."""
    stains, pores = fractal_noise(rng, size, size, 1.7), fractal_noise(rng, size, size, 0.1)
    return to_pixels(shaded(base, 1 + 0.07 * stains + 0.04 * pores - 0.25 * (pores > 3)))


def terrazzo(rng: Generator, base: Colour, chips: Sequence[Colour], size: int = 256) -> Pixels:
    """Stone chips in a polished ground."""
    colours = shaded(base, 1 + 0.03 * fractal_noise(rng, size, size, 1.2))
    for _ in range(260):
        centre = tuple(int(v) for v in rng.integers(0, size, 2))
        axes = tuple(int(v) for v in rng.integers(1, 5, 2))
        chip = np.asarray(chips[int(rng.integers(len(chips)))]) * rng.normal(1, 0.1)
        cv2.ellipse(colours, centre, axes, float(rng.uniform(0, 180)), 0, 360, tuple(map(float, chip)), -1, cv2.LINE_AA)
    return to_pixels(colours)


def rug(rng: Generator, base: Colour, accent: Colour, size: int = 128) -> Pixels:
    """A patterned rug with borders; it does not tile."""
    y, x = np.abs(np.mgrid[:size, :size] / (size - 1) * 2 - 1)
    ring = np.maximum(x, y)
    diamond = np.floor((x + y) * rng.integers(3, 7)) % 2
    mask = np.where(ring > 0.9, 0.9, np.where(ring > 0.78, 0.15, 0.75 * diamond))[..., None]
    pile = 1 + 0.1 * fractal_noise(rng, size, size, 0.3)
    return to_pixels((np.asarray(base) * (1 - mask) + np.asarray(accent) * mask) * pile[..., None])


def foliage(rng: Generator, size: int = 128) -> Pixels:
    """Leaves: patches of many greens."""
    y, x = np.mgrid[:size, :size] + 6 * fractal_noise(rng, size, size, 1.0).astype(np.float32)
    cells = rng.uniform(0, size, (140, 2))
    distance = np.hypot(y[..., None] - cells[:, 0], x[..., None] - cells[:, 1])
    nearest = distance.argmin(axis=-1)
    shade = rng.uniform(0.45, 1.25, len(cells))[nearest] * (1 - 0.02 * distance.min(axis=-1))
    return to_pixels(shaded((0.24, 0.42, 0.16), shade, rng.normal(0, 2, len(cells))[nearest]))
