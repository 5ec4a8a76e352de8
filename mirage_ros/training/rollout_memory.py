"""Chunks that come after an imagined one: what a rollout remembers is its own invention, not what a camera saw.

A model that only ever saw true memories takes its own for true as well, and what it invents drifts away chunk by chunk
(as in Self Forcing, arXiv 2506.08009, where video models are trained on their own rollouts).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.depth_patches import resample_depth
from mirage_ros.models import log_depth
from mirage_ros.models.presets import Preset
from mirage_ros.perception.pipeline import FAR
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.latent_cache import ClipLatents
from mirage_ros.training.sample_memory import forget, held_cells

# Imagined frames that a memory holds.
OWN_SOURCES = 2


def applies(preset: Preset, data: ClipLatents, chunks: Sequence[int]) -> bool:
    """Whether chunks can be made to follow imagined ones.

    The model must say depth, in one step, of single frames; every clip must have room for two of the longest chunks.
    """
    room = min((data.frames(index) for index in range(len(data))), default=0)
    one_step = preset.predicts_clean and preset.schedule.steps == 1 and preset.depth_channels > 0
    return one_step and data.time_stride == 1 and room >= 2 * max(chunks) - 1


@torch.no_grad()
def own_memory(
    chunks: ChunkModel, batch: dict[str, Tensor], generator: torch.Generator
) -> tuple[dict[str, Tensor], Tensor]:
    """Imagine the chunk before the targets and remember it.

    Args:
        chunks: imagines, in one step.
        batch: with 'earlier', 'earlier_depth', 'earlier_intrinsics' and 'earlier_cam2world' of the chunk before, whose
            last frame is the first target.

    Returns:
        the batch with OWN_SOURCES imagined frames behind the sources, and the imagined frames (B, C, F, h, w) as they
        would be written, depth channels included.
    """
    earlier = batch["earlier"]
    view = {
        **batch,
        "targets": earlier,
        "preceding": earlier[:, :0],
        "references": earlier[:, :0],
        "depth": batch["earlier_depth"],
        "intrinsics": batch["earlier_intrinsics"],
        "cam2world": batch["earlier_cam2world"],
    }
    reading = forget(chunks.read(view), batch["forget"])
    seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
    imagined = chunks.imagine(view, seed=seed, reading=reading)
    # Otherwise weights that were cast to half precision here, without gradient, would be used again with it.
    torch.clear_autocast_cache()
    channels, preset = earlier.shape[2], chunks.preset
    # Written is what the autoencoder makes of the decoded pictures; of the frames that anyone looks at.
    last = earlier.shape[1] - 1
    picked = [earlier.shape[1] // 2, last]
    used = sorted({*picked, last - 1})
    written = imagined.clone()
    pictures = chunks.autoencoder.decode(imagined[:, :channels, used])
    written[:, :channels, used] = chunks.autoencoder.encode(pictures).to(written)
    frames = written[:, :, picked].transpose(1, 2)
    depth = log_depth.unpack(frames[:, :, channels:], preset.log_depth_mean, preset.log_depth_std)
    # What may be sky is not written.
    depth = torch.where(depth > FAR, torch.nan, depth)
    sources = {
        "source_latents": frames[:, :, :channels],
        "source_depth": resample_depth(depth, log_depth.FINE, preset.depth_samples),
        "source_intrinsics": batch["earlier_intrinsics"][:, picked],
        "source_cam2world": batch["earlier_cam2world"][:, picked],
    }
    remembered = {**batch, **{name: torch.cat([batch[name], own], dim=1) for name, own in sources.items()}}
    # Cells that were read from the memory are not written again.
    copied = reading.sharp[:, picked, 0]
    observed = copied.new_zeros(len(copied), batch["source_depth"].shape[1], *copied.shape[-2:])
    copied = torch.cat([observed, copied], dim=1)
    cameras = Camera(remembered["source_intrinsics"], remembered["source_cam2world"], *copied.shape[-2:]).to("cpu")
    depths = remembered["source_depth"].cpu()
    held = [held_cells(depths[i], cameras[i], preset, OWN_SOURCES, copied[i]) for i in range(len(copied))]
    remembered["source_held"] = torch.stack(held).to(depth.device)
    return remembered, written
