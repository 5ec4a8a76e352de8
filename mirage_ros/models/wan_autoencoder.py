"""The video autoencoders of Wan 2.1 and 2.2 behind the project's interface."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, unpatchify
from torch import Tensor

from mirage_ros.models.autoencoder import Autoencoder, DecodeStream, channel_buffers

# diffusers encodes four frames at a time whatever its configuration says.
TIME_STRIDE = 4


class WanAutoencoder(Autoencoder):
    """diffusers' AutoencoderKLWan: posterior mode, normalised latents, optional tiles, streaming decode.

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
        self._patch = int(config["patch_size"] or 1)
        self.channels = int(config["z_dim"])
        spatial = 2 ** (len(config["dim_mult"]) - 1) * self._patch
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
        self._tiled = tile is not None
        if tile is not None:
            self._set_tiles(tile)

    @classmethod
    def from_config(cls, config: Mapping[str, object], tile: int | None = None) -> WanAutoencoder:
        """One with random weights and this configuration of AutoencoderKLWan."""
        # diffusers adds its lists up, which tuples refuse.
        lists = {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
        return cls(AutoencoderKLWan(**lists), tile)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        subfolder: str | None = "vae",
        dtype: torch.dtype = torch.float32,
        tile: int | None = None,
        local_files_only: bool | None = None,
    ) -> WanAutoencoder:
        """Load a diffusers autoencoder.

        Args:
            source: folder or hub repository.
            subfolder: where the autoencoder lies in it.
            dtype: type of the weights.
            tile: see the class.
            local_files_only: do not ask the hub; by default as HF_HUB_OFFLINE says.

        Raises:
            MissingWeightsError: not found or incomplete.
        """
        from mirage_ros.models.weights_io import load_part

        return cls(load_part(AutoencoderKLWan, source, subfolder, dtype, local_files_only), tile)

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
        return self._frames(self.vae.decode(self._denormalised(latents)).sample)

    def stream(self) -> DecodeStream:
        """A stream that keeps the causal decoder's last features.

        Raises:
            ValueError: the autoencoder works in tiles, each of which would need features of its own.
        """
        if self._tiled:
            raise ValueError("tile: expected None for a streaming decode, which keeps features of whole frames")
        return _WanStream(self)

    def _denormalised(self, latents: Tensor) -> Tensor:
        self.check_latents(latents)
        return (latents.float() * self._std + self._mean).to(self.vae.dtype)

    def _frames(self, video: Tensor) -> Tensor:
        return ((video.float() + 1) / 2).clamp(0, 1).transpose(1, 2).contiguous()

    def _set_tiles(self, tile: int) -> None:
        stride = 3 * tile // 4
        unit = 4 * self.strides[1]
        if tile < unit or tile % unit:
            raise ValueError(f"tile: expected a multiple of {unit} pixels, got {tile}")
        self.vae.enable_tiling(tile, tile, stride, stride)


class _WanStream:
    """Owns the features that the causal convolutions of one clip's decoder carry over."""

    def __init__(self, autoencoder: WanAutoencoder) -> None:
        self._autoencoder = autoencoder
        vae = autoencoder.vae
        vae.clear_cache()
        # One slot for each causal convolution of the decoder, counted by diffusers.
        self._features: list[Tensor | str | None] = [None] * vae._conv_num
        self._first = True

    @torch.no_grad()
    def push(self, latents: Tensor) -> Tensor:
        vae = self._autoencoder.vae
        hidden = vae.post_quant_conv(self._autoencoder._denormalised(latents))
        frames = []
        for index in range(hidden.shape[2]):
            decoded = vae.decoder(
                hidden[:, :, index : index + 1],
                feat_cache=self._features,
                feat_idx=[0],
                first_chunk=self._first,
            )
            self._first = False
            frames.append(decoded)
        video = torch.cat(frames, dim=2)
        if self._autoencoder._patch > 1:
            video = unpatchify(video, patch_size=self._autoencoder._patch)
        return self._autoencoder._frames(video.clamp(-1, 1))
