"""What is compared: the world model and simpler answers, behind one interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.evaluation.baselines.baseline import Baseline
from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.evaluation.baselines.view_cache import ViewMemory
from mirage_ros.evaluation.cases import Case
from mirage_ros.geometry import Camera
from mirage_ros.images import as_images, as_pixels, enlarge, fit_camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models.branch_input import fill_rows
from mirage_ros.perception.pipeline import NoFilter, Perception, SensorDepth
from mirage_ros.world.model import WorldModel
from mirage_ros.world.options import Unseen
from mirage_ros.world.reading import read_views

# What no pixel of the first frame tells.
GREY = 128
# Fewer co-visible pixels tell no gain.
LEAST_PIXELS = 100


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a method answers.

    Attributes:
        rgb: (T, H, W, 3) uint8.
        depth: (T, H, W) float32 metres, +inf where it is too far, 0 where it gives none.
        seconds: of work.
        cache_bytes: held at the end by what is remembered.
        visible: (T, H, W) float32, not zero where the method remembers rather than invents; None if it does not tell.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    seconds: float = 0.0
    cache_bytes: int = 0
    visible: NDArray[np.float32] | None = None


Method = Callable[[WorldModel, Case, int], Outcome]


class NoMemory(Baseline):
    """A memory that never knows anything."""

    nbytes = 0

    def __init__(self, world: WorldModel) -> None:
        self._empty = LatentMemory(world.networks.autoencoder.channels, world.device)

    def __len__(self) -> int:
        return 0

    def read(self, camera: Camera, rule: str = "nearest", *, observed_first: bool = False) -> Readout:
        """Nothing is visible."""
        return self._empty.read(camera, "nearest")

    def _write_frame(self, content: Tensor, depth: Tensor, camera: Camera, keep: Tensor) -> WriteReport:
        return WriteReport()


def _pixel_cache(world: WorldModel) -> RgbMemory:
    stride = world.networks.autoencoder.strides[1]
    return RgbMemory(lambda images: world.networks.encode(images[:, None])[:, :, 0], stride, world.device)


# Empty caches for a world model, by the kind of what they hold.
CACHES: dict[str, Callable[[WorldModel], Any]] = {
    "latent": lambda world: world.new_memory(),
    "rgb": _pixel_cache,
    "view": lambda world: ViewMemory(world.networks.autoencoder.channels, world.device),
    "none": NoMemory,
}


def observed(world: WorldModel, cache: Any, case: Case) -> Any:
    """Write the static part of a case's first frame into a cache; gives the history."""
    history = world.new_history()
    world.observe(cache, case.first, keep=case.clip.keep[0], history=history)
    return history


def imagined(kind: str, other: WorldModel | None = None, unseen: Unseen = "mean") -> Method:
    """The world model over a kind of cache, or another one, such as one after another stage of training.

    Args:
        kind: of CACHES.
        other: in place of the world model.
        unseen: what is imagined where the memory shows nothing.
    """

    def method(world: WorldModel, case: Case, seed: int) -> Outcome:
        world = other or world
        cache = CACHES[kind](world)
        history = observed(world, cache, case)
        # A preset without depth of its own is given the true one.
        true_depth = Perception(SensorDepth(torch.from_numpy(case.clip.depth)), NoFilter())
        start = time.perf_counter()
        chunks = list(
            world.imagine(
                cache,
                case.clip.camera,
                first=replace(case.first, camera=case.clip.camera[0]),
                seed=seed,
                perception=true_depth if world.perception is None else None,
                history=history,
                unseen=unseen,
            )
        )
        seconds = time.perf_counter() - start
        rgb, depth, visible = (
            np.concatenate([getattr(chunk, name) for chunk in chunks]) for name in ("rgb", "depth", "visible")
        )
        return Outcome(rgb, depth, seconds, cache.nbytes, visible)

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
    rgb = as_pixels(world.networks.decode(latents.unsqueeze(2)).squeeze(1))
    depth = enlarge(reading.fine_depth.nan_to_num(0.0), world.height, world.width).float().cpu().numpy()
    visible = enlarge(reading.visible[:, 0], world.height, world.width).cpu().numpy()
    return Outcome(rgb, depth, time.perf_counter() - start, memory.nbytes, visible)


def copied(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The first frame again and again."""
    first = np.zeros(len(case.clip), np.int64)
    shown = case.first
    depth = np.zeros_like(case.clip.depth[0]) if shown.depth is None else shown.depth
    return Outcome(shown.rgb[None][first], depth[None][first], cache_bytes=shown.rgb.nbytes)


@torch.no_grad()
def bound(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The autoencoder's own loss: the true frames encoded and decoded. No method with this autoencoder beats it."""
    images = as_images(case.clip.rgb).to(world.device)
    # One clip for each frame: a temporal autoencoder takes only some lengths.
    rgb = as_pixels(world.networks.decode(world.networks.encode(images[:, None]))[:, 0])
    # It has no depth of its own, and the true one must not be scored.
    return Outcome(rgb, np.zeros_like(case.clip.depth))


def moved_pixels(case: Case, *, fit_gain: bool = False) -> NDArray[np.uint8]:
    """Frames (T, H, W, 3) out of the first one's pixels, bilinearly, where it sees what they see; grey elsewhere.

    The ceiling of a recording: no memory can show what the first frame saw better than the recording is consistent.

    Args:
        case: with true depth.
        fit_gain: multiply the colours that are brought over by the usual ratio to the true ones, for each frame and
            channel.
    """
    clip = case.clip
    camera = clip.camera.to(dtype=torch.float64)
    points = camera.lift(torch.from_numpy(clip.depth.astype(np.float64))).flatten(1, 2)
    pixels, _ = camera[0].project(points)
    # The middle of the first pixel is at .5 here, at 0 for OpenCV.
    places = (pixels.reshape(*clip.depth.shape, 2) - 0.5).nan_to_num(-10.0).float()
    rows, columns = places[..., 1].contiguous().numpy(), places[..., 0].contiguous().numpy()
    frames = np.full_like(clip.rgb, GREY)
    for frame, truth, x, y, visible in zip(frames, clip.rgb, columns, rows, case.visible, strict=True):
        whole = cv2.remap(clip.rgb[0], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        brought = np.asarray(whole)[visible]
        if fit_gain and len(brought) >= LEAST_PIXELS:
            ratio = (truth[visible] + 1.0) / (brought + 1.0)
            brought = np.clip(np.round(brought * np.median(ratio, axis=0)), 0, 255).astype(np.uint8)
        frame[visible] = brought
    frames[0] = clip.rgb[0]
    return frames


def moved(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The first frame's pixels, brought over by true depth."""
    return Outcome(moved_pixels(case), case.clip.sensed)


def moved_fitted(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The same with a gain of each channel fitted to each true frame."""
    return Outcome(moved_pixels(case, fit_gain=True), case.clip.sensed)


def truth(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The true frames."""
    return Outcome(case.clip.rgb, case.clip.sensed)


def shuffled(world: WorldModel, case: Case, seed: int) -> Outcome:
    """The true frames of the wrong moments."""
    order = np.roll(np.arange(len(case.clip)), -(len(case.clip) // 2))
    return Outcome(case.clip.rgb[order], case.clip.sensed[order])


METHODS: dict[str, tuple[Method, str]] = {
    "mirage": (imagined("latent"), "the world model with its latent memory"),
    "sampled": (imagined("latent", unseen="sample"), "the same, one of what may be there drawn where nothing was seen"),
    "readout": (readout_alone, "what the memory shows, decoded; holes filled from the nearest seen cell of the row"),
    "rgb": (imagined("rgb"), "the same networks over a cache of coloured points (the Spatia and Gen3C way)"),
    "view": (imagined("view"), "the same networks over whole past views (the VMem way)"),
    "none": (imagined("none"), "the same networks without any memory"),
    "copy": (copied, "the first frame again and again"),
    "bound": (bound, "true frames through the autoencoder: what no method can beat"),
    "moved": (
        moved,
        "the first frame's true pixels, brought over by true depth: a recording's ceiling in what is visible",
    ),
    "moved-gain": (moved_fitted, "the same with a gain of each channel fitted to each true frame"),
    "truth": (truth, "true frames: what measures of looks should come to"),
    "shuffled": (shuffled, "right pictures in the wrong places, to check a protocol"),
}
# A group's name stands for its methods. The truth is no competitor: its row says what measures without a best value
# should come to.
GROUPS: dict[str, tuple[str, ...]] = {
    "compared": ("mirage", "readout", "rgb", "view", "none", "copy", "bound", "truth"),
    # Of recordings, whose own consistency bounds what a memory can show.
    "recorded": ("mirage", "readout", "rgb", "copy", "bound", "moved", "moved-gain"),
}


def find_methods(names: Sequence[str]) -> dict[str, Method]:
    """Methods by name or group, in this order, each once.

    Raises:
        ValueError: a name is unknown; says which is meant, where one is like it.
    """
    known = (*GROUPS, *METHODS)
    for name in names:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"; is {close[0]!r} meant?" if close else ""
            raise ValueError(f"methods: expected some of {', '.join(known)}, got {name!r}{hint}")
    if not names:
        raise ValueError(f"methods: expected some of {', '.join(known)}, got none")
    return {name: METHODS[name][0] for given in names for name in GROUPS.get(given, (given,))}
