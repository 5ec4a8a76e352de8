"""The video autoencoders of Wan 2.1 and 2.2 behind the project's interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor

from mirage_ros.models.autoencoder import Autoencoder, channel_buffers
from mirage_ros.models.network_files import load_part

# diffusers encodes four frames at a time whatever its configuration says.
TIME_STRIDE = 4
# fmt: off
# Mean and deviation of each of the 48 latent channels of Wan 2.2
# (huggingface.co/Wan-AI/Wan2.2-TI2V-5B-Diffusers, vae/config.json).
_WAN22_MEAN = (
    -0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557, -0.1382, 0.0542, 0.2813, 0.0891, 0.1570,
    -0.0098, 0.0375, -0.1825, -0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502, -0.2055, -0.0322,
    0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230, -0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520,
    0.3748, 0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667,
)
_WAN22_STD = (
    0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013, 0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165,
    0.8454, 0.4978, 0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659, 0.7069, 0.5338, 0.4889, 0.4917,
    0.4069, 0.4999, 0.6866, 0.4093, 0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887, 0.3971, 1.0600,
    0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744,
)
# fmt: on
# Wan 2.2's autoencoder: arguments of AutoencoderKLWan.
WAN22_AUTOENCODER: Mapping[str, object] = {
    "base_dim": 160,
    "decoder_base_dim": 256,
    "z_dim": 48,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": _WAN22_MEAN,
    "latents_std": _WAN22_STD,
}


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
