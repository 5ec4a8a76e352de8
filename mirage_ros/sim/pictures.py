"""Flat things worth looking at: posters, paintings, notices, the sky."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
from numpy.random import Generator

from mirage_ros.sim.textures import Field, Pixels, fractal_noise, to_pixels

WHITE = (0.93, 0.92, 0.88)


def poster(rng: Generator, height: int = 128, width: int = 96) -> Pixels:
    """A framed picture: a landscape, an abstract composition, a portrait or printed text."""
    paint = (landscape, abstract, circles, portrait, notice)[rng.integers(5)]
    colours = paint(rng, height, width)
    colours = colours * (1 + 0.04 * fractal_noise(rng, height, width, 1.0))[..., None]
    border = max(2, height // 24)
    frame = np.asarray(((0.12, 0.1, 0.09), (0.45, 0.3, 0.18), WHITE)[rng.integers(3)])
    for edge in (np.s_[:border], np.s_[-border:], np.s_[:, :border], np.s_[:, -border:]):
        colours[edge] = frame
    return to_pixels(colours)


def landscape(rng: Generator, height: int, width: int) -> Field:
    """Ridges one behind the other under a sky."""
    v = np.linspace(0, 1, height)[:, None, None]
    top, bottom = rng.uniform([0.3, 0.45, 0.6], [0.5, 0.65, 0.9]), rng.uniform([0.75, 0.6, 0.5], [0.95, 0.85, 0.75])
    colours = np.broadcast_to(top * (1 - v) + bottom * v, (height, width, 3)).copy()
    sun = (int(rng.uniform(0.15, 0.85) * width), int(rng.uniform(0.1, 0.4) * height))
    cv2.circle(colours, sun, height // 12, (0.98, 0.9, 0.7), -1, cv2.LINE_AA)
    ground = rng.uniform([0.15, 0.3, 0.12], [0.5, 0.5, 0.35])
    for layer in range(4):
        ridge = fractal_noise(rng, 1, 2 * width, 1.4)[0, :width] * 0.05 + 0.45 + 0.14 * layer
        below = np.linspace(0, 1, height)[:, None] > ridge[None]
        haze = 0.6 * (3 - layer) / 3
        colours[below] = ground * (1 - haze) + bottom * haze * 0.9
        ground = ground * 0.75
    return colours


def abstract(rng: Generator, height: int, width: int) -> Field:
    """Rectangles of strong colours with dark lines."""
    colours = np.full((height, width, 3), WHITE)
    palette = [(0.75, 0.18, 0.14), (0.15, 0.25, 0.5), (0.9, 0.75, 0.25), (0.2, 0.4, 0.3), (0.1, 0.1, 0.1)]
    xs = [0, *sorted(int(v) for v in rng.integers(8, width - 8, 3)), width]
    ys = [0, *sorted(int(v) for v in rng.integers(8, height - 8, 4)), height]
    for y0, y1 in pairwise(ys):
        for x0, x1 in pairwise(xs):
            if rng.random() < 0.5:
                colours[y0:y1, x0:x1] = palette[rng.integers(len(palette))]
    for y in ys:
        colours[max(0, y - 1) : y + 1] = 0.08
    for x in xs:
        colours[:, max(0, x - 1) : x + 1] = 0.08
    return colours


def circles(rng: Generator, height: int, width: int) -> Field:
    """Overlapping discs on a coloured ground."""
    colours = np.full((height, width, 3), rng.uniform(0.55, 0.95, 3))
    for _ in range(int(rng.integers(5, 11))):
        centre = (int(rng.uniform(0, width)), int(rng.uniform(0, height)))
        radius = int(rng.uniform(0.06, 0.26) * height)
        cv2.circle(colours, centre, radius, tuple(rng.uniform(0.1, 0.9, 3).tolist()), -1, cv2.LINE_AA)
    return colours


def portrait(rng: Generator, height: int, width: int) -> Field:
    """Head and shoulders in front of a plain ground."""
    colours = np.full((height, width, 3), rng.uniform(0.25, 0.8, 3))
    cx, cy = width // 2, int(height * 0.42)
    skin = np.array([0.85, 0.65, 0.52]) * rng.uniform(0.45, 1.1)
    hair = rng.uniform(0.05, 0.45) * np.array([1.0, 0.75, 0.5])
    coat = rng.uniform(0.1, 0.7, 3)
    cv2.ellipse(colours, (cx, height), (int(width * 0.42), int(height * 0.36)), 0, 0, 360, tuple(coat), -1, cv2.LINE_AA)
    cv2.ellipse(colours, (cx, cy - height // 30), (width // 4, height // 4), 0, 0, 360, tuple(hair), -1, cv2.LINE_AA)
    cv2.ellipse(colours, (cx, cy), (width // 5, height // 5), 0, 0, 360, tuple(skin), -1, cv2.LINE_AA)
    for side in (-1, 1):
        cv2.circle(colours, (cx + side * width // 12, cy - height // 40), 2, (0.1, 0.1, 0.1), -1, cv2.LINE_AA)
    cv2.ellipse(colours, (cx, cy + height // 11), (width // 14, height // 60), 0, 0, 360, (0.6, 0.25, 0.22), -1)
    return colours


def notice(rng: Generator, height: int, width: int) -> Field:
    """A heading, a block and lines of text."""
    colours = np.full((height, width, 3), WHITE)
    accent = rng.uniform(0.1, 0.75, 3)
    colours[height // 10 : height // 4, width // 10 : -width // 10] = accent
    y = height // 3
    while y < height * 0.88:
        end = int(width * rng.uniform(0.45, 0.88))
        colours[y : y + 2, width // 10 : end] = 0.25
        y += max(5, height // 20)
    if rng.random() < 0.5:
        colours[height // 2 : height * 3 // 4, width // 2 : -width // 10] = rng.uniform(0.2, 0.8, 3)
    return colours


def panorama(rng: Generator, size: int = 128) -> list[Pixels]:
    """Sky with clouds above a hazy horizon.

    Returns:
        Faces of a cube seen from within, in MuJoCo's order: right, left, up, down, front, back.
    """
    directions = []
    v, u = np.meshgrid(np.linspace(1, -1, size), np.linspace(-1, 1, size), indexing="ij")
    one = np.ones_like(u)
    # MuJoCo's sky turns with y up; only the height above the horizon matters here, so each face's own y is enough.
    for y in (v, v, one, -one, v, v):
        length = np.sqrt(u**2 + v**2 + 1)
        directions.append(y / length)
    zenith, horizon = (
        rng.uniform([0.25, 0.42, 0.68], [0.4, 0.58, 0.9]),
        rng.uniform([0.78, 0.82, 0.85], [0.92, 0.92, 0.92]),
    )
    ground = rng.uniform([0.3, 0.34, 0.25], [0.5, 0.5, 0.42])
    faces = []
    for height in directions:
        up = np.clip(height, 0, 1)[..., None] ** 0.5
        cloud = np.clip(fractal_noise(rng, size, size, 1.5) * 0.5 + 0.1, 0, 1)[..., None] * up
        sky = horizon * (1 - up) + zenith * up
        colours = sky * (1 - 0.7 * cloud) + 0.95 * 0.7 * cloud
        colours = np.where(height[..., None] < 0, ground, colours)
        faces.append(to_pixels(colours))
    return faces
