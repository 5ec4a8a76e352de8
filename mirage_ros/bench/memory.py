"""`mirage bench memory`: how fast and how small the latent memory is.

Parts: `read` (time against the sort-and-assign of the public Mirage code, and what elements out of view cost), `fork`,
and `walk` (bytes and coverage over five chunks, beside the caches that it is compared with).
"""

from __future__ import annotations

import argparse
import math
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.bench.memory_walk import CHANNELS, HEIGHT, WALKS, WIDTH, bench_walk
from mirage_ros.bench.timing import median_ms
from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory import LatentMemory, WriteRules
from mirage_ros.memory.zbuffer.backends import backend
from mirage_ros.trajectory import pan

VIEWS = 9
PARTS = ("read", "fork", "walk")


def target_views() -> Camera:
    """Nine views at latent resolution that pan over what is ahead."""
    return pinhole(HEIGHT, WIDTH, vertical_fov=1.0).at(pan(torch.eye(4), 0.4, VIEWS))


def filled(count: int) -> LatentMemory:
    """A memory of `count` elements of frames that look ahead, written without selection."""
    memory = LatentMemory(CHANNELS, dtype=torch.float16, max_bytes=1 << 30, rules=WriteRules(select=False))
    add(memory, count, torch.Generator().manual_seed(0))
    return memory


def add(memory: LatentMemory, count: int, generator: torch.Generator, yaw: float = 0.0) -> None:
    """Write about `count` more elements from frames around the origin that look in one direction, radians."""
    camera = pinhole(HEIGHT, WIDTH, vertical_fov=1.0)
    smooth = F.interpolate(torch.rand(1, 1, 6, 10, generator=generator), (HEIGHT, WIDTH), mode="bilinear")[0]
    written = 0
    with tqdm(total=count, desc="writing", unit="element", leave=False) as progress:
        while written < count:
            turn = float(torch.rand((), generator=generator)) * 0.4 + yaw
            depth = 2 + 3 * smooth + 0.2 * torch.rand(1, 1, 1, generator=generator)
            keep = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
            keep.view(-1)[: count - written] = True
            latents = torch.randn(1, CHANNELS, HEIGHT, WIDTH, generator=generator)
            report = memory.write(latents, depth, camera.at(pan(torch.eye(4), turn, 2)[1:]), keep)
            written += max(report.added, 1)
            progress.update(report.added)


def sort_and_assign(positions: Tensor, features: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The usual readout: for each view, sort by depth from far to near and assign, so that the nearest comes last.

    What remains where several points share a cell is left undefined by PyTorch; only the time counts here.
    """
    latents = torch.zeros(len(camera), features.shape[1], camera.height, camera.width, dtype=features.dtype)
    visible = torch.zeros(len(camera), camera.height, camera.width, dtype=torch.bool)
    for t in range(len(camera)):
        pixels, depth = camera[t].project(positions)
        x, y = pixels[:, 0].floor(), pixels[:, 1].floor()
        inside = (depth > 0.01) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        x, y, depth, tokens = x[inside].long(), y[inside].long(), depth[inside], features[inside]
        order = torch.argsort(depth, descending=True)
        latents[t][:, y[order], x[order]] = tokens[order].T
        visible[t][y[order], x[order]] = True
    return latents, visible


def bench_read(repeats: int) -> None:
    """Time per read of nine views for 10k to 1M elements, and what ten times more behind the camera cost."""
    camera = target_views()
    print(f"read of {VIEWS} views of {HEIGHT}x{WIDTH} cells, {CHANNELS} float16 channels, median of {repeats}, ms")
    print(
        f"{'elements':>10} {'strict':>9} {'nearest':>9} {'sort-and-assign':>16} {'ratio':>7} {'points/s':>9} "
        f"{'bytes':>6}"
    )
    for count in (10_000, 20_000, 100_000, 1_000_000):
        memory = filled(count)
        strict = median_ms(partial(memory.read, camera, rule="strict"), repeats)
        nearest = median_ms(partial(memory.read, camera), repeats)
        elements = memory.elements()
        usual = partial(sort_and_assign, elements.positions.float(), elements.features.half(), camera)
        baseline = median_ms(usual, max(3, repeats // 4))
        print(
            f"{len(memory):>10} {strict:>9.2f} {nearest:>9.2f} {baseline:>16.1f} {baseline / strict:>7.1f} "
            f"{1000 * len(memory) * VIEWS / strict:>9.2g} {memory.nbytes / len(memory):>6.1f}"
        )
    count = 50_000
    memory = filled(count)
    alone = median_ms(lambda: memory.read(camera), repeats)
    add(memory, 10 * count, torch.Generator().manual_seed(1), yaw=math.pi)
    crowded = median_ms(lambda: memory.read(camera), repeats)
    print(
        f"{count} in view: {alone:.2f} ms; with {10 * count} more out of view: {crowded:.2f} ms, "
        f"{crowded / alone:.2f} times"
    )


def bench_fork(repeats: int) -> None:
    """What a fork costs, the first write to it, and going back."""
    memory = filled(100_000)
    camera = pinhole(HEIGHT, WIDTH, vertical_fov=1.0).at(torch.eye(4)[None])
    latents, depth = torch.zeros(1, CHANNELS, HEIGHT, WIDTH), torch.full((1, HEIGHT, WIDTH), 3.0)
    fork = median_ms(memory.fork, repeats)
    restore = median_ms(partial(memory.restore, memory.fork()), repeats)
    write = median_ms(lambda: memory.fork().write(latents, depth, camera), repeats)
    print(
        f"fork of {len(memory)} elements, {memory.nbytes / 2**20:.1f} MiB: {fork:.4f} ms; restore: "
        f"{restore:.4f} ms; fork and write a frame, which copies: {write:.2f} ms"
    )


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=20, help="of each time, whose median is printed")
    parser.add_argument("--threads", type=int, default=2, help="that torch uses")
    parser.add_argument("--walks", type=int, default=1, help=f"how many of {len(WALKS)} walks")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if set(parts) - set(PARTS):
        parser.error(f"PART: expected {', '.join(PARTS)}, got {' '.join(options.parts)}")
    torch.set_num_threads(options.threads)
    print(f"CPU, {options.threads} threads, {backend()} z-buffer, torch {torch.__version__}")
    if "read" in parts:
        bench_read(options.repeats)
    if "fork" in parts:
        bench_fork(options.repeats)
    if "walk" in parts:
        bench_walk(options.walks)
