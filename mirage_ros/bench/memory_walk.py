"""`mirage bench memory walk`: bytes held and coverage over five chunks, beside the caches that it is compared with.

A walk is five metres of a simulated camera at half a metre a second: 161 frames of 704x1280 at 16 frames a second. The
full-size model takes them in five chunks of 33 (each later one begins with the last frame of the one before); every
fourth of them has latents: 9 in the first chunk and 8 in each later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.geometry import Camera
from mirage_ros.memory import LatentMemory, WriteRules
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

CHANNELS, HEIGHT, WIDTH = 48, 44, 80
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


@dataclass(frozen=True, eq=False)
class Recording:
    """Frames with latents of one walk.

    Attributes:
        depth: (T, H, W) float32 metres, 0 where there is nothing.
        colour: (T, H, W, 3) uint8.
        latents: (T, CHANNELS, h, w) float32.
        camera: (T,).
        turned: degrees that the camera turned in all.
    """

    depth: Tensor
    colour: Tensor
    latents: Tensor
    camera: Camera
    turned: float


def record(family: str, seed: int, style: str) -> Recording:
    """Draw a walk, which takes seconds."""
    scene = build_scene(seed, family, moving=0)
    path = plan_path(scene, 1 + 4 * (sum(CHUNK_LATENTS) - 1), seed, style=style, step=STEP)[::4].double()
    with Renderer(scene, IMAGE[0] // ENLARGED, IMAGE[1] // ENLARGED, samples=0, shadows=False) as renderer:
        camera = renderer.camera(path)
        drawn = [renderer.render(pose) for pose in path]
    depth = torch.stack([torch.from_numpy(frame.finite_depth) for frame in drawn])
    rgb = torch.stack([torch.from_numpy(frame.rgb) for frame in drawn])
    small = F.adaptive_avg_pool2d(rgb.permute(0, 3, 1, 2).float() / 255, (HEIGHT, WIDTH))
    mixing = torch.randn(CHANNELS, 3, generator=torch.Generator().manual_seed(0))
    relative = path[:-1, :3, :3].mT @ path[1:, :3, :3]
    cosine = (relative.diagonal(dim1=1, dim2=2).sum(dim=-1) - 1) / 2
    return Recording(
        depth=F.interpolate(depth[:, None], IMAGE, mode="nearest")[:, 0],
        colour=rgb.repeat_interleave(ENLARGED, dim=1).repeat_interleave(ENLARGED, dim=2),
        latents=torch.einsum("ck,tkhw->tchw", mixing, small),
        camera=camera,
        turned=float(cosine.clamp(-1, 1).acos().rad2deg().sum()),
    )


def bench_walk(count: int) -> dict[str, Any]:
    """The first walks of the list, one after the other."""
    print(
        f"walks of {sum(CHUNK_LATENTS)} latent frames at {IMAGE[0]}x{IMAGE[1]}, {CHANNELS} channels: MiB after each "
        f"chunk, and\ncoverage of {MEASURED} views along the way: of the cells that show something and that a memory "
        "of everything fills, the\nshare that is filled"
    )
    return {f"{family} {seed} {style}": walk(family, seed, style) for family, seed, style in WALKS[:count]}


def walk(family: str, seed: int, style: str) -> dict[str, Any]:
    """Write one walk to all caches, chunk by chunk."""
    walked = record(family, seed, style)
    print(f"{family} {seed}, {style}: the camera turns by {walked.turned:.0f} degrees in all")
    caches: dict[str, LatentMemory | ViewMemory | RgbMemory] = {
        "latent int8": LatentMemory(CHANNELS, dtype=torch.int8),
        "latent float16": LatentMemory(CHANNELS, dtype=torch.float16),
        "everything, float16": LatentMemory(CHANNELS, rules=WriteRules(select=False), max_bytes=1 << 30),
        "view (VMem's way)": ViewMemory(CHANNELS),
        "rgb (Spatia's way)": RgbMemory(lambda images: F.avg_pool2d(images, 16), 16, max_bytes=4 << 30),
    }
    print(
        f"  {'cache':<20} " + " ".join(f"{f'chunk {i}':>8}" for i in range(1, 1 + len(CHUNK_LATENTS))) + "   coverage"
    )
    held: dict[str, list[float]] = {name: [] for name in caches}
    first = 0
    for count in tqdm(CHUNK_LATENTS, desc=f"{family} {seed}", unit="chunk", leave=False):
        part = slice(first, first + count)
        first += count
        for name, cache in caches.items():
            if isinstance(cache, RgbMemory):
                cache.write(None, walked.depth[part], walked.camera[part], colour=walked.colour[part])
            else:
                cache.write(walked.latents[part], walked.depth[part], walked.camera[part])
            held[name].append(cache.nbytes / 2**20)
    measured = torch.linspace(0, first - 1, MEASURED).round().long()
    views = walked.camera.resized(HEIGHT, WIDTH)[measured]
    counted = caches["everything, float16"].read(views).visible > 0
    # Beyond the edge of the sky elements reach over, and the more of them the further.
    counted &= F.interpolate(walked.depth[measured][:, None], (HEIGHT, WIDTH), mode="nearest") > 0
    results: dict[str, Any] = {"turned": walked.turned}
    for name, cache in caches.items():
        coverage = float(((cache.read(views).visible > 0) & counted).sum() / counted.sum())
        results[name] = {"mib": [round(value, 3) for value in held[name]], "coverage": coverage}
        print(f"  {name:<20} " + " ".join(f"{value:8.2f}" for value in held[name]) + f"   {100 * coverage:6.2f} %")
    return results
