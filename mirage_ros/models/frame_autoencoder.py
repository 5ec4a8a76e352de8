"""The default preset's autoencoder: small, per frame, stride 4, fast on a CPU.

No normalisation layer anywhere: group or layer statistics would carry a hole's content into the whole frame. The
decoder has a fourth channel, log depth.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from mirage_ros.models.autoencoder import Autoencoder, channel_buffers
from mirage_ros.models.log_depth import FURTHEST, NEAREST

# Latents are bounded by 3 tanh(x / 3): nearly the identity within a deviation or two, and never an outlier.
BOUND = 3.0
STRIDE = 4


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with SiLU, the second zero at the start; no normalisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.activation = nn.SiLU()
        nn.init.zeros_(self.second.weight)
        if self.second.bias is not None:
            nn.init.zeros_(self.second.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N, C, H, W) to the same."""
        return hidden + self.second(self.activation(self.first(self.activation(hidden))))


class FrameAutoencoder(Autoencoder, ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Convolutional autoencoder of single frames with joint log depth.

    Args:
        channels: latent channels.
        width: channels at the latent grid.
        stem_width: channels at half the image's resolution.
        encoder_blocks, decoder_blocks: residual blocks at the latent grid.
        refine_blocks: residual blocks of the decoder at half the image's resolution, which sharpen edges.
        latents_mean, latents_std: one number for each channel, measured after training; zero and one by default.
    """

    _mean: Tensor
    _std: Tensor

    @register_to_config
    def __init__(
        self,
        channels: int = 8,
        width: int = 96,
        stem_width: int = 32,
        encoder_blocks: int = 2,
        decoder_blocks: int = 3,
        refine_blocks: int = 0,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.strides = (1, STRIDE, STRIDE)
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(3 * 4, stem_width, 3, padding=1),
            nn.SiLU(),
            nn.PixelUnshuffle(2),
            nn.Conv2d(stem_width * 4, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(encoder_blocks)),
            nn.SiLU(),
            nn.Conv2d(width, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            *(ResidualBlock(width) for _ in range(decoder_blocks)),
            nn.SiLU(),
            nn.Conv2d(width, stem_width * 4, 3, padding=1),
            nn.PixelShuffle(2),
            *(ResidualBlock(stem_width) for _ in range(refine_blocks)),
            nn.SiLU(),
            nn.Conv2d(stem_width, 4 * 4, 3, padding=1),
            nn.PixelShuffle(2),
        )
        mean, deviation = channel_buffers(latents_mean or [0.0] * channels, latents_std or [1.0] * channels, channels)
        self.register_buffer("_mean", mean[:, :, 0], persistent=False)
        self.register_buffer("_std", deviation[:, :, 0], persistent=False)
        channels_last(self)

    def normalise_by(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        """Set the latents' mean and deviation, saved with the configuration; do it once, after training."""
        centre, scale = channel_buffers(mean, deviation, self.channels)
        self.register_to_config(latents_mean=list(mean), latents_std=list(deviation))
        self._mean, self._std = centre[:, :, 0].to(self._mean), scale[:, :, 0].to(self._std)

    def encode_images(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) in 0..1 to normalised latents (N, C, H/4, W/4); for training as for use."""
        weight_type = next(self.encoder.parameters()).dtype
        bounded = BOUND * torch.tanh(self.encoder(self._layout(images.to(weight_type) - 0.5)) / BOUND)
        return (bounded - self._mean) / self._std

    def decode_images(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised latents (N, C, h, w) to images (N, 3, 4h, 4w), not clamped, and log depth (N, 1, 4h, 4w)."""
        weight_type = next(self.decoder.parameters()).dtype
        output = self.decoder(self._layout((latents * self._std + self._mean).to(weight_type)))
        return output[:, :3] + 0.5, output[:, 3:]

    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, T, 3, H, W) to latents (B, C, T, H/4, W/4), float32."""
        frames = self.check_frames(frames)
        latents = self.encode_images(frames.flatten(0, 1)).float()
        return latents.unflatten(0, frames.shape[:2]).transpose(1, 2).contiguous()

    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, T, h, w) to frames (B, T, 3, 4h, 4w), float32 0..1."""
        return self.decode_with_depth(latents)[0]

    def decode_with_depth(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Latents (B, C, T, h, w) to frames (B, T, 3, 4h, 4w) and depth (B, T, 4h, 4w) in metres, float32."""
        self.check_latents(latents)
        images, log_depth = self.decode_images(latents.transpose(1, 2).flatten(0, 1))
        shape = (latents.shape[0], latents.shape[2])
        depth = torch.exp(log_depth.float()).clamp(NEAREST, FURTHEST).squeeze(1)
        return images.float().clamp(0, 1).contiguous().unflatten(0, shape), depth.unflatten(0, shape)

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of the weights in place; the latents' statistics stay float32."""
        cast_weights(self, dtype)

    def _layout(self, images: Tensor) -> Tensor:
        return images.contiguous(memory_format=torch.channels_last)


def channels_last(module: nn.Module) -> None:
    """Lay out convolution weights with channels last, in place: faster on a CPU, and with bf16 on a GPU."""
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)


def cast_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Change the type of a module's weights in place, not that of its buffers."""
    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
