"""`mirage bench memory`: how fast and how small the latent memory is.

Parts: `read` (time against the sort-and-assign of the public Mirage code, and what elements out of view cost) and
`walk` (bytes and coverage over five chunks, beside the caches that it is compared with).
"""

from __future__ import annotations

import argparse
import json
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.bench.timing import median_ms
from mirage_ros.geometry import Camera, pinhole
from mirage_ros.memory import LatentMemory, SourceFrame, WriteRules
from mirage_ros.memory.rgb import RgbMemory
from mirage_ros.memory.view import ViewMemory
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.trajectory import pan

CHANNELS, HEIGHT, WIDTH, VIEWS = 48, 44, 80, 9
IMAGE = (704, 1280)
# Full-size schedule of Wan2.2-TI2V-5B: a first chunk of 33 frames, then 32 more each; latents every fourth frame.
CHUNK_LATENTS = (9, 8, 8, 8, 8)


def target_views() -> Camera:
    """Nine views at latent resolution that pan over what is ahead."""
    camera = pinhole(HEIGHT, WIDTH, vertical_fov=1.0)
    return camera.at(pan(torch.eye(4), 0.4, VIEWS))


def filled(count: int, ahead: bool = True) -> LatentMemory:
    """A memory of `count` elements of frames that look ahead (or back), written without selection."""
    generator = torch.Generator().manual_seed(0)
    memory = LatentMemory(CHANNELS, dtype=torch.float16, max_bytes=1 << 30, rules=WriteRules(select=False))
    camera = pinhole(HEIGHT, WIDTH, vertical_fov=1.0)
    add(memory, count, camera, generator, ahead)
    return memory


def add(memory: LatentMemory, count: int, camera: Camera, generator: torch.Generator, ahead: bool) -> None:
    """Write about `count` more elements from frames around the origin."""
    smooth = F.interpolate(torch.rand(1, 1, 6, 10, generator=generator), (HEIGHT, WIDTH), mode="bilinear")[0]
    written = 0
    while written < count:
        yaw = float(torch.rand((), generator=generator)) * 0.4 + (0 if ahead else math.pi)
        pose = pan(torch.eye(4), yaw, 2)[1:]
        depth = 2 + 3 * smooth + 0.2 * torch.rand(1, 1, 1, generator=generator)
        keep = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
        keep.view(-1)[: count - written] = True
        report = memory.write(
            torch.randn(1, CHANNELS, HEIGHT, WIDTH, generator=generator), depth, camera.at(pose), keep
        )
        written += max(report.added, 1)


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


def bench_read(repeats: int) -> dict[str, Any]:
    """Time per read of nine views for 10k to 1M elements."""
    camera = target_views()
    results: dict[str, Any] = {}
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
        size = memory.nbytes / len(memory)
        print(
            f"{len(memory):>10} {strict:>9.2f} {nearest:>9.2f} {baseline:>16.1f} {baseline / strict:>7.1f} "
            f"{1000 * len(memory) * VIEWS / strict:>9.2g} {size:>6.1f}"
        )
        results[str(count)] = {
            "strict_ms": strict,
            "nearest_ms": nearest,
            "sort_and_assign_ms": baseline,
            "bytes_per_element": size,
        }
    results["out_of_view"] = bench_out_of_view(repeats)
    return results


def bench_out_of_view(repeats: int) -> dict[str, float]:
    """What ten times more elements behind the camera cost."""
    camera, count = target_views(), 50_000
    memory = filled(count)
    alone = median_ms(lambda: memory.read(camera), repeats)
    generator = torch.Generator().manual_seed(1)
    add(memory, 10 * count, pinhole(HEIGHT, WIDTH, vertical_fov=1.0), generator, ahead=False)
    crowded = median_ms(lambda: memory.read(camera), repeats)
    print(
        f"{count} in view: {alone:.2f} ms; with {10 * count} more out of view: {crowded:.2f} ms, "
        f"{crowded / alone:.2f} times"
    )
    return {"alone_ms": alone, "crowded_ms": crowded, "ratio": crowded / alone}


def bench_walk(seeds: int) -> dict[str, Any]:
    """Bytes held and coverage after each of five chunks of a simulated walk at 704x1280."""
    results: dict[str, Any] = {}
    print(
        f"walks of {sum(CHUNK_LATENTS)} latent frames at {IMAGE[0]}x{IMAGE[1]}, {CHANNELS} channels: "
        "MiB after each chunk"
    )
    print("and coverage of 8 views along the way (share of cells that a memory of everything fills, which are filled)")
    for seed in range(seeds):
        results[str(seed)] = walk(seed)
    return results


def walk(seed: int) -> dict[str, Any]:
    """One walk."""
    scene = build_scene(seed, moving=0)
    frames = 1 + 4 * (sum(CHUNK_LATENTS) - 1)
    # Half a metre a second at the full-size model's 16 frames a second.
    path = plan_path(scene, frames, seed, step=0.5 / 16)[::4].double()
    small = (IMAGE[0] // 4, IMAGE[1] // 4)
    projection = torch.randn(CHANNELS, 3, generator=torch.Generator().manual_seed(0))
    with Renderer(scene, *small, samples=0) as renderer:
        camera = renderer.camera(path)
        drawn = [renderer.render(pose) for pose in path]
    # Drawn at a quarter of the size and enlarged: depth and colour of full size, without hours of software rendering.
    depth = F.interpolate(torch.stack([torch.from_numpy(f.depth) for f in drawn])[:, None], IMAGE, mode="nearest")[:, 0]
    rgb = torch.stack([torch.from_numpy(f.rgb) for f in drawn])
    colour = rgb.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)
    latents = torch.einsum(
        "ck,tkhw->tchw", projection, F.adaptive_avg_pool2d(rgb.permute(0, 3, 1, 2) / 255, (HEIGHT, WIDTH))
    )
    grid = camera.resized(HEIGHT, WIDTH)

    caches: dict[str, Any] = {
        "latent int8": LatentMemory(CHANNELS, dtype=torch.int8),
        "latent float16": LatentMemory(CHANNELS, dtype=torch.float16),
        "latent, everything, float16": LatentMemory(CHANNELS, rules=WriteRules(select=False), max_bytes=1 << 30),
        "view (VMem's way)": ViewMemory(CHANNELS),
        "rgb (Spatia's way)": RgbMemory(lambda images: F.avg_pool2d(images, 16), 16, max_bytes=4 << 30),
    }
    held: dict[str, list[float]] = {name: [] for name in caches}
    first = 0
    for count in tqdm(CHUNK_LATENTS, desc=f"room {seed}", unit="chunk", leave=False):
        part = slice(first, first + count)
        first += count
        for name, cache in caches.items():
            if isinstance(cache, RgbMemory):
                cache.write(None, depth[part], camera[part], colour=colour[part])
            elif isinstance(cache, LatentMemory):
                cache.write(latents[part], depth[part], camera[part], frame=[SourceFrame() for _ in range(count)])
            else:
                cache.write(latents[part], depth[part], camera[part])
            held[name].append(cache.nbytes / 2**20)
    views = grid[torch.linspace(0, len(path) - 1, 8).round().long()]
    everything = caches["latent, everything, float16"].read(views).visible.bool()
    results = {}
    for name, cache in caches.items():
        seen = cache.read(views).visible.bool()
        coverage = (seen & everything).sum().item() / everything.sum().item()
        results[name] = {"mib": [round(value, 3) for value in held[name]], "coverage": coverage}
        print(
            f"room {seed} {name:<28} "
            + " ".join(f"{value:8.2f}" for value in held[name])
            + f"   {100 * coverage:6.2f} %"
        )
    return results


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help="read, walk; both by default")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=1, help="rooms to walk through")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.parts or ["read", "walk"]
    if set(parts) - {"read", "walk"}:
        parser.error(f"PART: expected read or walk, got {' '.join(options.parts)}")
    torch.set_num_threads(options.threads)
    print(f"CPU, {options.threads} threads, torch {torch.__version__}")
    results: dict[str, Any] = {"threads": options.threads}
    if "read" in parts:
        results["read"] = bench_read(options.repeats)
    if "walk" in parts:
        results["walk"] = bench_walk(options.seeds)
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
