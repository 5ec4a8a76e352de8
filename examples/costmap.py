"""A costmap with imagination: what was seen, and beside it what is probably there, with a price for not knowing.

Needs a running node `mirage` that has seen a camera frame: docs/planner.md. Saves the map as a picture, one pixel a
cell, with x to the right and y up.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.client import Grid, Mirage
from mirage_ros.media import save_png
from mirage_ros.trajectory import pan

# Costs as nav2 has them: lethal, and what nobody knows anything of.
LETHAL, NO_INFORMATION = 254, 255
# Of a place that is only imagined to be free: the robot goes there, but rather elsewhere.
IMAGINED = 60


def costs(observed: Grid, imagined: Grid) -> NDArray[np.uint8]:
    """(rows, columns) uint8 costs: 0 free, LETHAL occupied, between them as likely as that is."""
    known, guess = observed.cells.astype(int), imagined.at(observed.centres).astype(int)
    cost = np.full(known.shape, NO_INFORMATION)
    # Twice as likely as anywhere is an obstacle to go around, half certain is one to keep out of.
    told = (known < 0) & (guess >= 0)
    cost[told] = np.minimum(IMAGINED + guess[told] * (LETHAL - 1 - IMAGINED) // 50, LETHAL - 1)
    cost[known == 0], cost[known == 100] = 0, LETHAL
    return cost.astype(np.uint8)


def main(arguments: list[str] | None = None) -> None:
    """Look around in imagination, and save what comes of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", default="", help="of the node")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds to wait for each answer")
    parser.add_argument("--out", type=Path, default=Path("costmap.png"))
    options = parser.parse_args(arguments)
    # Where the camera is now, from your localisation: at a height of 1.2 m, looking along x.
    here = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.2], [0, 0, 0, 1]], dtype=torch.float64)
    with Mirage(options.namespace, timeout=options.timeout) as mirage:
        for turn in (1.5, -1.5):
            mirage.imagine([pan(here, turn, 9)], remember=True, unseen="mean", frames=False, timeout=options.timeout)
        observed, imagined = mirage.occupancy(), mirage.occupancy(imagined=True)
    cost = costs(observed, imagined)
    save_png(options.out, np.repeat((255 - cost)[::-1, :, None], 3, axis=2))
    area = observed.resolution**2
    seen, guessed = (observed.cells >= 0).sum() * area, ((cost < NO_INFORMATION) & (observed.cells < 0)).sum() * area
    print(f"{seen:.1f} square metres seen, {guessed:.1f} more imagined: {options.out}")


if __name__ == "__main__":
    main()
