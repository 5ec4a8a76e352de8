"""`mirage bench conditioning`: what it costs to show a chunk what is remembered, with the denoising left out.

A latent memory is read; a pixel cache is drawn from the chunk's cameras, its holes are filled, and the video goes
through the encoder (Spatia, Gen3C); whole views are found and projected (VMem). All three hold the same frames of one
walk, and are measured chunk by chunk in one run. Drawing and reading are measured for every chunk. Encoding does not
depend on what is encoded: it is measured once, on a first frame and on groups of frames after it, and multiplied. No
transformer is loaded, and the tokens are noise: no time here depends on them.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from torch import Tensor

from mirage_ros.bench.timing import surroundings
from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.evaluation.report import markdown_table
from mirage_ros.geometry import Camera
from mirage_ros.machine import fast_dtype
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.presets import Preset, preset
from mirage_ros.models.weights_io import load_autoencoder
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.world.networks import new_memory
from mirage_ros.world.results import Span, plan_chunks

# The room is drawn at this fraction of the size and enlarged: drawing in software would take longer than all the rest.
DRAWN = 4
# Denoising steps for which conditioning is compared with a whole chunk.
STEPS = (20, 4, 1)


@dataclass
class ConditioningOptions:
    """What conditioning on the latent memory costs, against a cache of pixels and one of views."""

    preset: str = "wan2.2-ti2v-5b"
    weights: Path | None = None
    """folder with vae/; random weights by default, times do not depend on them"""
    height: int | None = None
    width: int | None = None
    """pixels; the preset's by default"""
    chunks: int = 5
    groups: int = 1
    """groups of frames after the first that are encoded to measure the encoder"""
    tile: int | None = None
    """pixels of a tile of the encoder"""
    step_seconds: float | None = None
    """seconds of one denoising step, as `mirage bench rollout --steps 1` gives them: puts the denoising back"""
    device: str = "cpu"
    threads: int | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the encoder"""
    seed: int = 3
    """of the simulated room"""
    json: Path | None = None
    """write the figures to this file"""


@dataclass
class Costs:
    """Seconds and bytes, chunk by chunk.

    Attributes:
        read: latent memory.
        drawn: pixel cache, for the chunk's latent frames: points drawn, holes filled.
        views: whole views.
        written: of each cache, seconds to take in a chunk's new latent frames.
        bytes: held by each after each chunk.
    """

    read: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)
    views: list[float] = field(default_factory=list)
    written: dict[str, list[float]] = field(default_factory=lambda: {"latent": [], "rgb": [], "view": []})
    bytes: dict[str, list[int]] = field(default_factory=lambda: {"latent": [], "rgb": [], "view": []})


class Clock:
    """Seconds of a call: of a CPU those of all threads of this process, which a busy machine does not change much."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self, work: Callable[[], Any]) -> float:
        """Time one call."""
        if self.device.type == "cpu":
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start


@torch.no_grad()
def measure(
    chosen: Preset, autoencoder: Autoencoder, size: tuple[int, int], chunks: int, seed: int, device: torch.device
) -> tuple[Costs, Tensor]:
    """Walk through a room with three caches.

    Returns:
        what it cost, and the last image that the pixel cache drew, (3, H, W) float32 0..1.
    """
    clock, costs = Clock(device), Costs()
    stride, cells = autoencoder.strides[1], autoencoder.latent_size(*size)
    spans = plan_chunks(1 + (chosen.chunk_frames - 1) * chunks, chosen.chunk_frames, autoencoder.strides[0])
    scene = build_scene(seed, moving=0)
    path = plan_path(scene, spans[-1].stop, seed, step=0.5 / chosen.fps).double()
    latent = new_memory(chosen, autoencoder.channels, device)
    pixels = RgbMemory(lambda images: images, stride, device)
    views = ViewMemory(autoencoder.channels, device)
    caches: dict[str, Any] = {"latent": latent, "rgb": pixels, "view": views}
    generator = torch.Generator().manual_seed(seed)
    with Renderer(scene, *(side // DRAWN for side in size), samples=0) as renderer:
        camera = renderer.camera(path).resized(*size).to(device, torch.float64)

        def write(span: Span, first: int) -> None:
            places = list(span.places)[first:]
            frames = [renderer.render(path[place]) for place in places]
            depth = torch.stack([_large(torch.from_numpy(frame.finite_depth)) for frame in frames]).to(device)
            colour = torch.stack([_large(torch.from_numpy(frame.rgb)) for frame in frames]).to(device)
            tokens = torch.randn(len(places), autoencoder.channels, *cells, generator=generator).to(device)
            for name, cache in caches.items():
                seen = colour if cache.colour else None
                seconds = clock(partial(cache.write, tokens, depth, camera[places], colour=seen))
                costs.written[name].append(seconds)

        # The camera sees the first frame; chunks follow.
        write(Span(0, 1, 0, (0,)), 0)
        for values in costs.written.values():
            values.clear()
        image = torch.zeros(3, *size)
        for span in spans:
            target = camera[list(span.places)]
            coarse = target.resized(*cells)
            costs.read.append(
                clock(partial(latent.read, coarse, chosen.read_rule, observed_first=chosen.observed_first))
            )
            costs.drawn.append(sum(clock(partial(pixels.render, one)) for one in _singles(target)))
            costs.views.append(clock(partial(views.read, coarse)))
            image = pixels.render(target[-1:])[0][0]
            write(span, 1)
            for name, cache in caches.items():
                costs.bytes[name].append(cache.nbytes)
    return costs, image


def _large(picture: Tensor) -> Tensor:
    return picture.repeat_interleave(DRAWN, 0).repeat_interleave(DRAWN, 1)


def _singles(camera: Camera) -> list[Camera]:
    """One by one, as all full images of a chunk at once would need gigabytes."""
    return [camera[index : index + 1] for index in range(len(camera))]


@torch.no_grad()
def encoding(
    autoencoder: Autoencoder, image: Tensor, groups: int, frames: int, device: torch.device
) -> dict[str, float]:
    """Seconds of the encoder, measured on a clip of one frame and on one of `groups` groups more.

    Returns:
        `first` frame, each further `group`, and a `video` of so many frames, multiplied from them.
    """
    clock, stride = Clock(device), autoencoder.strides[0]
    clip = image[None, None].to(device)
    if device.type == "cuda":
        # The first calls of a process choose kernels and load libraries; on a CPU they cost next to nothing beside it.
        for length in (1, 1 + stride * groups):
            autoencoder.encode(clip.expand(-1, length, -1, -1, -1))
    first = clock(lambda: autoencoder.encode(clip))
    more = clock(lambda: autoencoder.encode(clip.expand(-1, 1 + stride * groups, -1, -1, -1)))
    group = max(0.0, more - first) / groups
    return {"first": first, "group": group, "video": first + (frames - 1) // stride * group}


def table(costs: Costs, encoder: dict[str, float], chosen: Preset, stride: int) -> str:
    """Markdown: seconds of conditioning a chunk, and bytes, as multiples of the latent memory's."""
    frames, latents = chosen.chunk_frames, 1 + (chosen.chunk_frames - 1) // stride
    read, drawn, views = (statistics.median(values[1:] or values) for values in (costs.read, costs.drawn, costs.views))
    rows = []
    for name, seconds, held in (
        ("latent memory, read", read, "latent"),
        (
            f"pixels, all {frames} frames drawn, filled and encoded as a video",
            drawn * frames / latents + encoder["video"],
            "rgb",
        ),
        (
            f"pixels, the {latents} latent frames drawn, filled and encoded one by one",
            drawn + latents * encoder["first"],
            "rgb",
        ),
        ("whole views, found and projected", views, "view"),
    ):
        first, last = (costs.bytes[held][place] / costs.bytes["latent"][place] for place in (0, -1))
        rows.append(
            [
                name,
                f"{seconds:.3f}",
                f"{1000 * seconds / (frames - 1):.2f}",
                f"{seconds / read:.1f}",
                f"{costs.bytes[held][-1] / 2**20:.2f}",
                f"{first:.1f}, {last:.1f}",
            ]
        )
    chunks = len(costs.read)
    head = ["conditioned on", "s a chunk", "ms a frame", "ratio", f"MiB after {chunks}", f"ratio after 1, {chunks}"]
    return markdown_table(head, rows)


def steps_table(costs: Costs, encoder: dict[str, float], chosen: Preset, stride: int, step: float) -> str:
    """Markdown: conditioning and denoising of a chunk together, for several numbers of steps."""
    latents = 1 + (chosen.chunk_frames - 1) // stride
    read, drawn = (statistics.median(values[1:] or values) for values in (costs.read, costs.drawn))
    pixels = drawn * chosen.chunk_frames / latents + encoder["video"]
    rows = [
        [
            str(count),
            f"{read + count * step:.1f}",
            f"{pixels + count * step:.1f}",
            f"{(pixels + count * step) / (read + count * step):.2f}",
        ]
        for count in STEPS
    ]
    return markdown_table(["steps", "latent memory, s", "pixels, s", "ratio"], rows)


def main() -> None:
    """Measure."""
    options = tyro.cli(ConditioningOptions, prog="mirage bench conditioning", description=__doc__)
    if options.chunks < 1 or options.groups < 1:
        raise ValueError(f"chunks, groups: expected numbers from 1, got {options.chunks} and {options.groups}")
    if (options.height is None) != (options.width is None):
        raise ValueError("height, width: expected both or none")
    if options.threads is not None:
        torch.set_num_threads(options.threads)
    chosen, device = preset(options.preset), torch.device(options.device)
    size = (options.height or chosen.height, options.width or chosen.width)
    dtype = fast_dtype(device) if options.dtype == "auto" else getattr(torch, options.dtype)
    if options.weights is not None:
        autoencoder = load_autoencoder(options.weights, dtype, tile=options.tile)
    else:
        with torch.random.fork_rng([]):
            autoencoder = chosen.new_autoencoder(dtype)
    autoencoder.to(device).eval()
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}, torch {torch.__version__}, preset {chosen.name}, {size[1]}x{size[0]}, encoder in {dtype}")
    print(surroundings(0))
    costs, image = measure(chosen, autoencoder, size, options.chunks, options.seed, device)
    stride = autoencoder.strides[0]
    encoder = encoding(autoencoder, image, options.groups, chosen.chunk_frames, device)
    kind = "seconds of the device" if device.type == "cuda" else "seconds of CPU, all threads together"
    print(f"\n{kind}; medians of chunks after the first\n")
    print(table(costs, encoder, chosen, stride))
    print(
        f"Encoder: first frame {encoder['first']:.2f} s, each further {stride} frames {encoder['group']:.2f} s "
        f"(measured {options.groups} times), a chunk {encoder['video']:.1f} s (multiplied)."
    )
    written = {name: statistics.median(values) for name, values in costs.written.items()}
    print("A chunk taken in: " + ", ".join(f"{name} {seconds:.3f} s" for name, seconds in written.items()) + ".")
    if options.step_seconds is not None:
        print(f"\nWith denoising, {options.step_seconds:.1f} s a step:\n")
        print(steps_table(costs, encoder, chosen, stride, options.step_seconds))
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps({"encoder": encoder, **vars(costs)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
