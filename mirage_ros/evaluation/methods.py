"""What is compared: the world model, its ablations and simpler answers, behind one interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.evaluation.ablations import (
    NOISE,
    TokenMemory,
    geometric_filter,
    memory_depth,
    noisy_depth,
    true_depth,
)
from mirage_ros.evaluation.baselines.baseline import Baseline
from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.evaluation.cases import Case
from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge, fit_camera
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models.branch_input import fill_rows
from mirage_ros.perception.pipeline import Perception
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.world.model import WorldModel
from mirage_ros.world.reading import read_views


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method answers.

    Attributes:
        rgb: (T, H, W, 3) uint8.
        depth: (T, H, W) float32 metres, +inf where it is too far, 0 where it gives none.
        seconds: of work.
        cache_bytes: held at the end by what is remembered.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    seconds: float
    cache_bytes: int


Method = Callable[[WorldModel, Case, int], Outcome]


class NoMemory(Baseline):
    """A memory that never knows anything."""

    def __init__(self, world: WorldModel) -> None:
        self._channels = world.networks.autoencoder.channels

    nbytes = 0

    def __len__(self) -> int:
        return 0

    def read(self, camera: Camera, rule: str = "nearest", *, observed_first: bool = False) -> Readout:
        """Nothing is visible."""
        shape, size = tuple(camera.batch_shape), (camera.height, camera.width)

        def zeros(channels: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(*shape, channels, *size, dtype=dtype, device=camera.device)

        missing = zeros(1, torch.int64) - 1
        return Readout(
            latents=zeros(self._channels),
            visible=zeros(1),
            depth=zeros(1),
            offset=zeros(2),
            log_scale=zeros(1),
            confidence=zeros(1),
            source=missing,
            index=missing.clone(),
        )

    def _write_frame(self, content: Tensor, depth: Tensor, camera: Camera, keep: Tensor) -> WriteReport:
        return WriteReport()


def observed(world: WorldModel, cache: Any, case: Case, *, filtered: bool = True) -> Any:
    """Write a case's sources into a cache, their static part or everything; gives the history."""
    history = world.new_history()
    for source in case.sources:
        clip = case.clip
        frame = RgbdFrame(clip.rgb[source], clip.sensed[source], clip.camera[source])
        world.observe(cache, frame, keep=clip.keep[source] if filtered else None, history=history)
    return history


def imagined(
    new_cache: Callable[[WorldModel], Any],
    perceive: Callable[[WorldModel, Case], Perception] | None = None,
    *,
    filtered: bool = True,
    steps: int | None = None,
) -> Method:
    """The world model with a cache.

    Args:
        new_cache: makes an empty one.
        perceive: perception of imagined frames; the model's own by default.
        filtered: keep what moves in observed frames out of the cache.
        steps: of the sampler; the preset's by default.
    """

    def method(world: WorldModel, case: Case, seed: int) -> Outcome:
        cache = new_cache(world)
        history = observed(world, cache, case, filtered=filtered)
        perception = perceive(world, case) if perceive is not None else None
        if perception is None and world.perception is None:
            perception = true_depth(world, case)
        start = time.perf_counter()
        chunks = list(
            world.imagine(
                cache,
                case.clip.camera,
                first=RgbdFrame(case.clip.rgb[0], case.clip.sensed[0], case.clip.camera[0]),
                seed=seed,
                steps=steps,
                perception=perception,
                history=history,
            )
        )
        seconds = time.perf_counter() - start
        return Outcome(
            rgb=np.concatenate([chunk.rgb for chunk in chunks]),
            depth=np.concatenate([chunk.depth for chunk in chunks]),
            seconds=seconds,
            cache_bytes=cache.nbytes,
        )

    return method


@torch.no_grad()
def readout_alone(world: WorldModel, case: Case, seed: int) -> Outcome:
    """What the memory shows, decoded; holes take the nearest seen cell of their row."""
    memory = world.new_memory()
    observed(world, memory, case)
    start = time.perf_counter()
    camera = fit_camera(case.clip.camera, world.height, world.width).to(world.device, torch.float64)
    reading = read_views(memory, camera.resized(*world.networks.latent_size), world.preset, world.networks.unfolder)
    latents = torch.where(reading.visible > 0, reading.latents, fill_rows(reading.latents, reading.visible > 0))
    rgb = world.networks.decode(latents.unsqueeze(2)).squeeze(1)
    depth = enlarge(reading.fine_depth.nan_to_num(0.0), world.height, world.width)
    return Outcome(
        rgb=(rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(),
        depth=depth.float().cpu().numpy(),
        seconds=time.perf_counter() - start,
        cache_bytes=memory.nbytes,
    )


def copied(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The first frame again and again."""
    count = len(case.clip)
    return Outcome(
        rgb=np.repeat(case.clip.rgb[:1], count, axis=0),
        depth=np.repeat(case.clip.sensed[:1], count, axis=0),
        seconds=0.0,
        cache_bytes=case.clip.rgb[0].nbytes,
    )


@torch.no_grad()
def bound(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The autoencoder's own loss: the true frames encoded and decoded. No method with this autoencoder beats it."""
    images = torch.from_numpy(case.clip.rgb).permute(0, 3, 1, 2).float().to(world.device) / 255
    # One clip for each frame: a temporal autoencoder takes only some lengths.
    rgb = world.networks.decode(world.networks.encode(images[:, None]))[:, 0]
    return Outcome(
        rgb=(rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(),
        # It has none of its own, and the true one must not be scored.
        depth=np.zeros_like(case.clip.depth),
        seconds=0.0,
        cache_bytes=0,
    )


def truth(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The true frames, to check a protocol with."""
    return Outcome(case.clip.rgb, case.clip.sensed, 0.0, 0)


def shuffled(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The true frames of the wrong moments, to check a protocol with."""
    count = len(case.clip)
    order = (np.arange(count) + count // 2) % count
    return Outcome(case.clip.rgb[order], case.clip.sensed[order], 0.0, 0)


def _rgb_cache(world: WorldModel) -> RgbMemory:
    stride = world.networks.autoencoder.strides[1]
    return RgbMemory(lambda images: world.networks.encode(images[:, None])[:, :, 0], stride, world.device)


METHODS: dict[str, tuple[Method, str]] = {
    "mirage": (imagined(lambda world: world.new_memory()), "the world model with its latent memory"),
    "readout": (readout_alone, "what the memory shows, decoded; holes filled from the nearest seen cell of the row"),
    "rgb": (imagined(_rgb_cache), "the same networks over a cache of coloured points (the Spatia and Gen3C way)"),
    "view": (
        imagined(lambda world: ViewMemory(world.networks.autoencoder.channels, world.device)),
        "the same networks over whole past views (the VMem way)",
    ),
    "none": (imagined(NoMemory), "the same networks without any memory"),
    "copy": (copied, "the first frame again and again"),
    "tokens": (
        imagined(lambda world: TokenMemory(world, pixels=False)),
        "latent memory whose tokens are read whole, without the networks of the reader",
    ),
    "pixel-lifting": (
        imagined(lambda world: TokenMemory(world, pixels=True)),
        "the same, latents enlarged and lifted pixel by pixel (an ablation of the paper)",
    ),
    "no-filter": (
        imagined(lambda world: world.new_memory(), filtered=False),
        "the world model, that also remembers what moves in the observed frame",
    ),
    "filter": (
        imagined(lambda world: world.new_memory(), geometric_filter),
        "the world model, with the geometric filter over imagined frames too",
    ),
    "true-depth": (
        imagined(lambda world: world.new_memory(), true_depth),
        "the world model, with true depth of imagined frames",
    ),
    "noisy-depth": (
        imagined(lambda world: world.new_memory(), noisy_depth),
        f"the world model, with true depth of imagined frames and an error of {NOISE:.0%}",
    ),
    "memory-depth": (
        imagined(lambda world: world.new_memory(), memory_depth),
        "the world model, with depth of imagined frames out of the memory alone",
    ),
    **{
        f"{steps}-steps": (
            imagined(lambda world: world.new_memory(), steps=steps),
            f"the world model, sampling in {steps} steps",
        )
        for steps in (2, 4)
    },
    "bound": (bound, "true frames through the autoencoder: what no method can beat"),
    "truth": (truth, "a perfect answer, to check a protocol"),
    "shuffled": (shuffled, "right pictures in the wrong places, to check a protocol"),
}
GROUPS: dict[str, tuple[str, ...]] = {
    "compared": ("mirage", "readout", "rgb", "view", "none", "copy", "bound"),
    "ablations": (
        "tokens",
        "pixel-lifting",
        "no-filter",
        "filter",
        "true-depth",
        "noisy-depth",
        "memory-depth",
        "2-steps",
        "4-steps",
    ),
}
# The rest are checks.
GROUPS["all"] = (*GROUPS["compared"], *GROUPS["ablations"])


def find_methods(names: Sequence[str]) -> dict[str, Method]:
    """Methods by name or group, in this order, each once.

    Raises:
        ValueError: a name is unknown; says which is meant, where one is like it.
    """
    chosen = [name for given in names for name in GROUPS.get(given, (given,))]
    for name in chosen:
        if name not in METHODS:
            close = get_close_matches(name, [*GROUPS, *METHODS], 1)
            raise ValueError(
                f"methods: expected some of {', '.join((*GROUPS, *METHODS))}, got {name!r}"
                + (f"; is {close[0]!r} meant?" if close else "")
            )
    if not chosen:
        raise ValueError(f"methods: expected some of {', '.join((*GROUPS, *METHODS))}, got none")
    return {name: METHODS[name][0] for name in chosen}


def of_other_weights(other: WorldModel) -> Method:
    """The method `mirage` of another model, such as one after another stage of training."""

    def method(world: WorldModel, case: Case, seed: int) -> Outcome:
        return METHODS["mirage"][0](other, case, seed)

    return method
