"""What the world model asks of an autoencoder, whichever it is.

Frames are (B, T, 3, H, W), uint8 0..255 or floating point 0..1. Latents are (B, C, F, h, w), normalised to about zero
mean and unit deviation. F latent frames stand for T = 1 + (F - 1) x time stride frames: latent frame 0 is frame 0,
latent frame k covers the `time stride` frames up to and including frame k x time stride.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Autoencoder(nn.Module, ABC):
    """Between frames and latents.

    Attributes:
        channels: latent channels C.
        strides: frames, rows and columns of pixels for one latent cell.
    """

    channels: int
    strides: tuple[int, int, int]

    @abstractmethod
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W) to normalised latents (B, C, F, h, w), float32.

        Raises:
            ValueError: the frames' shape or type is not usable; the message names the field.
        """

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents (B, C, F, h, w) to frames (B, T, 3, H, W), float32 0..1.

        Raises:
            ValueError: the latents' shape is not usable.
        """

    def latent_frames(self, frames: int) -> int:
        """Number of latent frames of a clip.

        Raises:
            ValueError: no clip has this length; with time stride s lengths are s N + 1.
        """
        stride = self.strides[0]
        if frames < 1 or (frames - 1) % stride:
            raise ValueError(f"frames: expected {stride}N+1, got {frames}")
        return 1 + (frames - 1) // stride

    def video_frames(self, latent_frames: int) -> int:
        """Number of frames that this many latent frames stand for."""
        return 1 + (latent_frames - 1) * self.strides[0]

    def latent_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the latent grid.

        Raises:
            ValueError: the image does not divide into cells.
        """
        _, rows, columns = self.strides
        if height < rows or width < columns or height % rows or width % columns:
            raise ValueError(
                f"frames: expected a height and width in multiples of {rows} and {columns} pixels, got {height}x{width}"
            )
        return height // rows, width // columns

    def check_frames(self, frames: Tensor) -> Tensor:
        """Frames as floating point 0..1.

        Raises:
            ValueError: a wrong shape, type, length or size.
        """
        if frames.ndim != 5 or frames.shape[2] != 3:
            raise ValueError(f"frames: expected (B, T, 3, H, W), got {tuple(frames.shape)}")
        self.latent_frames(frames.shape[1])
        self.latent_size(frames.shape[3], frames.shape[4])
        if frames.dtype == torch.uint8:
            return frames.float() / 255
        if not frames.is_floating_point():
            raise ValueError(f"frames: expected uint8 or floating point, got {frames.dtype}")
        return frames

    def check_latents(self, latents: Tensor) -> None:
        """Refuse anything but (B, C, F, h, w) with this autoencoder's channels."""
        if latents.ndim != 5 or latents.shape[1] != self.channels or not latents.shape[2]:
            raise ValueError(f"latents: expected (B, {self.channels}, F, h, w), got {tuple(latents.shape)}")


def channel_buffers(mean: Sequence[float], deviation: Sequence[float], channels: int) -> tuple[Tensor, Tensor]:
    """Latent mean and deviation as (C, 1, 1, 1) float32.

    Raises:
        ValueError: their number is not that of the channels, or a deviation is not positive.
    """
    for name, values in (("latents_mean", mean), ("latents_std", deviation)):
        if len(values) != channels:
            raise ValueError(f"{name}: expected {channels} numbers, one for each latent channel, got {len(values)}")
    if min(deviation) <= 0:
        raise ValueError(f"latents_std: expected positive numbers, got {min(deviation)}")
    return (
        torch.tensor(mean, dtype=torch.float32).view(-1, 1, 1, 1),
        torch.tensor(deviation, dtype=torch.float32).view(-1, 1, 1, 1),
    )
