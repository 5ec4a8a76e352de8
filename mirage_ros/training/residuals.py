"""What the transformer's mean leaves open of keyframes: computed once for each clip and memory-mapped.

A sample is a keyframe some frames after a known one, as in a rollout, with what the memory shows of it, the mean that
the trained transformer estimates, and the truth.
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

# Numbers of source frames of a memory in the groups of samples of a clip, and samples of each group.
SOURCES, EACH = (1, 1, 2), 4
# A sample in which nothing is hidden is drawn as often as one of which this share is.
LEAST_ODDS = 0.02


class ResidualCache:
    """Keyframes of a set of clips with their means.

    Args:
        data: clips; two frames at least each.
        chunks: the trained transformer, which imagines with one step.
        folder: where the arrays go, named after clip and networks.
    """

    def __init__(self, data: ClipLatents, chunks: ChunkModel, folder: str | Path) -> None:
        self.data, self.chunks, self._folder = data, chunks, Path(folder)
        networks = [part for part in (chunks.model, chunks.reader, chunks.autoencoder) if part is not None]
        self._fingerprint = "-".join(fingerprint(part, leave_out="decoder.")[:8] for part in networks)
        self._arrays: list[dict[str, NDArray[Any]]] = []
        # Of all samples, the share of their cells that the memory does not show.
        self.hidden = np.zeros(0)
        self.refresh()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._arrays) * len(SOURCES) * EACH

    def refresh(self) -> None:
        """Take in clips that were rendered since."""
        self.data.refresh()
        missing = range(len(self._arrays), len(self.data))
        for index in tqdm(missing, desc="means", unit="clip", disable=len(missing) < 8, mininterval=5):
            path = self._folder / f"{self.data.clips.name(index)}-{self._fingerprint}.pt"
            if not path.is_file():
                save_mapped(self._computed(index), path)
            self._arrays.append(load_mapped(path))
            hidden = 1 - self._arrays[-1]["visible"].mean(axis=(1, 2, 3))
            self.hidden = np.append(self.hidden, hidden)
        self._odds = np.cumsum(LEAST_ODDS + self.hidden)

    def draw(self, rng: np.random.Generator) -> int:
        """A sample's place, the likelier the more of it is hidden."""
        return int(np.searchsorted(self._odds, rng.random() * self._odds[-1]))

    def sample(self, index: int) -> dict[str, Tensor]:
        """Sample `index`: 'mean' and 'truth' (C, h, w), 'memory' (K, h, w), all float32, 'sharp' and 'visible'
        (1, h, w), 'measured' (D, h, w) and 'still' (1, h, w) bool; D depth channels.
        """
        clip, place = divmod(index, len(SOURCES) * EACH)
        return {name: _tensor(array[place]) for name, array in self._arrays[clip].items() if name != "frames"}

    def frame(self, index: int) -> tuple[int, int]:
        """Clip and frame that sample `index` is of."""
        clip, place = divmod(index, len(SOURCES) * EACH)
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
        channels = batch["targets"].shape[2]
        return {
            "mean": torch.where(fixed, known, mean.float())[:, :, 1].half(),
            "truth": chunks.clean(batch)[0][:, :, 1].half(),
            "memory": chunks.memory(reading)[:, :, 1].half(),
            "sharp": fixed[:, :1, 1],
            "measured": fixed[:, channels:, 1],
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
