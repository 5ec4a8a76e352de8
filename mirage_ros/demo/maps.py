"""Pictures of what a planner gets beside frames: maps seen from above, and what ways are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from torch import Tensor

from mirage_ros.client import Grid, Mirage, ViewScore
from mirage_ros.media import Pixels
from mirage_ros.page import table

# Pixels of a cell, cells around what is known, metres of the robot.
CELL, MARGIN, RADIUS = 4, 12, 0.2
UNKNOWN, FREE, OCCUPIED = (60, 60, 66), (235, 235, 235), (10, 10, 10)
# What is imagined, from free to occupied.
PALE, RED = np.array([150, 190, 235]), np.array([225, 60, 40])
WAYS = ((64, 170, 60), (236, 140, 20), (170, 60, 200))


@dataclass(frozen=True, eq=False)
class Prospect:
    """What a planner is told of some ways.

    Attributes:
        observed, imagined: maps.
        ways: label, (T, 4, 4) poses, scores from the readout and from what is imagined along it.
    """

    observed: Grid
    imagined: Grid
    ways: tuple[tuple[str, Tensor, ViewScore, ViewScore], ...]


def ask_prospect(mirage: Mirage, candidates: Sequence[tuple[str, Tensor]]) -> Prospect:
    """Ask a node for its maps and for what candidates are worth."""
    paths = [poses for _, poses in candidates]
    readout, imagined = (mirage.score_views(paths, radius=RADIUS, imagine=how) for how in (False, True))
    ways = tuple((*each, known, guess) for each, known, guess in zip(candidates, readout, imagined, strict=True))
    return Prospect(mirage.occupancy(), mirage.occupancy(imagined=True), ways)


def draw_maps(shown: Prospect, track: Tensor) -> Pixels:
    """The maps, x to the right and y up, with the ways, and the camera's track (N, 4, 4) in orange."""
    observed, guess = shown.observed, shown.imagined.at(shown.observed.centres).astype(int)
    picture = np.full((*observed.cells.shape, 3), UNKNOWN, np.uint8)
    told = (observed.cells < 0) & (guess >= 0)
    # What is twice as likely as half is drawn as sure: most guesses are modest.
    share = np.minimum(guess[told] / 50, 1)[:, None]
    picture[told] = (PALE * (1 - share) + RED * share).astype(np.uint8)
    picture[observed.cells == 0], picture[observed.cells == 100] = FREE, OCCUPIED
    rows, columns = np.nonzero((observed.cells >= 0) | told)
    # Single cells far off, as behind a window, are left out.
    ends = np.quantile([columns, rows], [0.005, 0.995], axis=1) if len(rows) else np.zeros((2, 2))
    low, high = np.maximum(ends[0].astype(int) - MARGIN, 0), ends[1].astype(int) + MARGIN
    picture = picture[low[1] : high[1], low[0] : high[0]].repeat(CELL, axis=0).repeat(CELL, axis=1)
    for poses, colour in ((track, (236, 112, 64)), *zip((way[1] for way in shown.ways), WAYS, strict=False)):
        places = (poses[:, :2, 3].double().numpy() - observed.corner) / observed.resolution - low
        for start, end in pairwise((places * CELL).round().astype(int).tolist()):
            cv2.line(picture, start, end, colour, 2, cv2.LINE_AA)
        # A short stroke shows where the last pose looks.
        tip = places[-1] + poses[-1, :2, 2].double().numpy() * 6
        at, end = ((each * CELL).round().astype(int).tolist() for each in (places[-1], tip))
        cv2.arrowedLine(picture, at, end, colour, 2, cv2.LINE_AA, tipLength=0.4)
    return np.ascontiguousarray(picture[::-1])


def score_table(shown: Prospect) -> str:
    """HTML: what each way is worth, from the readout and imagined."""
    head = ("way", "scored by", "known", "new area", "information", "clearance", "risk")
    lines = [head] + [
        (
            label,
            how,
            f"{score.coverage:.0%}",
            *(
                "off the map" if math.isnan(value) else form.format(value)
                for value, form in (
                    (score.new_area, "{:.2f} m²"),
                    (score.information_gain, "{:.2f} bit m²"),
                    (score.clearance, "{:.2f} m"),
                    (score.collision, "{:.0%}"),
                )
            ),
        )
        for label, _, *scores in shown.ways
        for how, score in zip(("readout", "imagination"), scores, strict=True)
    ]
    return table(lines)
