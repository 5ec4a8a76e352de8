"""`mirage bench memory finer`: what an element costs and gives when the camera comes closer.

Walks straight ahead in simulated halls. A view that is `finer` times finer than an element replaces it, so that a small
ratio keeps more of what was seen from near, in more elements.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mirage_ros.bench.memory_frames import (
    CHANNELS,
    IMAGE,
    RULES,
    STRIDE,
    LinearAutoencoder,
    Place,
    drawn,
    fitted_autoencoder,
    psnr,
)
from mirage_ros.memory import LatentMemory, WriteRules
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.scene import build_scene

RATIOS = (1.25, 1.5, 1.75, 2.0, 3.0)
# A frame every ten centimetres; some are read and not written.
POSES, STEP = 33, 0.1
READ = (8, 16, 24, 31)


def approach(seed: int) -> Place:
    """Frames of a walk straight ahead."""
    scene = build_scene(seed, "halls", moving=0)
    return drawn(scene, plan_path(scene, 2 * POSES - 1, seed, style="dolly", step=STEP / 2)[::2])


def squared_errors(place: Place, autoencoder: LinearAutoencoder, ratio: float) -> tuple[int, list[Tensor]]:
    """Elements held after a walk, and the mean squared error of each rule on what it shows."""
    written = torch.tensor([t for t in range(POSES) if t not in READ])
    read = torch.tensor(READ)
    memory = LatentMemory(CHANNELS, rules=WriteRules(finer=ratio))
    memory.write(autoencoder.encode(place.images[written]), place.depth[written], place.camera[written])
    grid = place.camera[read].resized(IMAGE[0] // STRIDE, IMAGE[1] // STRIDE)
    errors = []
    for rule in RULES.values():
        readout = memory.read(grid, **rule)
        shown = F.interpolate(readout.visible, scale_factor=STRIDE)[:, 0] > 0
        squared = (autoencoder.decode(readout.latents) - place.images[read]) ** 2
        errors.append(squared.mean(dim=1)[shown].mean())
    return len(memory), errors


def bench_finer(places: int) -> dict[str, Any]:
    """Elements and PSNR of each rule over `WriteRules.finer`."""
    autoencoder = fitted_autoencoder()
    visited = [approach(seed) for seed in tqdm(range(places), desc="halls", leave=False)]
    print(
        f"{places} halls, {(POSES - 1) * STEP:.1f} m straight ahead, {POSES - len(READ)} frames written, {len(READ)} "
        "others read; PSNR in dB by the ratio at which a finer view replaces an element"
    )
    print(f"{'finer':>6} {'elements':>9} " + " ".join(f"{name:>17}" for name in RULES))
    results: dict[str, Any] = {}
    for ratio in RATIOS:
        found = [squared_errors(place, autoencoder, ratio) for place in visited]
        elements = sum(count for count, _ in found)
        decibels = [psnr(torch.stack(column)) for column in zip(*(errors for _, errors in found), strict=True)]
        results[str(ratio)] = {"elements": elements, **dict(zip(RULES, decibels, strict=True))}
        print(f"{ratio:>6} {elements:>9} " + " ".join(f"{value:17.2f}" for value in decibels))
    return results
