"""`mirage bench perception`: what perception finds, against the simulator's truth, on scenes never trained on.

Studies:
  filter   recall and precision of the geometric filter, and what static clips lose
  ghosts   share of the memory on places where something moved, with and without filter
  cost     what the filter takes away from imagined walks in which nothing moves
  noise    what errors of depth cost readouts and imagined walks
  align    scale recovered from disturbed depth
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mirage_ros.bench import perception_rollouts
from mirage_ros.bench.perception_clips import TrueClip, draw_clip, spoil_depth
from mirage_ros.bench.perception_scores import Counts, count_cells, ghost_share
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.pipeline import DynamicFilter, NoFilter
from mirage_ros.perception.scale_alignment import fit
from mirage_ros.resources import weights_directory
from mirage_ros.sim.splits import scene_seeds

# Height, width, stride and frames of a chunk of the presets.
SIZES = {"default": (128, 192, 4, 9, 10.0), "wan2.2-ti2v-5b": (704, 1280, 16, 33, 16.0)}
# Share of the cells that estimate and memory both see where alignment must refuse.
OVERLAP = 0.02


def clips(options: argparse.Namespace, moving: tuple[int, ...]) -> Iterator[tuple[int, TrueClip]]:
    """Held-out clips with their numbers of moving things; scenes without room for such a walk are left out."""
    height, width, _, _, fps = SIZES[options.preset]
    seeds = scene_seeds("held-out", 0, options.seeds)
    jobs = [(family, seed, number) for number in moving for family in ("rooms", "halls") for seed in seeds]
    for family, seed, number in tqdm(jobs, unit="clip", leave=False):
        try:
            yield (
                number,
                draw_clip(seed, family, moving=number, frames=options.frames, height=height, width=width, fps=fps),
            )
        except ValueError as error:
            print(f"left out: {error}")


def bench_filter(options: argparse.Namespace) -> dict[str, Any]:
    """Recall, precision and loss for depth without and with errors."""
    _, _, stride, chunk, _ = SIZES[options.preset]
    spoils = {"exact depth": (0.0, 0), "2 % noise": (0.02, 0), "5 % noise, bleeding edges": (0.05, 1)}
    totals = {(name, lively): Counts() for name in spoils for lively in (True, False)}
    for moving, clip in clips(options, (0, 1, 2, 3)):
        for name, (share, bleed) in spoils.items():
            depth = spoil_depth(clip.depth, share, torch.Generator().manual_seed(0), bleed=bleed)
            totals[name, moving > 0] += count_cells(clip, GeometricFilter(), stride, chunk, depth)
    results = {}
    print(f"{'':<28} {'recall':>7} {'slower':>7} {'precision':>10} {'static clips lose':>18}")
    for name in spoils:
        lively, static = totals[name, True].figures(), totals[name, False].figures()
        print(
            f"{name:<28} {lively['recall']:7.3f} {lively['recall_slow']:7.3f} {lively['precision']:10.3f} "
            f"{100 * static['lost']:16.2f} %"
        )
        results[name] = {"moving": lively, "static": static}
    return results


def bench_ghosts(options: argparse.Namespace) -> dict[str, Any]:
    """Ghost elements with and without the filter."""
    _, _, stride, chunk, _ = SIZES[options.preset]
    filters: dict[str, Callable[[], DynamicFilter]] = {"none": NoFilter, "geometric": GeometricFilter}
    shares: dict[str, list[float]] = {name: [] for name in filters}
    for _, clip in clips(options, (1, 2, 3)):
        for name, make in filters.items():
            shares[name].append(ghost_share(clip, make(), stride, chunk))
    results = {}
    for name, values in shares.items():
        results[name] = {"mean": sum(values) / len(values), "worst": max(values), "clips": len(values)}
        print(f"filter {name:<10} ghosts {100 * results[name]['mean']:6.2f} %, worst clip {100 * max(values):6.2f} %")
    return results


def bench_noise(options: argparse.Namespace) -> dict[str, Any]:
    """What errors of depth cost readouts and imagined walks; see `perception_rollouts`."""
    return perception_rollouts.bench_noise(
        options, [clip for _, clip in clips(options, (0,))], SIZES[options.preset][2]
    )


def bench_cost(options: argparse.Namespace) -> dict[str, Any]:
    """What the filter costs walks in which nothing moves; see `perception_rollouts`."""
    return perception_rollouts.bench_cost(options, [clip for _, clip in clips(options, (0,))])


def bench_align(options: argparse.Namespace) -> dict[str, Any]:
    """Worst error of the scale over random scales, 30 % outliers and 5 % noise; refusals where 2 % of cells overlap."""
    _, _, stride, _, _ = SIZES[options.preset]
    generator = torch.Generator().manual_seed(0)
    errors, refused = [], 0
    for _, clip in clips(options, (0,)):
        true = clip.depth[0, stride // 2 :: stride, stride // 2 :: stride]
        scale = float(torch.rand((), generator=generator)) * 3 + 0.2
        estimate = true * scale * (1 + 0.05 * torch.randn(true.shape, generator=generator))
        outlier = torch.rand(true.shape, generator=generator) < 0.3
        estimate = torch.where(outlier, estimate * (1.2 + 2 * torch.rand(true.shape, generator=generator)), estimate)
        found = fit(estimate, true)
        errors.append(abs(found.scale / scale - 1) if not found.refused else math.inf)
        # The memory knows a strip at the left edge alone.
        strip = torch.where(torch.arange(true.shape[1]) < OVERLAP * true.shape[1], true, torch.nan)
        refused += bool(fit(estimate, strip).refused)
    worst = max(errors)
    print(f"scale with 30 % outliers and 5 % noise: worst error {100 * worst:.2f} % of {len(errors)} frames")
    print(f"with an overlap of {100 * OVERLAP:g} % of the cells: refused {refused} of {len(errors)}")
    return {"worst": worst, "frames": len(errors), "refused": refused}


STUDIES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "filter": bench_filter,
    "ghosts": bench_ghosts,
    "cost": bench_cost,
    "noise": bench_noise,
    "align": bench_align,
}


def main() -> None:
    """Run the studies asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=f"{', '.join(STUDIES)}; all by default")
    parser.add_argument("--preset", choices=tuple(SIZES), default="default", help="sizes of frames, cells and chunks")
    parser.add_argument("--seeds", type=int, default=2, help="held-out scenes of each family and number of movers")
    parser.add_argument("--frames", type=int, default=25, help="frames of a clip")
    parser.add_argument("--weights", type=Path, default=weights_directory() / "default", help="of cost and noise")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    studies = options.studies or list(STUDIES)
    if set(studies) - set(STUDIES):
        parser.error(f"STUDY: expected {', '.join(STUDIES)}, got {' '.join(options.studies)}")
    if options.seeds < 1 or options.frames < 17:
        parser.error(f"--seeds, --frames: expected from 1 and from 17, got {options.seeds} and {options.frames}")
    results = {}
    for name in studies:
        print(f"{name}: held-out scenes, {options.seeds} seeds, {options.frames} frames, sizes of {options.preset}")
        results[name] = STUDIES[name](options)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
