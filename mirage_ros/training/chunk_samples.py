"""What a training step of the transformer is drawn from: a chunk, its context and the source frames of its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.models.presets import Preset
from mirage_ros.recordings.clips import MOVING
from mirage_ros.training.latent_windows import Windows
from mirage_ros.training.pictures import as_images
from mirage_ros.training.pixel_cache_input import pixel_sources
from mirage_ros.training.reader import noisy_depth
from mirage_ros.training.sample_memory import held_cells


@dataclass(frozen=True)
class StageSettings:
    """How samples are drawn and weighted.

    Attributes:
        chunks: numbers of latent frames of a chunk, one of which each step draws.
        sources: numbers of source frames of a memory, likewise; the known frame is always one of them.
        memory_dropout: share of samples whose memory shows nothing.
        prompt_dropout: share of samples whose prompt is left away; for presets with text.
        own_sigma: share of samples in which every frame has a noise level of its own.
        pure_noise: share of the others that start from pure noise, where few-step sampling spends its first step.
        shift: of the noise levels, as in the schedule.
        depth_noise: relative error of the sources' depth, in a third of the samples.
        own_outputs: share of steps whose memory holds a chunk that the model imagined before the targets, as in a
            rollout; see `unrolled.applies`.
        latent_noise: deviation of an error on the sources' latents, in half of the samples: what is written in a
            rollout is not what a camera saw.
        gradient_checkpointing: recompute blocks in the backward pass: less memory, a third more time.
        least_sigma: errors of a clean estimate are weighted by 1 / sigma squared down to this level.
        picture_weight: of the error of decoded pixels, for networks that estimate clean latents of single
            frames: a mean of plausible latents decodes to patches, not to the mean of plausible pictures.
        pictures: target frames of each sample that are decoded for it.
        decoder: in the joint stage, train the autoencoder's decoder too, on what is imagined and on true latents: of
            guesses that no encoder would give it draws a pattern of cells until it has seen some. With pictures only.
        depth_weight: then, of log-depth L1 of true latents.
        edges: in what is hidden, count the absolute error of clean estimates and of their pictures rather than the
            squared one; see `losses.square_where_seen`.
        cache: what the network is conditioned on: the latent memory, or the pixel cache that it is compared with.
    """

    chunks: tuple[int, ...] = (3, 5, 9)
    sources: tuple[int, ...] = (1, 1, 2, 3)
    memory_dropout: float = 0.1
    prompt_dropout: float = 0.1
    own_sigma: float = 0.2
    pure_noise: float = 0.35
    shift: float = 3.0
    depth_noise: float = 0.02
    own_outputs: float = 0.4
    latent_noise: float = 0.05
    gradient_checkpointing: bool = False
    least_sigma: float = 0.4
    picture_weight: float = 50.0
    pictures: int = 2
    decoder: bool = True
    depth_weight: float = 0.1
    edges: bool = True
    cache: Literal["latent", "rgb"] = "latent"

    def fitting(self, preset: Preset) -> StageSettings:
        """These settings with chunks no longer than the preset's, and the noise levels that its sampler visits."""
        stride = 1 if preset.autoencoder_kind == "frame" else 4
        most = (preset.chunk_frames - 1) // stride + 1
        fit = replace(self, chunks=tuple(min(chunk, most) for chunk in self.chunks))
        # A single step sees pure noise and nothing else; the rest keeps more steps possible.
        return replace(fit, pure_noise=0.8, own_sigma=0.1) if preset.schedule.steps == 1 else fit


def draw_chunk(
    data: Windows, preset: Preset, settings: StageSettings, rng: np.random.Generator, shared: np.random.Generator
) -> dict[str, Tensor]:
    """A chunk, its context and the source frames of its memory.

    Args:
        data: clips.
        preset: gives the context's size.
        settings: how samples are drawn.
        rng: of this sample.
        shared: of the whole step, whose samples agree in their lengths.

    Returns:
        tensors by name; those of frames have them in front.

    Raises:
        ValueError: a clip is too short for the chunk.
    """
    stride = data.time_stride
    chunk = int(shared.choice(settings.chunks))
    sources = int(shared.choice(settings.sources))
    preceding = int(shared.integers(0, preset.preceding + 1))
    references = int(shared.integers(0, min(preset.references, sources - 1) + 1))
    index = int(rng.integers(len(data)))
    count = data.frames(index)
    own = shared.random() < settings.own_outputs
    length, before = (chunk - 1) * stride + 1, chunk - 1 if own else preceding * stride
    if length + before > count:
        raise ValueError(f"chunks: expected at most {count} frames, clip {index} has no {length + before}")
    # Every second frame of slow walks, so that views turn away from what was seen.
    most = max(1, (count - 1) // (length + before)) if stride == 1 else 1
    step = int(rng.integers(1, min(most, 2) + 1))
    order = np.arange(count)[:: -1 if stride == 1 and rng.random() < 0.5 else 1]
    start = int(rng.integers(before * step, count - (length - 1) * step))
    targets = order[start + step * np.arange(length)]
    context = order[start - step * stride * np.arange(preceding, 0, -1)] if preceding else order[:0]
    earlier = order[start - step * np.arange(before, -1, -1)] if own else order[:0]
    # What the memory holds beside must not be what is to be imagined, as far as the clip is long enough.
    pools = (np.setdiff1d(order, np.concatenate([targets, earlier])), np.setdiff1d(order, targets), order)
    others = next(pool for pool in pools if len(pool))
    seen = np.concatenate([earlier[:1] if own else targets[:1], rng.choice(others, sources - 1)]).astype(np.int64)
    shown = np.concatenate([targets[::stride], context])
    past = seen[1 : 1 + references]
    if rng.random() < 0.5:
        # In a robot's stream the frame where imagination begins comes after others, which hold much of what it shows.
        seen = rng.permutation(seen)
    depth = data.depth(index, seen, keep=True, factor=preset.depth_samples)
    source_latents = data.latents(index, seen)
    pixels = settings.cache == "rgb"
    error = settings.depth_noise if rng.random() < 1 / 3 else 0.0
    if error:
        depth = noisy_depth(depth, error, rng)
    if rng.random() < 0.5:
        noise = rng.standard_normal(source_latents.shape, np.float32)
        source_latents = source_latents + settings.latent_noise * torch.from_numpy(noise)
    camera, view = data.camera(index, seen), data.camera(index, shown)
    single = data.latents(index, np.concatenate([context, past])) if preceding + references else None
    window = data.window(index, targets)
    empty = window[:0]
    return {
        **(_pictures(data, index, targets, settings.pictures, rng) if settings.picture_weight > 0 else {}),
        **(_earlier(data, index, earlier) if own else {}),
        "targets": window,
        "preceding": empty if single is None else single[:preceding],
        "references": empty if single is None else single[preceding:],
        "depth": data.depth(index, np.concatenate([targets[::stride], context, past]), keep=False),
        "still": torch.isfinite(data.depth(index, targets[::stride], keep=True)),
        "source_latents": source_latents,
        "source_held": depth.isfinite() if pixels else held_cells(depth, camera, preset),
        "source_depth": depth,
        "source_intrinsics": camera.intrinsics,
        "source_cam2world": camera.cam2world,
        "intrinsics": view.intrinsics,
        "cam2world": view.cam2world,
        "forget": torch.tensor(rng.random() < settings.memory_dropout),
        "clip": torch.tensor(-1 if rng.random() < settings.prompt_dropout else index),
        # Last, so that what is drawn before is the same for both caches.
        **(pixel_sources(data, index, seen, error, rng) if pixels else {}),
    }


def _earlier(data: Windows, index: int, frames: NDArray[np.int64]) -> dict[str, Tensor]:
    """The chunk before the targets, which the model is to imagine."""
    camera = data.camera(index, frames)
    return {
        "earlier": data.window(index, frames),
        "earlier_depth": data.depth(index, frames, keep=False),
        "earlier_intrinsics": camera.intrinsics,
        "earlier_cam2world": camera.cam2world,
    }


def _pictures(
    data: Windows, index: int, targets: NDArray[np.int64], count: int, rng: np.random.Generator
) -> dict[str, Tensor]:
    """Some of the targets after the first as they look: 'drawn', their places, 'images', and 'static' pixels."""
    drawn = np.sort(1 + rng.permutation(len(targets) - 1)[:count])
    clip = data.clips.clip(index, targets[drawn])
    return {
        "drawn": torch.from_numpy(drawn),
        "images": as_images(clip.rgb),
        "static": torch.from_numpy(clip.labels != MOVING).float().unsqueeze(1),
    }


def chunk_sample(data: Windows, index: int, chunk: int, preset: Preset, *, pixels: bool = False) -> dict[str, Tensor]:
    """The first latent frames of a clip, with a memory of its first frame alone.

    Args:
        data: clips.
        index: of the clip.
        chunk: number of latent frames.
        preset: gives the samples of depth in a cell and the rules of writing.
        pixels: for the pixel cache, too.

    Returns:
        tensors by name as of `draw_chunk`, and the 'frames' of the targets.
    """
    stride = data.time_stride
    length = (chunk - 1) * stride + 1
    step = 2 if stride == 1 and 2 * (length - 1) < data.frames(index) else 1
    targets = step * np.arange(length)
    shown, seen = targets[::stride], targets[:1]
    window = data.window(index, targets)
    camera, view = data.camera(index, seen), data.camera(index, shown)
    depth = data.depth(index, seen, keep=True, factor=preset.depth_samples)
    return {
        **(pixel_sources(data, index, seen) if pixels else {}),
        "targets": window,
        "preceding": window[:0],
        "references": window[:0],
        "depth": data.depth(index, shown, keep=False),
        "still": torch.isfinite(data.depth(index, shown, keep=True)),
        "source_latents": data.latents(index, seen),
        "source_held": held_cells(depth, camera, preset),
        "source_depth": depth,
        "source_intrinsics": camera.intrinsics,
        "source_cam2world": camera.cam2world,
        "intrinsics": view.intrinsics,
        "cam2world": view.cam2world,
        "frames": torch.from_numpy(targets),
    }
