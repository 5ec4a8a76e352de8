"""What a world model is trained on: a stretch of a clip as latents, with the depth and cameras of its latent frames."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.log_depth import FINE
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import cell_depth, depth_of
from mirage_ros.training.pictures import as_images

Frames = NDArray[np.int64]


class Windows(Protocol):
    """Clips as latents, such as `LatentCache` and `LiveLatents`."""

    clips: ClipCache
    time_stride: int

    def __len__(self) -> int: ...

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        ...

    def window(self, index: int, frames: Frames) -> Tensor:
        """(F, C, h, w) latents of consecutive frames, time stride x N + 1 of them."""
        ...

    def latents(self, index: int, frames: Frames) -> Tensor:
        """(T, C, h, w) latents of single frames, each by itself."""
        ...

    def depth(self, index: int, frames: Frames, *, keep: bool, factor: int = FINE) -> Tensor:
        """(T, h f, w f) metres; see `LatentCache.depth`."""
        ...

    def camera(self, index: int, frames: Frames) -> Camera:
        """(T,) cameras at latent resolution."""
        ...

    def refresh(self) -> None:
        """Take in clips that have come since."""
        ...


class LiveLatents:
    """Latents encoded when they are asked for: for autoencoders whose latents depend on where a window begins.

    Args:
        clips: the pictures.
        autoencoder: in evaluation mode.
    """

    def __init__(self, clips: ClipCache, autoencoder: Autoencoder) -> None:
        self.clips, self._autoencoder = clips, autoencoder
        self.time_stride, *self._strides = autoencoder.strides

    def __len__(self) -> int:
        return len(self.clips)

    def refresh(self) -> None:
        """Take in clips that have come since."""
        self.clips.refresh()

    def frames(self, index: int) -> int:
        """Number of frames of a clip."""
        return self.clips.frames(index)

    @torch.no_grad()
    def window(self, index: int, frames: Frames) -> Tensor:
        """(F, C, h, w) latents of consecutive frames."""
        images = as_images(self.clips.clip(index, frames).rgb)
        return self._encode(images.unsqueeze(0))[0].transpose(0, 1)

    @torch.no_grad()
    def latents(self, index: int, frames: Frames) -> Tensor:
        """(T, C, h, w) latents of single frames."""
        images = as_images(self.clips.clip(index, frames).rgb)
        return self._encode(images.unsqueeze(1))[:, :, 0]

    def depth(self, index: int, frames: Frames, *, keep: bool, factor: int = FINE) -> Tensor:
        """(T, h f, w f) metres; see `LatentCache.depth`."""
        clip = self.clips.clip(index, frames)
        rows, columns = self._cells(clip.rgb.shape[1], clip.rgb.shape[2])
        return depth_of(*cell_depth(clip, rows * factor, columns * factor), keep=keep)

    def camera(self, index: int, frames: Frames) -> Camera:
        """(T,) cameras at latent resolution."""
        camera = self.clips.clip(index, frames).camera
        return camera.resized(*self._cells(camera.height, camera.width))

    def _encode(self, frames: Tensor) -> Tensor:
        device = next(self._autoencoder.parameters()).device
        return self._autoencoder.encode(frames.to(device)).cpu()

    def _cells(self, height: int, width: int) -> tuple[int, int]:
        return height // self._strides[0], width // self._strides[1]
