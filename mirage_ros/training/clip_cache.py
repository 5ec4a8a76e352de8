"""Shards unpacked to memory-mapped arrays, so that a training step reads any frames of any clip at once."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.recordings.clips import Clip
from mirage_ros.training.shards import read_shard, shard_paths


class ClipCache:
    """Random access to the clips of a folder of shards.

    Args:
        folder: of the shards.
        cache: where the arrays go; `folder`/.cache by default. About 6 bytes a pixel.

    Raises:
        FileNotFoundError: there is no finished shard.
        ValueError: the clips of a shard differ in length or size.
    """

    def __init__(self, folder: str | Path, cache: str | Path | None = None) -> None:
        self._folder = Path(folder)
        self._cache = self._folder / ".cache" if cache is None else Path(cache)
        self._shards: dict[str, _Shard] = {}
        self._places: list[tuple[_Shard, int]] = []
        self.refresh()

    def refresh(self) -> int:
        """Take in shards that were finished since; returns the number of clips."""
        for path in shard_paths(self._folder):
            if path.name not in self._shards:
                self._shards[path.name] = shard = _Shard.open(path, self._cache / path.stem)
                self._places += [(shard, row) for row in range(len(shard.names))]
        return len(self)

    def __len__(self) -> int:
        return len(self._places)

    def name(self, index: int) -> str:
        """Name of a clip."""
        shard, row = self._places[index]
        return shard.names[row]

    def prompt(self, index: int) -> str:
        """What is to be seen in a clip, in words; empty where nobody said."""
        shard, row = self._places[index]
        return shard.prompts[row]

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        return int(self._places[index][0].arrays["rgb"].shape[1])

    def clip(self, index: int, frames: NDArray[np.int64] | slice = slice(None)) -> Clip:
        """Some frames of a clip."""
        shard, row = self._places[index]
        part = {name: np.array(array[row][frames]) for name, array in shard.arrays.items()}
        height, width = part["rgb"].shape[1:3]
        camera = Camera(torch.from_numpy(part["intrinsics"]), torch.from_numpy(part["cam2world"]), height, width)
        return Clip(
            rgb=part["rgb"],
            depth=part["depth"].astype(np.float32) / np.float32(1000),
            camera=camera,
            name=shard.names[row],
            labels=part["labels"],
            fps=shard.fps[row],
            prompt=shard.prompts[row],
        )


class _Shard:
    def __init__(self, names: list[str], fps: list[float], prompts: list[str], arrays: dict[str, NDArray[Any]]) -> None:
        self.names, self.fps, self.prompts, self.arrays = names, fps, prompts, arrays

    @classmethod
    def open(cls, path: Path, folder: Path) -> _Shard:
        facts = folder / "clips.json"
        if not facts.is_file():
            _unpack(path, folder)
        read = json.loads(facts.read_text())
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in read["arrays"]}
        # Caches of earlier versions have none.
        return cls(read["names"], read["fps"], read.get("prompts", [""] * len(read["names"])), arrays)


def _unpack(path: Path, folder: Path) -> None:
    clips = list(read_shard(path))
    if not clips:
        arrays = {"rgb": np.zeros((0, 1, 1, 1, 3), np.uint8)}
    else:
        shapes = {clip.rgb.shape for clip in clips}
        if len(shapes) != 1:
            raise ValueError(f"{path}: expected clips of one length and size, got {sorted(shapes)}")
        arrays = {
            "rgb": np.stack([clip.rgb for clip in clips]),
            "depth": np.stack([np.round(clip.depth * 1000).astype(np.uint16) for clip in clips]),
            "labels": np.stack([clip.labels for clip in clips]),
            "intrinsics": np.stack([clip.camera.intrinsics.expand(len(clip), 3, 3).numpy() for clip in clips]),
            "cam2world": np.stack([clip.camera.cam2world.expand(len(clip), 4, 4).numpy() for clip in clips]),
        }
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        # Several processes may unpack at once: each writes its own file, and the last rename wins.
        part = folder / f".{name}.{os.getpid()}.part.npy"
        np.save(part, array)
        os.replace(part, folder / f"{name}.npy")
    # Last, so that its presence says that the arrays are whole.
    part = folder / f".clips.{os.getpid()}.part"
    facts = {
        "names": [clip.name for clip in clips],
        "fps": [clip.fps for clip in clips],
        "prompts": [clip.prompt for clip in clips],
        "arrays": sorted(arrays),
    }
    part.write_text(json.dumps(facts))
    os.replace(part, folder / "clips.json")
