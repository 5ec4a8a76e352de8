"""The video autoencoders of Wan 2.1 and 2.2 behind the project's interface."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from mirage_ros.models.autoencoder import Autoencoder, channel_buffers
from mirage_ros.models.network_files import load_part

# diffusers encodes four frames at a time whatever its configuration says.
TIME_STRIDE = 4
# Wan 2.2's autoencoder: arguments of AutoencoderKLWan. Mean and deviation of each of its latent channels are those of
# huggingface.co/Wan-AI/Wan2.2-TI2V-5B-Diffusers, vae/config.json.
WAN22_AUTOENCODER: Mapping[str, object] = json.loads(Path(__file__).with_name("wan22_autoencoder.json").read_text())


class WanAutoencoder(Autoencoder):
    """diffusers' AutoencoderKLWan: posterior mode, normalised latents, optional tiles.

    Args:
        vae: Wan 2.1 layout (stride 4x8x8, 16 channels) or Wan 2.2 layout (residual, patches of 2, stride 4x16x16, 48
            channels), or a smaller one of the same kind.
        tile: pixels of a square tile's side, to save memory; None works on whole frames. Tiles overlap by a quarter.

    Raises:
        ValueError: the configuration contradicts itself.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(self, vae: AutoencoderKLWan, tile: int | None = None) -> None:
        super().__init__()
        self.vae = vae
        config = vae.config
        self.channels = int(config["z_dim"])
        spatial = 2 ** (len(config["dim_mult"]) - 1) * int(config["patch_size"] or 1)
        temporal = 2 ** sum(map(bool, config["temperal_downsample"]))
        self.strides = (temporal, spatial, spatial)
        if temporal != TIME_STRIDE or spatial != int(config["scale_factor_spatial"]):
            raise ValueError(
                f"vae: expected time stride {TIME_STRIDE} and scale_factor_spatial {spatial} for its layers, got time "
                f"stride {temporal} and scale_factor_spatial {config['scale_factor_spatial']}"
            )
        mean, deviation = channel_buffers(config["latents_mean"], config["latents_std"], self.channels)
        self.register_buffer("_mean", mean, persistent=False)
        self.register_buffer("_std", deviation, persistent=False)
        if tile is not None:
            unit = 4 * spatial
            if tile < unit or tile % unit:
                raise ValueError(f"tile: expected a multiple of {unit} pixels, got {tile}")
            vae.enable_tiling(tile, tile, 3 * tile // 4, 3 * tile // 4)

    @classmethod
    def from_config(cls, config: Mapping[str, object], tile: int | None = None) -> WanAutoencoder:
        """One with random weights and this configuration of AutoencoderKLWan."""
        # diffusers adds its lists up, which tuples refuse.
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
        return cls(AutoencoderKLWan(**lists), tile)

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, dtype: torch.dtype = torch.float32, tile: int | None = None
    ) -> WanAutoencoder:
        """Load diffusers' autoencoder from subfolder vae/ of a folder or hub repository.

        Raises:
            MissingWeightsError: not found or incomplete.
        """
        return cls(load_part(AutoencoderKLWan, source, "vae", dtype), tile)

    def save_pretrained(self, folder: str | Path) -> None:
        """Save in diffusers' format."""
        self.vae.save_pretrained(folder)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """Frames (B, 4N+1, 3, H, W) to latents (B, C, N+1, h, w): normalised posterior modes, float32."""
        video = (self.check_frames(frames) * 2 - 1).transpose(1, 2).to(self.vae.dtype)
        mode = self.vae.encode(video).latent_dist.mode().float()
        return (mode - self._mean) / self._std

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, N+1, h, w) to frames (B, 4N+1, 3, H, W), float32 0..1."""
        self.check_latents(latents)
        video = self.vae.decode((latents.float() * self._std + self._mean).to(self.vae.dtype)).sample
        return ((video.float() + 1) / 2).clamp(0, 1).transpose(1, 2).contiguous()
