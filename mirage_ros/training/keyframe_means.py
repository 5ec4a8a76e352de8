"""What the transformer estimates of keyframes: computed once for each clip and memory-mapped.

A keyframe is some frames after a known one, as in a rollout.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import default_collate
from tqdm import tqdm

from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.chunk_samples import conditioned
from mirage_ros.training.clip_cache import load_mapped, save_mapped
from mirage_ros.training.latent_cache import ClipLatents, fingerprint
from mirage_ros.training.stage_losses import moving_cells

# Numbers of source frames of a memory in the groups of keyframes of a clip, keyframes of each group, and in all.
SOURCES, EACH = (1, 1, 2), 4
PER_CLIP = len(SOURCES) * EACH


class KeyframeMeans:
    """Keyframes of a set of clips with what the transformer estimates of them.

    Args:
        data: clips; two frames at least each.
        chunks: the trained transformer, which imagines with one step.
        folder: where the arrays go, named after clip and networks.

    Attributes:
        hidden: (N,) of all keyframes, the share of their cells that the memory does not show.
    """

    def __init__(self, data: ClipLatents, chunks: ChunkModel, folder: str | Path) -> None:
        self.data, self.chunks = data, chunks
        networks = [part for part in (chunks.model, chunks.reader, chunks.autoencoder) if part is not None]
        suffix = "-".join(fingerprint(part, leave_out="decoder.")[:8] for part in networks)
        self._arrays: list[dict[str, NDArray[Any]]] = []
        for index in tqdm(range(len(data)), desc="means", unit="clip", disable=len(data) < 8, mininterval=5):
            path = Path(folder) / f"{data.clips.name(index)}-{suffix}.pt"
            if not path.is_file():
                save_mapped(self._computed(index), path)
            self._arrays.append(load_mapped(path))
        shown = [array["visible"].mean(axis=(1, 2, 3)) for array in self._arrays]
        self.hidden = 1 - np.concatenate(shown) if shown else np.zeros(0)

    def __len__(self) -> int:
        """Number of keyframes."""
        return len(self._arrays) * PER_CLIP

    def sample(self, index: int) -> dict[str, Tensor]:
        """Keyframe `index`: 'mean' and 'truth' (C, h, w) float32, 'visible' and 'still' (1, h, w) bool."""
        clip, place = divmod(index, PER_CLIP)
        arrays = {name: self._arrays[clip][name][place] for name in ("mean", "truth", "visible", "still")}
        return {name: _tensor(array) for name, array in arrays.items()}

    def still(self, index: int) -> float:
        """Share of keyframe `index` that stands still."""
        clip, place = divmod(index, PER_CLIP)
        return float(self._arrays[clip]["still"][place].mean())

    def frame(self, index: int) -> tuple[int, int]:
        """Clip and frame that keyframe `index` is of."""
        clip, place = divmod(index, PER_CLIP)
        return clip, int(self._arrays[clip]["frames"][place])

    def _computed(self, index: int) -> dict[str, Tensor]:
        # The same samples whichever process draws them.
        rng = np.random.default_rng(crc32(self.data.clips.name(index).encode()))
        groups = [self._group(index, sources, rng) for sources in SOURCES]
        return {name: torch.cat([group[name] for group in groups]) for name in groups[0]}

    @torch.no_grad()
    def _group(self, index: int, sources: int, rng: np.random.Generator) -> dict[str, Tensor]:
        chunks, data = self.chunks, self.data
        samples, shown = zip(*(draw_keyframe(data, index, sources, chunks, rng) for _ in range(EACH)), strict=True)
        batch = default_collate(list(samples))
        with torch.autocast("cpu", torch.bfloat16):
            reading = chunks.read(batch)
            mean = chunks.imagine(batch, 1, int(rng.integers(2**31)), reading=reading)
        known, fixed = chunks.known(reading, 2)
        return {
            "mean": torch.where(fixed, known, mean.float())[:, :, 1].half(),
            "truth": chunks.clean(batch)[0][:, :, 1].half(),
            "visible": reading.visible[:, 1] > 0,
            "still": ~moving_cells(batch)[:, :, 1],
            "frames": torch.tensor(shown),
        }


def draw_keyframe(
    data: ClipLatents, index: int, sources: int, chunks: ChunkModel, rng: np.random.Generator
) -> tuple[dict[str, Tensor], int]:
    """A known frame, a keyframe after it and a memory of the known frame and of frames before it.

    Returns:
        tensors by name, see `chunk_samples.conditioned`, and the number of the keyframe.
    """
    count, stride = data.frames(index), chunks.preset.keyframe_stride
    order = np.arange(count)[:: 1 if rng.random() < 0.5 else -1]
    # Far enough that large parts are hidden: longer than a stride as well.
    distance = int(rng.integers(max(1, stride // 2), min(count - 1, 2 * stride + stride // 2) + 1))
    start = int(rng.integers(0, count - distance))
    targets = order[[start, start + distance]]
    before = order[:start] if start else order[:1]
    seen = np.concatenate([targets[:1], rng.choice(before, sources - 1)]).astype(np.int64)
    depth = data.depth(index, seen, keep=True, factor=chunks.preset.depth_samples)
    none = targets[:0]
    latents = data.latents(index, seen)
    sample = conditioned(data, index, chunks.preset, targets, none, none, seen, latents, depth)
    return sample, int(targets[1])


def _tensor(array: NDArray[Any]) -> Tensor:
    value = torch.from_numpy(np.array(array))
    return value.float() if value.is_floating_point() else value
