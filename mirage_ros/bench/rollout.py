"""`mirage bench rollout`: seconds for each imagined frame, stage by stage, and memory held.

The latent memory and the caches that it is compared with condition the same model in one run: a simulated room is seen
once, then a walk through it is imagined. Times are medians over chunks, the first chunk left out, which warms up.
"""

from __future__ import annotations

import json
import resource
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from tqdm import tqdm

from mirage_ros.memory.rgb import RgbMemory
from mirage_ros.memory.view import ViewMemory
from mirage_ros.perception.given import NoFilter, SensorDepth
from mirage_ros.perception.pipeline import Perception
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.world.model import WorldModel
from mirage_ros.world.results import STAGES

Cache = Literal["latent", "rgb", "view"]


@dataclass
class Options:
    """Time of a rollout, stage by stage, for the latent memory and the caches that it is compared with."""

    preset: str = "default"
    weights: str | None = None
    """folder or hub repository; the preset's own by default"""
    random_weights: bool = False
    """load nothing: times do not depend on the weights"""
    chunks: int = 5
    caches: tuple[Cache, ...] = ("latent", "rgb", "view")
    device: str = "cpu"
    threads: int | None = None
    """of torch on the CPU; its own choice by default"""
    steps: int | None = None
    height: int | None = None
    width: int | None = None
    """pixels; the preset's by default"""
    compile: bool = False
    """run the transformer's blocks through torch.compile"""
    offload: bool = False
    """keep only the network at work on the device"""
    seed: int = 3
    """of the simulated room"""
    json: Path | None = None
    """write the figures to this file"""


def new_cache(kind: Cache, world: WorldModel) -> Any:
    """An empty cache of a kind for a world model."""
    if kind == "latent":
        return world.new_memory()
    if kind == "view":
        return ViewMemory(world.parts.autoencoder.channels, world.device)
    stride = world.parts.autoencoder.strides[1]
    return RgbMemory(lambda images: world.parts.encode(images[:, None])[:, :, 0], stride, world.device)


def measure(world: WorldModel, kind: Cache, options: Options) -> dict[str, Any]:
    """Imagine a walk with one cache."""
    new = world.preset.chunk_frames - 1
    frames = 1 + new * options.chunks
    scene = build_scene(options.seed, moving=0)
    path = plan_path(scene, frames, options.seed, step=0.5 / world.preset.fps).double()
    with Renderer(scene, world.height, world.width, samples=0) as renderer:
        camera = renderer.camera(path)
        first = renderer.render(path[0])
        sensor = None
        if world.perception is None:
            drawn = [renderer.render(pose).depth for pose in tqdm(path, desc="render", leave=False)]
            sensor = Perception(SensorDepth(torch.stack([torch.from_numpy(depth) for depth in drawn])), NoFilter())
    cache, history = new_cache(kind, world), world.new_history()
    if world.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(world.device)
    world.observe(cache, first.rgb, first.depth, camera[0], history=history)
    chunks, held = [], []
    with tqdm(total=frames, desc=kind, unit="frame", leave=False) as bar:
        for chunk in world.imagine(
            cache, camera, first=first.rgb, steps=options.steps, perception=sensor, history=history
        ):
            chunks.append(chunk)
            held.append(cache.nbytes)
            bar.update(len(chunk))
    timed = chunks[1:] or chunks
    return {
        "seconds_per_frame": {
            stage: statistics.median(chunk.seconds[stage] / len(chunk) for chunk in timed) for stage in STAGES
        },
        "total": statistics.median(sum(chunk.seconds.values()) / len(chunk) for chunk in timed),
        "coverage": float(sum(chunk.coverage.sum() for chunk in chunks) / frames),
        "cache_bytes": held,
        "peak_bytes": torch.cuda.max_memory_allocated(world.device)
        if world.device.type == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Measure the caches asked for."""
    options = tyro.cli(Options, prog="mirage bench rollout", description=__doc__)
    if options.chunks < 1:
        raise ValueError(f"chunks: expected at least 1, got {options.chunks}")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    if (options.height is None) != (options.width is None):
        raise ValueError("height, width: expected both or none")
    world = WorldModel.from_pretrained(
        options.weights,
        preset=options.preset,
        device=options.device,
        random_weights=options.random_weights,
        size=None if options.height is None or options.width is None else (options.height, options.width),
        compile_blocks=options.compile,
        offload=options.offload,
    )
    device = torch.cuda.get_device_name() if world.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    steps = options.steps or world.preset.schedule.steps
    print(
        f"{device}, torch {torch.__version__}, preset {options.preset}"
        f"{' with random weights' if options.random_weights else ''}, {world.width}x{world.height}, {steps} steps, "
        f"chunks of {world.preset.chunk_frames - 1} new frames, median of {max(1, options.chunks - 1)} chunks"
    )
    columns = "".join(f"{stage:>10}" for stage in STAGES)
    print(f"{'ms per frame':<14}{columns}{'all':>10}{'frames/s':>10}{'coverage':>10}{'cache KiB':>11}{'peak MiB':>10}")
    results: dict[str, Any] = {}
    for kind in options.caches:
        results[kind] = measured = measure(world, kind, options)
        stages = "".join(f"{1000 * measured['seconds_per_frame'][stage]:10.2f}" for stage in STAGES)
        held, peak = measured["cache_bytes"][-1] / 1024, measured["peak_bytes"] / 2**20
        print(
            f"{kind:<14}{stages}{1000 * measured['total']:10.2f}{1 / measured['total']:10.2f}"
            f"{measured['coverage']:10.1%}{held:11.1f}{peak:10.0f}"
        )
    if options.json is not None:
        options.json.write_text(json.dumps({"device": device, "steps": steps, **results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
