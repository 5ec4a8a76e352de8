"""Clips as latents, with the depth and cameras of latent frames: encoded when asked for, or once and memory-mapped."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from mirage_ros.geometry import Camera
from mirage_ros.images import as_images
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.log_depth import FINE, SKY_DEPTH, reduce
from mirage_ros.processes import mine_first
from mirage_ros.recordings.clips import MOVING, SKY, Clip
from mirage_ros.training.clip_cache import ClipCache, load_mapped, save_mapped

FrameNumbers = NDArray[np.int64]


class ClipLatents:
    """Latents of a set of clips, encoded when they are asked for: they may depend on where a window begins.

    Attributes:
        time_stride: frames from one latent frame to the next.
    """

    def __init__(self, clips: ClipCache, autoencoder: Autoencoder) -> None:
        self.clips, self._autoencoder = clips, autoencoder
        self.time_stride, *self._strides = autoencoder.strides

    def __len__(self) -> int:
        return len(self.clips)

    def refresh(self, takes: Callable[[str], bool] | None = None) -> None:
        """Take in clips that have come since; see `ClipCache.refresh`."""
        self.clips.refresh(takes)

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        return self.clips.frames(index)

    def window(self, index: int, frames: FrameNumbers) -> Tensor:
        """(F, C, h, w) latents of consecutive frames, time stride x N + 1 of them."""
        images = as_images(self.clips.clip(index, frames).rgb)
        return self._encode(images.unsqueeze(0))[0].transpose(0, 1)

    def latents(self, index: int, frames: FrameNumbers) -> Tensor:
        """(T, C, h, w) latents of single frames, each by itself."""
        images = as_images(self.clips.clip(index, frames).rgb)
        return self._encode(images.unsqueeze(1))[:, :, 0]

    def depth(self, index: int, frames: FrameNumbers, *, keep: bool, factor: int = FINE) -> Tensor:
        """(T, h f, w f) float32 metres, with f = `factor` samples along each side of a cell.

        With `keep`, NaN where something moves, where there is sky, and where nothing is known: what may be written into
        a memory. Without, everything that has a depth, and SKY_DEPTH for the sky; 0 where nothing is known.
        """
        clip = self.clips.clip(index, frames)
        rows, columns = (side // stride for side, stride in zip(clip.rgb.shape[1:3], self._strides, strict=True))
        return depth_of(*cell_depth(clip, rows * factor, columns * factor), keep=keep)

    def camera(self, index: int, frames: FrameNumbers) -> Camera:
        """(T,) cameras at latent resolution."""
        camera = self.clips.clip(index, frames).camera
        return camera.resized(camera.height // self._strides[0], camera.width // self._strides[1])

    @torch.no_grad()
    def _encode(self, frames: Tensor) -> Tensor:
        # It may have been moved since.
        return self._autoencoder.encode(frames.to(next(self._autoencoder.parameters()).device)).cpu()


class LatentCache(ClipLatents):
    """The same for autoencoders of single frames: computed once and read from disk.

    Args:
        autoencoder: in evaluation mode, normalised.
        folder: where the arrays go, named after clip and encoder.
    """

    _autoencoder: FrameAutoencoder

    def __init__(self, clips: ClipCache, autoencoder: FrameAutoencoder, folder: str | Path) -> None:
        super().__init__(clips, autoencoder)
        self._folder = Path(folder)
        # The decoder may go on learning.
        self._fingerprint = fingerprint(autoencoder, leave_out="decoder.")
        self._arrays: list[dict[str, NDArray[Any]]] = []
        self.refresh()

    def refresh(self, takes: Callable[[str], bool] | None = None) -> None:
        """Encode clips that were rendered since; of several processes each begins with its share."""
        super().refresh(takes)
        fresh = range(len(self._arrays), len(self.clips))
        for index in tqdm(mine_first(fresh), desc="latents", unit="clip", disable=len(fresh) < 8, mininterval=5):
            if not self._file(index).is_file():
                save_mapped(self._encoded(self.clips.clip(index)), self._file(index))
        self._arrays += [load_mapped(self._file(index)) for index in fresh]

    def __len__(self) -> int:
        return len(self._arrays)

    def latents(self, index: int, frames: FrameNumbers) -> Tensor:
        """(T, C, h, w) float32 normalised latents."""
        return torch.from_numpy(self._arrays[index]["latents"][frames].astype(np.float32))

    def window(self, index: int, frames: FrameNumbers) -> Tensor:
        """The same, since frames do not depend on each other."""
        return self.latents(index, frames)

    def depth(self, index: int, frames: FrameNumbers, *, keep: bool, factor: int = FINE) -> Tensor:
        """See `ClipLatents.depth`."""
        if factor != FINE:
            return super().depth(index, frames, keep=keep, factor=factor)
        arrays = self._arrays[index]
        return depth_of(arrays["depth"][frames], arrays["kept"][frames], keep=keep)

    def camera(self, index: int, frames: FrameNumbers) -> Camera:
        """(T,) cameras at latent resolution."""
        arrays = self._arrays[index]
        intrinsics, cam2world = (torch.from_numpy(arrays[name][frames]) for name in ("intrinsics", "cam2world"))
        return Camera(intrinsics, cam2world, *arrays["latents"].shape[-2:])

    def _file(self, index: int) -> Path:
        return self._folder / f"{self.clips.name(index)}-{self._fingerprint[:12]}.pt"

    def _encoded(self, clip: Clip) -> dict[str, Tensor]:
        latents = encoded_frames(clip, self._autoencoder)
        depth, kept = cell_depth(clip, latents.shape[-2] * FINE, latents.shape[-1] * FINE)
        cells = clip.camera.resized(*latents.shape[-2:])
        return {
            "latents": latents.half(),
            "depth": torch.from_numpy(depth),
            "kept": torch.from_numpy(kept),
            "intrinsics": cells.intrinsics.expand(len(clip), 3, 3).clone(),
            "cam2world": cells.cam2world.expand(len(clip), 4, 4).clone(),
        }


@torch.no_grad()
def encoded_frames(clip: Clip, autoencoder: FrameAutoencoder) -> Tensor:
    """(T, C, h, w) float32 latents on the CPU, wherever the autoencoder is."""
    encoded, device = [], next(autoencoder.parameters()).device
    for images in as_images(clip.rgb).split(8):
        with torch.autocast(device.type, torch.bfloat16):
            encoded.append(autoencoder.encode_images(images.to(device)).float().cpu())
    return torch.cat(encoded)


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
    """What `cell_depth` gives as metres, see `ClipLatents.depth`."""
    metres = (kept if keep else everything).astype(np.float32) / 1000
    return torch.from_numpy(np.where(metres > 0, metres, np.nan) if keep else metres)


def fingerprint(module: torch.nn.Module, leave_out: str) -> str:
    """SHA-256 of a module's weights and buffers, also those that are not saved, such as normalisation.

    Args:
        leave_out: beginning of the names of those that do not count.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted({**dict(module.named_parameters()), **dict(module.named_buffers())}.items()):
        if not name.startswith(leave_out):
            digest.update(name.encode())
            digest.update(tensor.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
