"""What a training step of the transformer is drawn from: a chunk, its context and the source frames of its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mirage_ros.images import as_images
from mirage_ros.models.presets import Preset
from mirage_ros.recordings.clips import MOVING
from mirage_ros.training.latent_cache import ClipLatents, FrameNumbers
from mirage_ros.training.sample_memory import held_cells, noisy_depth


@dataclass(frozen=True)
class StageSettings:
    """How samples of the transformer's stages are drawn and weighted."""

    # Numbers of latent frames of a chunk, and of source frames of a memory, one of which is always the known frame;
    # each step draws one of each.
    chunks: tuple[int, ...] = (3, 5, 9)
    sources: tuple[int, ...] = (1, 1, 2, 3)
    # Shares of samples whose memory shows nothing, and whose prompt is left away, for presets with text.
    memory_dropout: float = 0.1
    prompt_dropout: float = 0.1
    # Noise levels: the share of samples in which every frame has one of its own; that of the others that start from
    # pure noise, where few-step sampling spends its first step; the shift as in the schedule.
    own_sigma: float = 0.2
    pure_noise: float = 0.35
    shift: float = 3.0
    # Relative error of the sources' depth, in a third of the samples, and deviation of an error on their latents, in
    # half of them: what is written in a rollout is not what a camera saw.
    depth_noise: float = 0.02
    latent_noise: float = 0.05
    # Share of steps whose memory holds a chunk that the model imagined before; see `rollout_memory.applies`.
    own_outputs: float = 0.4
    # Recompute blocks in the backward pass: less memory, a third more time.
    gradient_checkpointing: bool = False
    # Errors of a clean estimate are weighted by 1 / sigma squared down to this level.
    least_sigma: float = 0.4
    # Weight of the error of decoded pixels of so many target frames, for networks that estimate clean latents of single
    # frames: a mean of plausible latents decodes to patches, not to the mean of plausible pictures.
    picture_weight: float = 50.0
    pictures: int = 2
    # In the joint stage, train the autoencoder's decoder too, on what is imagined and on true latents, with a weight of
    # log-depth L1 there: of guesses that no encoder would give it draws a pattern of cells until it has seen some. With
    # pictures only.
    decoder: bool = True
    depth_weight: float = 0.1

    def fitting(self, preset: Preset) -> StageSettings:
        """These settings with chunks no longer than the preset's, and the noise levels that its sampler visits."""
        stride = 1 if preset.autoencoder_kind == "frame" else 4
        most = (preset.chunk_frames - 1) // stride + 1
        fit = replace(self, chunks=tuple(min(chunk, most) for chunk in self.chunks))
        # A single step sees pure noise and nothing else; the rest keeps more steps possible.
        return replace(fit, pure_noise=0.8, own_sigma=0.1) if preset.schedule.steps == 1 else fit


def draw_chunk(
    data: ClipLatents, preset: Preset, settings: StageSettings, rng: np.random.Generator, shared: np.random.Generator
) -> dict[str, Tensor]:
    """A chunk, its context and the source frames of its memory.

    Args:
        preset: gives the context's size.
        settings: how samples are drawn.
        rng, shared: of this sample, and of the whole step, whose samples agree in their lengths.

    Returns:
        tensors by name; those of frames have them in front. See `conditioned`; beside, in steps that follow an
        imagined chunk, 'earlier' ones of that chunk; 'drawn' places of targets after the first, their 'images' and
        'static' pixels; whether to 'forget' the memory; the 'clip' for its prompt, or -1.

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
    past = seen[1 : 1 + references]
    if rng.random() < 0.5:
        # In a robot's stream the frame where imagination begins comes after others, which hold much of what it shows.
        seen = rng.permutation(seen)
    depth = data.depth(index, seen, keep=True, factor=preset.depth_samples)
    latents = data.latents(index, seen)
    if rng.random() < 1 / 3:
        depth = noisy_depth(depth, settings.depth_noise, rng)
    if rng.random() < 0.5:
        latents = latents + settings.latent_noise * torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    sample = conditioned(data, index, preset, targets, context, past, seen, latents, depth)
    if settings.picture_weight > 0:
        drawn = np.sort(1 + rng.permutation(len(targets) - 1)[: settings.pictures])
        clip = data.clips.clip(index, targets[drawn])
        sample["drawn"], sample["images"] = torch.from_numpy(drawn), as_images(clip.rgb)
        sample["static"] = torch.from_numpy(clip.labels != MOVING).float().unsqueeze(1)
    if own:
        camera = data.camera(index, earlier)
        sample["earlier"] = data.window(index, earlier)
        sample["earlier_depth"] = data.depth(index, earlier, keep=False)
        sample["earlier_intrinsics"], sample["earlier_cam2world"] = camera.intrinsics, camera.cam2world
    sample["forget"] = torch.tensor(rng.random() < settings.memory_dropout)
    sample["clip"] = torch.tensor(-1 if rng.random() < settings.prompt_dropout else index)
    return sample


def conditioned(
    data: ClipLatents,
    index: int,
    preset: Preset,
    targets: FrameNumbers,
    context: FrameNumbers,
    past: FrameNumbers,
    seen: FrameNumbers,
    latents: Tensor,
    depth: Tensor,
) -> dict[str, Tensor]:
    """Targets with frames before them and references, and source frames `seen` as a memory is given them."""
    shown = np.concatenate([targets[:: data.time_stride], context])
    camera, view = data.camera(index, seen), data.camera(index, shown)
    window = data.window(index, targets)
    single = data.latents(index, np.concatenate([context, past])) if len(context) + len(past) else window[:0]
    return {
        "targets": window,
        "preceding": single[: len(context)],
        "references": single[len(context) :],
        "depth": data.depth(index, np.concatenate([shown, past]), keep=False),
        "still": torch.isfinite(data.depth(index, targets[:: data.time_stride], keep=True)),
        "source_latents": latents,
        "source_held": held_cells(depth, camera, preset),
        "source_depth": depth,
        "source_intrinsics": camera.intrinsics,
        "source_cam2world": camera.cam2world,
        "intrinsics": view.intrinsics,
        "cam2world": view.cam2world,
    }


def chunk_sample(data: ClipLatents, index: int, chunk: int, preset: Preset) -> dict[str, Tensor]:
    """The first `chunk` latent frames of a clip, with a memory of its first frame alone.

    Returns:
        tensors by name as of `draw_chunk`, and the 'frames' of the targets.
    """
    stride = data.time_stride
    length = (chunk - 1) * stride + 1
    step = 2 if stride == 1 and 2 * (length - 1) < data.frames(index) else 1
    targets = step * np.arange(length)
    none, seen = targets[:0], targets[:1]
    depth = data.depth(index, seen, keep=True, factor=preset.depth_samples)
    latents = data.latents(index, seen)
    return {
        **conditioned(data, index, preset, targets, none, none, seen, latents, depth),
        "frames": torch.from_numpy(targets),
    }
