"""`mirage bench perception`: what is found of moving things, against the simulator's truth, on scenes never trained on.

Studies:
  filter   recall and precision of the geometric filter, and what static clips lose
  ghosts   share of the memory on places where something moved, with and without filter
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch
from tqdm import tqdm

from mirage_ros.bench.perception_clips import TrueClip, draw_clip, spoil_depth
from mirage_ros.bench.perception_scores import Counts, count_cells, ghost_share
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.pipeline import DynamicFilter, NoFilter
from mirage_ros.sim.splits import scene_seeds

# Pixels along a cell, and frames of a chunk, of the default preset.
STRIDE, CHUNK = 4, 9
# Standard deviation of depth as a share of it, and pixels by which its edges bleed.
SPOILS = {"exact depth": (0.0, 0), "2 % noise": (0.02, 0), "5 % noise, bleeding edges": (0.05, 1)}


def clips(options: argparse.Namespace, moving: tuple[int, ...]) -> Iterator[tuple[int, TrueClip]]:
    """Held-out clips with their numbers of moving things; scenes without room for such a walk are left out."""
    seeds = scene_seeds("held-out", 0, options.seeds)
    jobs = [(number, family, seed) for number in moving for family in ("rooms", "halls") for seed in seeds]
    for number, family, seed in tqdm(jobs, unit="clip", leave=False):
        try:
            clip = draw_clip(seed, family, moving=number, frames=options.frames)
        except ValueError as error:
            print(f"left out: {error}")
        else:
            yield number, clip


def bench_filter(options: argparse.Namespace) -> None:
    """Recall, precision and loss for depth without and with errors."""
    totals = {(name, lively): Counts() for name in SPOILS for lively in (True, False)}
    for moving, clip in clips(options, (0, 1, 2, 3)):
        for name, (share, bleed) in SPOILS.items():
            depth = spoil_depth(clip.depth, share, torch.Generator().manual_seed(0), bleed=bleed)
            totals[name, moving > 0] += count_cells(clip, GeometricFilter(), STRIDE, CHUNK, depth)
    print(f"{'':<28} {'recall':>7} {'slower':>7} {'precision':>10} {'static clips lose':>18}")
    for name in SPOILS:
        lively, static = totals[name, True].figures(), totals[name, False].figures()
        print(
            f"{name:<28} {lively['recall']:7.3f} {lively['recall_slow']:7.3f} {lively['precision']:10.3f} "
            f"{100 * static['lost']:16.2f} %"
        )


def bench_ghosts(options: argparse.Namespace) -> None:
    """Ghost elements with and without the filter."""
    filters: dict[str, Callable[[], DynamicFilter]] = {"none": NoFilter, "geometric": GeometricFilter}
    shares = [
        [ghost_share(clip, make(), STRIDE, CHUNK) for make in filters.values()] for _, clip in clips(options, (1, 2, 3))
    ]
    for name, values in zip(filters, np.transpose(shares), strict=True):
        print(f"filter {name:<10} ghosts {100 * values.mean():6.2f} %, worst clip {100 * values.max():6.2f} %")


STUDIES: dict[str, Callable[[argparse.Namespace], None]] = {"filter": bench_filter, "ghosts": bench_ghosts}


def main() -> None:
    """Run the studies asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"{', '.join(STUDIES)}; all by default")
    parser.add_argument("--seeds", type=int, default=2, help="held-out scenes of each family and number of movers")
    parser.add_argument("--frames", type=int, default=25, help="frames of a clip")
    options = parser.parse_args()
    studies = options.studies or list(STUDIES)
    if set(studies) - set(STUDIES):
        parser.error(f"STUDY: expected {', '.join(STUDIES)}, got {' '.join(options.studies)}")
    if options.seeds < 1 or options.frames < 17:
        parser.error(f"--seeds, --frames: expected from 1 and from 17, got {options.seeds} and {options.frames}")
    for name in studies:
        print(f"{name}: held-out scenes, {options.seeds} seeds, {options.frames} frames, sizes of default")
        STUDIES[name](options)
