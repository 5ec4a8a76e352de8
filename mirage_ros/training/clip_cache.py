"""Shards unpacked to memory-mapped arrays, so that a training step reads any frames of any clip at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.processes import mine_first
from mirage_ros.recordings.clips import Clip
from mirage_ros.training.shards import read_shard, shard_paths


class ClipCache:
    """Random access to the clips of a folder of shards.

    The arrays go to .cache in the folder, about 6 bytes a pixel.

    Raises:
        FileNotFoundError: there is no finished shard.
        ValueError: the clips of a shard differ in length or size.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._cache = Path(folder), Path(folder) / ".cache"
        self._shards: set[str] = set()
        # The arrays of a clip's shard, and its row in them.
        self._places: list[tuple[dict[str, Any], int]] = []
        self.refresh()

    def refresh(self, takes: Callable[[str], bool] | None = None) -> int:
        """Take in shards that were finished since; returns the number of clips.

        Args:
            takes: by their prompt, which of these clips; all without. The others are not asked about again.
        """
        fresh = [path for path in shard_paths(self._folder) if path.name not in self._shards]
        for path in mine_first(fresh):
            _unpack(path, self._cache / f"{path.stem}.pt")
        for path in fresh:
            self._shards.add(path.name)
            shard = load_mapped(self._cache / f"{path.stem}.pt")
            prompts = enumerate(shard["prompts"])
            self._places += [(shard, row) for row, prompt in prompts if takes is None or takes(prompt)]
        return len(self)

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        """Name of a clip."""
        shard, row = self._places[index]
        return str(shard["names"][row])

    def prompt(self, index: int) -> str:
        """What is to be seen in a clip, in words; empty where nobody said."""
        shard, row = self._places[index]
        return str(shard["prompts"][row])

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        return int(self._places[index][0]["rgb"].shape[1])

    def evenly(self, count: int) -> list[int]:
        """Places of at most so many clips, evenly spread."""
        places: list[int] = np.linspace(0, len(self) - 1, min(count, len(self))).round().astype(int).tolist()
        return places

    def clip(self, index: int, frames: NDArray[np.int64] | slice = slice(None)) -> Clip:
        """Some frames of a clip."""
        shard, row = self._places[index]
        part = {name: np.array(array[row][frames]) for name, array in shard.items() if isinstance(array, np.ndarray)}
        intrinsics, cam2world = (torch.from_numpy(part[name]) for name in ("intrinsics", "cam2world"))
        return Clip(
            rgb=part["rgb"],
            depth=part["depth"].astype(np.float32) / np.float32(1000),
            camera=Camera(intrinsics, cam2world, *part["rgb"].shape[1:3]),
            name=shard["names"][row],
            labels=part["labels"],
            fps=shard["fps"][row],
            prompt=shard["prompts"][row],
        )


def _unpack(shard: Path, file: Path) -> None:
    """Unpack arrays (clips, frames, ...) and facts of a shard to a file, unless they are there already."""
    if not file.is_file():
        clips = list(read_shard(shard))
        shapes = {clip.rgb.shape for clip in clips}
        if len(shapes) > 1:
            raise ValueError(f"{shard}: expected clips of one length and size, got {sorted(shapes)}")
        content: dict[str, Any] = {
            "names": [clip.name for clip in clips],
            "fps": [clip.fps for clip in clips],
            "prompts": [clip.prompt for clip in clips],
        }
        if clips:
            arrays: dict[str, list[NDArray[Any]]] = {
                "rgb": [clip.rgb for clip in clips],
                "depth": [np.round(clip.depth * 1000).astype(np.uint16) for clip in clips],
                "labels": [clip.labels for clip in clips],
                "intrinsics": [clip.camera.intrinsics.expand(len(clip), 3, 3).numpy() for clip in clips],
                "cam2world": [clip.camera.cam2world.expand(len(clip), 4, 4).numpy() for clip in clips],
            }
            content |= {name: torch.from_numpy(np.stack(values)) for name, values in arrays.items()}
        save_mapped(content, file)


def save_mapped(content: dict[str, Any], file: Path) -> None:
    """Write tensors and plain values for `load_mapped`, whole or not at all.

    Several processes may write the same at once: each has a file of its own until the last rename wins.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{uuid4().hex}.part")
    torch.save(content, part)
    os.replace(part, file)


def load_mapped(file: Path) -> dict[str, Any]:
    """What `save_mapped` wrote, its tensors as memory-mapped arrays."""
    content = torch.load(file, mmap=True, weights_only=True)
    return {name: value.numpy() if isinstance(value, torch.Tensor) else value for name, value in content.items()}
