"""Latents and cell depth of all clips, computed once by a finished autoencoder and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mirage_ros.geometry import Camera
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.log_depth import FINE, SKY_DEPTH, reduce
from mirage_ros.recordings.clips import MOVING, SKY, Clip
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.pictures import as_images


class LatentCache:
    """Random access to the latents of a set of clips, frame by frame.

    Args:
        clips: the pictures.
        autoencoder: in evaluation mode, normalised.
        folder: where the arrays go, named after clip and encoder.
    """

    time_stride = 1

    def __init__(self, clips: ClipCache, autoencoder: FrameAutoencoder, folder: str | Path) -> None:
        self.clips, self._autoencoder, self._folder = clips, autoencoder, Path(folder)
        # The decoder may go on learning.
        self._fingerprint = fingerprint(autoencoder, leave_out="decoder.")
        self._arrays: list[dict[str, NDArray[Any]]] = []
        self.refresh()

    def refresh(self) -> None:
        """Encode clips that were rendered since."""
        self.clips.refresh()
        self._folder.mkdir(parents=True, exist_ok=True)
        missing = range(len(self._arrays), len(self.clips))
        for index in tqdm(missing, desc="latents", unit="clip", disable=len(missing) < 8, mininterval=5):
            path = self._folder / f"{self.clips.name(index)}-{self._fingerprint[:12]}"
            if not path.with_suffix(".json").is_file():
                self._encode(index, path)
            shapes = json.loads(path.with_suffix(".json").read_text())
            arrays: dict[str, NDArray[Any]] = {}
            for name, (dtype, shape, offset) in shapes.items():
                arrays[name] = np.memmap(path.with_suffix(".bin"), dtype, "r", offset, tuple(shape))
            self._arrays.append(arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        return int(self._arrays[index]["latents"].shape[0])

    def latents(self, index: int, frames: NDArray[np.int64]) -> Tensor:
        """(T, C, h, w) float32 normalised latents."""
        return torch.from_numpy(self._arrays[index]["latents"][frames].astype(np.float32))

    def window(self, index: int, frames: NDArray[np.int64]) -> Tensor:
        """The same, since frames do not depend on each other."""
        return self.latents(index, frames)

    def depth(self, index: int, frames: NDArray[np.int64], *, keep: bool, factor: int = FINE) -> Tensor:
        """(T, h f, w f) float32 metres, with f = `factor` samples along each side of a cell.

        With `keep`, NaN where something moves, where there is sky, and where nothing is known: what may be written into
        a memory. Without, everything that has a depth, and SKY_DEPTH for the sky; 0 where nothing is known.
        """
        arrays = self._arrays[index]
        if factor == FINE:
            return depth_of(arrays["depth"][frames], arrays["kept"][frames], keep=keep)
        rows, columns = arrays["latents"].shape[-2:]
        return depth_of(*cell_depth(self.clips.clip(index, frames), rows * factor, columns * factor), keep=keep)

    def camera(self, index: int, frames: NDArray[np.int64]) -> Camera:
        """(T,) cameras at latent resolution."""
        arrays = self._arrays[index]
        return Camera(
            torch.from_numpy(arrays["intrinsics"][frames]),
            torch.from_numpy(arrays["cam2world"][frames]),
            *arrays["latents"].shape[-2:],
        )

    @torch.no_grad()
    def _encode(self, index: int, path: Path) -> None:
        clip = self.clips.clip(index)
        # It may have been moved since the cache was made.
        encoded, device = [], next(self._autoencoder.parameters()).device
        for images in as_images(clip.rgb).split(8):
            with torch.autocast(device.type, torch.bfloat16):
                encoded.append(self._autoencoder.encode_images(images.to(device)).float().cpu())
        latents = torch.cat(encoded)
        depth, kept = cell_depth(clip, latents.shape[-2] * FINE, latents.shape[-1] * FINE)
        cells = clip.camera.resized(*latents.shape[-2:])
        arrays = {
            "latents": latents.half().numpy(),
            "depth": depth,
            "kept": kept,
            "intrinsics": cells.intrinsics.expand(len(clip), 3, 3).numpy(),
            "cam2world": cells.cam2world.expand(len(clip), 4, 4).numpy(),
        }
        shapes, offset = {}, 0
        part = path.with_name(f".{path.name}.{os.getpid()}.part")
        with open(part, "wb") as file:
            for name, array in arrays.items():
                data = np.ascontiguousarray(array)
                shapes[name] = (data.dtype.str, data.shape, offset)
                offset += file.write(data.tobytes())
        os.replace(part, path.with_suffix(".bin"))
        part.write_text(json.dumps(shapes))
        os.replace(part, path.with_suffix(".json"))


def cell_depth(clip: Clip, height: int, width: int) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Depth on a grid of cells, millimetres, 0 where unknown: of everything, and of what may be written into a memory.

    A cell may be written if none of its pixels moves or is sky.
    """
    truth = torch.from_numpy(np.where(clip.labels == SKY, np.float32(SKY_DEPTH), clip.depth))
    everything = torch.nan_to_num(reduce(truth, height, width), nan=0.0).numpy()
    moves = torch.from_numpy((clip.labels == MOVING) | (clip.labels == SKY)).float()
    rows, columns = clip.labels.shape[1] // height, clip.labels.shape[2] // width
    touched = torch.nn.functional.max_pool2d(moves.unsqueeze(1), (rows, columns)).squeeze(1).numpy() > 0
    millimetres = np.round(np.minimum(everything, 65.0) * 1000).astype(np.uint16)
    return millimetres, np.where(touched, np.uint16(0), millimetres)


def depth_of(everything: NDArray[np.uint16], kept: NDArray[np.uint16], *, keep: bool) -> Tensor:
    """What `cell_depth` gives as metres, see `LatentCache.depth`."""
    metres = (kept if keep else everything).astype(np.float32) / 1000
    return torch.from_numpy(np.where(metres > 0, metres, np.nan) if keep else metres)


def fingerprint(module: torch.nn.Module, leave_out: str | None = None) -> str:
    """SHA-256 of a module's weights and buffers; also those that are not saved, such as normalisation.

    Args:
        module: whose.
        leave_out: beginning of the names of those that do not count.
    """
    digest = hashlib.sha256()
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    for name in sorted(tensors):
        if leave_out is not None and name.startswith(leave_out):
            continue
        digest.update(name.encode())
        digest.update(tensors[name].detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
