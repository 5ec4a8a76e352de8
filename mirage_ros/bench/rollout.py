"""`mirage bench rollout`: seconds for each imagined frame, stage by stage, and memory held.

The latent memory and the caches that it is compared with condition the same model in one run: a simulated room is seen
once, then a walk through it is imagined. Times are medians over chunks, the first chunk left out, which warms up. Of
several numbers of chunks the longest walk is imagined once; the shorter ones are its beginnings.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from tqdm import tqdm

from mirage_ros.bench.timing import neighbours, peak_bytes, reset_peak, surroundings
from mirage_ros.evaluation.methods import CACHES
from mirage_ros.evaluation.model_options import ModelOptions, device_name
from mirage_ros.evaluation.report import markdown_table, pyplot, save_plot
from mirage_ros.media import Pixels, contact_sheet, save_png
from mirage_ros.perception.pipeline import NoFilter, Perception, SensorDepth
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.world.model import WorldModel
from mirage_ros.world.results import STAGES


@dataclass
class RolloutOptions(ModelOptions):
    """Time of a rollout, stage by stage, for the latent memory and the caches that it is compared with."""

    chunks: tuple[int, ...] = (5,)
    """lengths of the rollout; several, such as 5 50, show how time and bytes grow"""
    caches: tuple[Literal["latent", "rgb", "view"], ...] = ("latent", "rgb", "view")
    steps: int | None = None
    compile: bool = False
    """run the transformer's blocks through torch.compile"""
    neighbours: int = 0
    """processes that keep a core busy each, beside the measurement"""
    seed: int = 3
    """of the simulated room"""
    json: Path | None = None
    """write the figures to this file"""
    plot: Path | None = None
    """draw time and bytes against the chunk into this PNG"""
    sheet: Path | None = None
    """draw imagined frames, a row for each kind of cache, into this PNG"""


# Pictures of a rollout in a row of the sheet.
SHEET = 6


def measure(world: WorldModel, kind: str, options: RolloutOptions) -> tuple[dict[str, Any], list[Pixels]]:
    """Imagine a walk with one kind of cache; its figures, and some of its frames."""
    frames = 1 + (world.preset.chunk_frames - 1) * max(options.chunks)
    scene = build_scene(options.seed, moving=0)
    path = plan_path(scene, frames, options.seed, step=0.5 / world.preset.fps).double()
    with Renderer(scene, world.height, world.width, samples=0) as renderer:
        camera = renderer.camera(path)
        first = renderer.render(path[0])
        sensor = None
        shown = set(torch.linspace(0, frames - 1, min(SHEET, frames)).long().tolist())
        if world.perception is None:
            drawn = [renderer.render(pose).finite_depth for pose in tqdm(path, desc="render", leave=False)]
            sensor = Perception(SensorDepth(torch.stack([torch.from_numpy(depth) for depth in drawn])), NoFilter())
    cache, history = CACHES[kind](world), world.new_history()
    peaks: dict[str, int] = {}

    def note_peak(stage: str) -> None:
        peaks[stage] = max(peaks.get(stage, 0), peak_bytes(world.device))
        reset_peak(world.device)

    reset_peak(world.device)
    start = time.perf_counter()
    world.observe(cache, first, history=history)
    observing = time.perf_counter() - start
    note_peak("observe")
    chunks, held, pictures = [], [], []
    with tqdm(total=frames, desc=f"{kind}, {max(options.chunks)} chunks", unit="frame", leave=False) as bar:
        for chunk in world.imagine(
            cache,
            camera,
            first=first,
            steps=options.steps,
            perception=sensor,
            history=history,
            on_progress=lambda progress: note_peak(progress.stage),
        ):
            chunks.append(chunk)
            held.append(cache.nbytes)
            pictures += [chunk.rgb[k] for k in range(len(chunk)) if chunk.first + k in shown]
            bar.update(len(chunk))
    return {
        "milliseconds": [{stage: 1000 * chunk.seconds[stage] / len(chunk) for stage in STAGES} for chunk in chunks],
        "frames": [len(chunk) for chunk in chunks],
        "cache_bytes": held,
        "coverage": [float(chunk.coverage.mean()) for chunk in chunks],
        "observe_seconds": observing,
        "peak_bytes": peaks,
    }, pictures


def summarise(measured: dict[str, Any], count: int) -> dict[str, float]:
    """Figures of the first chunks of a rollout.

    Args:
        measured: what `measure` gives.
        count: how many chunks.

    Returns:
        of each stage, and in `all`, the median of milliseconds per frame; `growth`: the time of the last quarter of the
        chunks over that of the first quarter; `kib_per_chunk`: held at the end, over the chunks; `kib`: held at the
        end; `coverage`: mean share of the views that was remembered before.
    """
    # The first chunk warms up, and holds one frame more than the others.
    timed = measured["milliseconds"][1:count] or measured["milliseconds"][:1]
    totals = [sum(chunk.values()) for chunk in timed]
    part = max(1, len(totals) // 4)
    held = measured["cache_bytes"][count - 1] / 1024
    return {
        **{stage: statistics.median(chunk[stage] for chunk in timed) for stage in STAGES},
        "all": statistics.median(totals),
        "growth": statistics.median(totals[-part:]) / statistics.median(totals[:part]),
        "kib": held,
        "kib_per_chunk": held / count,
        "coverage": statistics.fmean(measured["coverage"][:count]),
    }


def tables(results: dict[str, dict[str, Any]], count: int) -> str:
    """Markdown: milliseconds per frame of each stage, bytes, and both as multiples of the first cache's."""
    rows = {kind: summarise(measured, count) for kind, measured in results.items()}
    first = next(iter(rows.values()))
    head = ["conditioned on", *STAGES, "all", "growth", "time ratio", "KiB", "KiB/chunk", "bytes ratio", "coverage"]
    lines = [
        [
            kind,
            *(f"{row[stage]:.1f} ({row[stage] / row['all']:.0%})" for stage in STAGES),
            f"{row['all']:.1f}",
            f"{row['growth']:.2f}",
            f"{row['all'] / first['all']:.2f}",
            f"{row['kib']:.0f}",
            f"{row['kib_per_chunk']:.1f}",
            f"{row['kib'] / first['kib']:.1f}" if first["kib"] else "-",
            f"{row['coverage']:.0%}",
        ]
        for kind, row in rows.items()
    ]
    return markdown_table(head, lines)


def stages_table(load: tuple[float, int], measured: dict[str, Any]) -> str:
    """Markdown: seconds of each stage, the median chunk's, and the greatest memory during it.

    Args:
        load: seconds and bytes of loading.
        measured: what `measure` gives.
    """
    frames, chunks = measured["frames"], measured["milliseconds"]
    seconds = {
        stage: statistics.median(ms[stage] * count / 1000 for ms, count in zip(chunks, frames, strict=True))
        for stage in STAGES
    }
    rows = [("load", *load), ("observe", measured["observe_seconds"], measured["peak_bytes"]["observe"])]
    rows += [(stage, seconds[stage], measured["peak_bytes"].get(stage, 0)) for stage in STAGES]
    return markdown_table(
        ["stage", "seconds", "peak GiB"], [[name, f"{spent:.2f}", f"{peak / 2**30:.2f}"] for name, spent, peak in rows]
    )


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Plot milliseconds per frame and bytes held against the chunk."""
    figure, (left, right) = pyplot().subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for kind, measured in results.items():
        times = [sum(chunk.values()) for chunk in measured["milliseconds"]]
        numbers = range(1, len(times) + 1)
        # The first chunk warms up.
        left.plot(numbers[1:] or numbers, times[1:] or times, label=kind, linewidth=1)
        right.plot(numbers, [held / 1024 for held in measured["cache_bytes"]], label=kind)
    left.set(xlabel="chunk", ylabel="milliseconds per frame", ylim=(0, None))
    right.set(xlabel="chunk", ylabel="KiB held", yscale="log")
    for axes in (left, right):
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    save_plot(figure, path)


def main() -> None:
    """Measure the caches asked for."""
    options = tyro.cli(RolloutOptions, prog="mirage bench rollout", description=__doc__)
    if not options.chunks or min(options.chunks) < 1:
        raise ValueError(f"chunks: expected one or more lengths from 1, got {options.chunks}")
    if not options.caches or len(set(options.caches)) < len(options.caches):
        raise ValueError(f"caches: expected one or more, each once, got {options.caches}")
    if options.sheet is not None and options.sheet.suffix != ".png":
        raise ValueError(f"sheet: expected a .png file, got {options.sheet}")
    start = time.perf_counter()
    world = options.load(compile_blocks=options.compile)
    load = time.perf_counter() - start, peak_bytes(torch.device(options.device))
    device, steps = device_name(world), options.steps or world.preset.schedule.steps
    print(
        f"{device}, torch {torch.__version__}, preset {options.preset}"
        f"{' with random weights' if options.random_weights else ''}, {world.width}x{world.height}, {steps} steps, "
        f"chunks of {world.preset.chunk_frames - 1} new frames"
    )
    print(surroundings(options.neighbours))
    with neighbours(options.neighbours):
        results: dict[str, dict[str, Any]] = {}
        rows: list[tuple[str, list[Pixels]]] = []
        for kind in options.caches:
            results[kind], pictures = measure(world, kind, options)
            rows.append((kind, pictures))
            if options.sheet is not None:
                options.sheet.parent.mkdir(parents=True, exist_ok=True)
                save_png(options.sheet, contact_sheet(rows))
    for count in sorted(set(options.chunks)):
        print(
            f"\n{count} chunks: milliseconds per frame, median of {max(1, count - 1)}; ratios to {options.caches[0]}\n"
        )
        print(tables(results, count), end="")
    for name, measured in results.items():
        print(f"\n{name}: a chunk, stage by stage, and the greatest memory of the {world.device.type} during it\n")
        print(stages_table(load, measured), end="")
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        summaries = {
            str(count): {kind: summarise(measured, count) for kind, measured in results.items()}
            for count in options.chunks
        }
        content = {"device": device, "steps": steps, "summary": summaries, "chunks": results}
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    if options.plot is not None:
        draw(results, options.plot)
