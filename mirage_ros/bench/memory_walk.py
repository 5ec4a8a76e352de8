"""`mirage bench memory walk`: bytes held and coverage over five chunks, beside the caches that it is compared with.

A walk is five metres of a simulated camera at half a metre a second: 161 frames of 704x1280 at 16 frames a second. The
full-size model takes them in five chunks of 33 (each later one begins with the last frame of the one before); every
fourth of them has latents: 9 in the first chunk and 8 in each later one.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.evaluation.protocols.sim import draw_walk
from mirage_ros.images import as_images, enlarge
from mirage_ros.memory import LatentMemory, WriteRules
from mirage_ros.recordings.clips import Clip
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
