"""`mirage bench memory`: how fast and how small the latent memory is.

Parts: `read` (time against the sort-and-assign of the public Mirage code, and what elements out of view cost), `fork`,
and `walk` (bytes and coverage over five chunks, beside the caches that it is compared with).

A walk is five metres of a simulated camera at half a metre a second: 161 frames of 704x1280 at 16 frames a second. The
full-size model takes them in five chunks of 33 (each later one begins with the last frame of the one before); every
fourth of them has latents: 9 in the first chunk and 8 in each later one.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.bench.timing import median_ms
from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.evaluation.protocols.sim import draw_walk
from mirage_ros.geometry import Camera, pinhole
from mirage_ros.images import as_images, enlarge
from mirage_ros.memory import LatentMemory, WriteRules
from mirage_ros.memory.zbuffer.backends import backend
from mirage_ros.recordings.clips import Clip
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene
from mirage_ros.trajectory import pan

VIEWS = 9
PARTS = ("read", "fork", "walk")
CHANNELS, HEIGHT, WIDTH = 48, 44, 80
Cells = tuple[int, int]
IMAGE = (704, 1280)
# Drawn at this fraction of the size and enlarged: hours of software rendering otherwise.
ENLARGED = 4
CHUNK_LATENTS = (9, 8, 8, 8, 8)
STEP = 0.5 / 16
# Views along the way at which coverage is measured.
MEASURED = 8
# Scene family, seed of scene and path, style of the path.
WALKS = (
    ("halls", 0, "dolly"),
    ("rooms", 1, "explore"),
    ("rooms", 3, "explore"),
    ("halls", 1, "dolly"),
    ("rooms", 2, "explore"),
    ("rooms", 0, "explore"),
)


def target_views(cells: Cells = (HEIGHT, WIDTH)) -> Camera:
    """Nine views at latent resolution that pan over what is ahead."""
    return pinhole(*cells, vertical_fov=1.0).at(pan(torch.eye(4), 0.4, VIEWS))


def filled(count: int, device: str = "cpu", cells: Cells = (HEIGHT, WIDTH)) -> LatentMemory:
    """A memory of `count` elements of frames that look ahead, written without selection."""
    rules = WriteRules(select=False)
    memory = LatentMemory(CHANNELS, device, dtype=torch.float16, max_bytes=2 << 30, rules=rules)
    add(memory, count, torch.Generator().manual_seed(0), cells=cells)
    return memory


def add(
    memory: LatentMemory, count: int, generator: torch.Generator, yaw: float = 0.0, cells: Cells = (HEIGHT, WIDTH)
) -> None:
    """Write about `count` more elements from frames around the origin that look in one direction, radians."""
    camera = pinhole(*cells, vertical_fov=1.0).to(memory.device)
    smooth = F.interpolate(torch.rand(1, 1, 6, 10, generator=generator), cells, mode="bilinear")[0]
    written = 0
    with tqdm(total=count, desc="writing", unit="element", leave=False) as progress:
        while written < count:
            turn = float(torch.rand((), generator=generator)) * 0.4 + yaw
            depth = 2 + 3 * smooth + 0.2 * torch.rand(1, 1, 1, generator=generator)
            keep = torch.zeros(1, *cells, dtype=torch.bool)
            keep.view(-1)[: count - written] = True
            latents = torch.randn(1, CHANNELS, *cells, generator=generator)
            pose = pan(torch.eye(4), turn, 2)[1:].to(memory.device)
            report = memory.write(latents.to(pose.device), depth.to(pose.device), camera.at(pose), keep.to(pose.device))
            written += max(report.added, 1)
            progress.update(report.added)


def sort_and_assign(positions: Tensor, features: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The usual readout: for each view, sort by depth from far to near and assign, so that the nearest comes last.

    What remains where several points share a cell is left undefined by PyTorch; only the time counts here.
    """
    latents = features.new_zeros(len(camera), features.shape[1], camera.height, camera.width)
    visible = torch.zeros(len(camera), camera.height, camera.width, dtype=torch.bool, device=features.device)
    for t in range(len(camera)):
        pixels, depth = camera[t].project(positions)
        x, y = pixels[:, 0].floor(), pixels[:, 1].floor()
        inside = (depth > 0.01) & (x >= 0) & (x < camera.width) & (y >= 0) & (y < camera.height)
        x, y, depth, tokens = x[inside].long(), y[inside].long(), depth[inside], features[inside]
        order = torch.argsort(depth, descending=True)
        latents[t][:, y[order], x[order]] = tokens[order].T
        visible[t][y[order], x[order]] = True
    return latents, visible


def bench_read(repeats: int, device: str, counts: Sequence[int], cells: Cells) -> None:
    """Time per read of nine views for some numbers of elements, and what ten times more behind the camera cost."""
    camera = target_views(cells).to(device)

    def timed(work: Callable[[], object], count: int) -> float:
        def waited() -> None:
            work()
            torch.cuda.synchronize()

        return median_ms(work if device == "cpu" else waited, count)

    print(f"read of {VIEWS} views of {cells[0]}x{cells[1]} cells, {CHANNELS} float16 channels, median of {repeats}, ms")
    print(
        f"{'elements':>10} {'strict':>9} {'nearest':>9} {'sort-and-assign':>16} {'ratio':>7} {'points/s':>9} "
        f"{'bytes':>6}"
    )
    for count in counts:
        memory = filled(count, device, cells)
        strict = timed(partial(memory.read, camera, rule="strict"), repeats)
        nearest = timed(partial(memory.read, camera), repeats)
        elements = memory.elements()
        usual = partial(sort_and_assign, elements.positions.float(), elements.features.half(), camera)
        baseline = timed(usual, max(3, repeats // 4))
        print(
            f"{len(memory):>10} {strict:>9.2f} {nearest:>9.2f} {baseline:>16.1f} {baseline / strict:>7.1f} "
            f"{1000 * len(memory) * VIEWS / strict:>9.2g} {memory.nbytes / len(memory):>6.1f}"
        )
    count = 50_000
    memory = filled(count, device, cells)
    alone = timed(lambda: memory.read(camera), repeats)
    add(memory, 10 * count, torch.Generator().manual_seed(1), yaw=math.pi, cells=cells)
    crowded = timed(lambda: memory.read(camera), repeats)
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


def record(family: str, seed: int, style: str) -> Clip:
    """Draw a walk, which takes seconds."""
    scene = build_scene(seed, family, moving=0)
    path = plan_path(scene, 1 + 4 * (sum(CHUNK_LATENTS) - 1), seed, style=style, step=STEP)[::4].double()
    with Renderer(scene, IMAGE[0] // ENLARGED, IMAGE[1] // ENLARGED, samples=0, shadows=False) as renderer:
        return draw_walk(f"{family} {seed}, {style}", renderer, path)


def mixed_colours(clip: Clip) -> Tensor:
    """(T, CHANNELS, HEIGHT, WIDTH) that stand for latents: fixed mixtures of each cell's mean colour."""
    mixing = torch.randn(CHANNELS, 3, generator=torch.Generator().manual_seed(0))
    return torch.einsum("ck,tkhw->tchw", mixing, F.adaptive_avg_pool2d(as_images(clip.rgb), (HEIGHT, WIDTH)))


def bench_walk(count: int) -> None:
    """Write the first walks of the list, one after the other, to all caches, chunk by chunk."""
    print(
        f"walks of {sum(CHUNK_LATENTS)} latent frames at {IMAGE[0]}x{IMAGE[1]}, {CHANNELS} channels: MiB after each "
        f"chunk, and\ncoverage of {MEASURED} views along the way: of the cells that show something and that a memory "
        "of everything fills, the\nshare that is filled"
    )
    for family, seed, style in WALKS[:count]:
        walk(record(family, seed, style))


def walk(clip: Clip) -> None:
    """Write one walk to all caches and print what they hold and show."""
    depth = F.interpolate(torch.from_numpy(clip.depth)[:, None], IMAGE, mode="nearest")[:, 0]
    colour = enlarge(torch.from_numpy(clip.rgb).movedim(-1, 1), *IMAGE).movedim(1, -1)
    latents, camera = mixed_colours(clip), clip.camera
    turns = camera.cam2world[1:, :3, :3].mT @ camera.cam2world[:-1, :3, :3]
    turned = np.rad2deg(Rotation.from_matrix(turns.double().numpy()).magnitude().sum())
    print(f"{clip.name}: the camera turns by {turned:.0f} degrees in all")
    caches: dict[str, LatentMemory | ViewMemory | RgbMemory] = {
        "latent int8": LatentMemory(CHANNELS, dtype=torch.int8),
        "latent float16": LatentMemory(CHANNELS, dtype=torch.float16),
        "everything, float16": LatentMemory(CHANNELS, rules=WriteRules(select=False), max_bytes=1 << 30),
        "view (VMem's way)": ViewMemory(CHANNELS),
        "rgb (Spatia's way)": RgbMemory(lambda images: F.avg_pool2d(images, 16), 16),
    }
    print(
        f"  {'cache':<20} " + " ".join(f"{f'chunk {i}':>8}" for i in range(1, 1 + len(CHUNK_LATENTS))) + "   coverage"
    )
    held: dict[str, list[float]] = {name: [] for name in caches}
    first = 0
    for count in tqdm(CHUNK_LATENTS, desc=clip.name, unit="chunk", leave=False):
        part = slice(first, first + count)
        first += count
        for name, cache in caches.items():
            shown = colour[part] if cache.colour else None
            cache.write(latents[part], depth[part], camera[part], colour=shown)
            held[name].append(cache.nbytes / 2**20)
    measured = torch.linspace(0, first - 1, MEASURED).round().long()
    views = camera.resized(HEIGHT, WIDTH)[measured]
    counted = caches["everything, float16"].read(views).visible > 0
    # Beyond the edge of the sky elements reach over, and the more of them the further.
    counted &= F.interpolate(depth[measured][:, None], (HEIGHT, WIDTH), mode="nearest") > 0
    for name, cache in caches.items():
        coverage = float(((cache.read(views).visible > 0) & counted).sum() / counted.sum())
        print(f"  {name:<20} " + " ".join(f"{value:8.2f}" for value in held[name]) + f"   {100 * coverage:6.2f} %")


def main() -> None:
    """Run the parts asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument("--repeats", type=int, default=20, help="of each time, whose median is printed")
    parser.add_argument("--threads", type=int, default=2, help="that torch uses")
    parser.add_argument("--device", default="cpu", help="of `read`")
    counts = (10_000, 20_000, 100_000, 1_000_000)
    parser.add_argument("--elements", type=int, nargs="+", default=counts, help="of `read` (10k to 1M)")
    parser.add_argument(
        "--cells",
        nargs=2,
        type=int,
        default=(HEIGHT, WIDTH),
        metavar=("HEIGHT", "WIDTH"),
        help=f"of a view of `read` ({HEIGHT} {WIDTH})",
    )
    parser.add_argument("--walks", type=int, default=1, help=f"how many of {len(WALKS)} walks")
    options = parser.parse_args()
    parts = options.parts or PARTS
    if set(parts) - set(PARTS):
        parser.error(f"PART: expected {', '.join(PARTS)}, got {' '.join(options.parts)}")
    torch.set_num_threads(options.threads)
    print(f"{options.device}, {options.threads} threads, {backend()} z-buffer, torch {torch.__version__}")
    if "read" in parts:
        bench_read(options.repeats, options.device, options.elements, tuple(options.cells))
    if "fork" in parts:
        bench_fork(options.repeats)
    if "walk" in parts:
        bench_walk(options.walks)
