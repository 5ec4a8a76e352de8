"""The generator: a U-Net that draws what the transformer's mean leaves open, as a sample of what may be there.

Where the memory shows nothing, many things may be seen; the transformer estimates their mean, which has no texture and
no edges. The generator draws the residual of one of them over that mean by flow matching (Lipman et al.,
arXiv 2210.02747), on the full latent grid, and leaves what is known as it is.

The flow starts from noise that is like the residual already: as strong in every channel, correlated between channels
alike, and with as much of it in every octave of spatial frequency, as in pictures of the world (power 1/f^2). From
white noise, of which large scales have next to nothing, a network of this size makes confetti.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor

from mirage_ros.models.frame_autoencoder import cast_weights, channels_last
from mirage_ros.models.schedule import TRAIN_TIMESTEPS, sigma_grid

# Channels of an attention head, and groups of a group norm.
HEAD, GROUPS = 32, 16
# Cycles a cell below which the noise is as strong as there: a period of 128 cells.
CORNER = 1 / 128


class Generator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """U-Net over residuals of one keyframe, saved and loaded like any diffusers model.

    Args:
        channels: C of clean latents, depth channels included.
        memory_channels: K of the memory branch's input, see `branch_input.assemble`.
        latent_channels: how many of the channels are latents; the others are depth.
        widths: channels at each scale, from the latent grid to the coarsest; attention at the last two.
        layers: residual blocks at each scale.
        exponents: of the noise's power over frequency, for latents and for depth.

    Attributes:
        mixing: (C, C) lower triangular; the residual is this times what the network sees, whose channels do not
            correlate. See `fit`.
    """

    @register_to_config
    def __init__(
        self,
        channels: int = 12,
        memory_channels: int = 42,
        latent_channels: int = 8,
        widths: Sequence[int] = (64, 128, 256),
        layers: int = 1,
        exponents: Sequence[float] = (2.0, 2.4),
    ) -> None:
        super().__init__()
        attends = [index >= len(widths) - 2 for index in range(len(widths))]
        down = tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends)
        up = tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends))
        self.unet = UNet2DModel(
            in_channels=3 * channels + memory_channels,
            out_channels=channels,
            layers_per_block=layers,
            block_out_channels=tuple(widths),
            down_block_types=down,
            up_block_types=up,
            norm_num_groups=GROUPS,
            attention_head_dim=HEAD,
        )
        self.register_buffer("mixing", torch.eye(channels))
        self.mixing: Tensor
        self._latents = latent_channels

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of the weights in place; residuals are drawn in float32 whatever this is."""
        cast_weights(self.unet, dtype)
        channels_last(self.unet)

    def fit(self, covariance: Tensor) -> None:
        """Take `mixing` from the (C, C) covariance of residuals; latents and depth do not mix."""
        count = self._latents
        self.mixing.zero_()
        for part in (slice(count), slice(count, None)):
            block = covariance[part, part].double()
            self.mixing[part, part] = torch.linalg.cholesky(block + 1e-6 * torch.eye(len(block))).to(self.mixing)

    def unmixed(self, residual: Tensor) -> Tensor:
        """What the network sees of a residual (B, C, h, w)."""
        return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(self.mixing.float()), residual)

    def coloured(self, white: Tensor) -> Tensor:
        """Noise (B, C, h, w) with the spectrum of residuals, of unit variance, out of white noise (B, C, 2h, 2w)."""
        height, width = (side // 2 for side in white.shape[-2:])
        rows, columns = (torch.fft.fftfreq(2 * side, device=white.device) for side in (height, width))
        frequency = rows[:, None].square() + columns.square() + CORNER**2
        latents, depth = self.config["exponents"]
        exponents = torch.full((white.shape[1],), float(latents), device=white.device)
        exponents[self._latents :] = depth
        gain = frequency ** (-exponents[:, None, None] / 4)
        gain = gain / gain.square().mean(dim=(-2, -1), keepdim=True).sqrt()
        # Half of it: what is filtered this way is periodic.
        return torch.fft.ifft2(torch.fft.fft2(white.float()) * gain).real[..., :height, :width].contiguous()

    def opened(self, is_open: Tensor) -> Tensor:
        """(B, C, h, w) bool: all latents, or all depth channels, of a cell if one of them is open."""
        parts = is_open.split([self._latents, is_open.shape[1] - self._latents], dim=1)
        return torch.cat([part.any(dim=1, keepdim=True).expand_as(part) for part in parts if part.shape[1]], dim=1)

    def forward(self, noisy: Tensor, sigma: Tensor, mean: Tensor, memory: Tensor, is_open: Tensor) -> Tensor:
        """Predict the flow (noise minus unmixed residual).

        Args:
            noisy: (B, C, h, w) unmixed residual on its way from noise; only open cells count.
            sigma: (B,) noise levels.
            mean: (B, C, h, w) the transformer's estimate, the known value where nothing is open.
            memory: (B, K, h, w) input of the memory branch.
            is_open: (B, C, h, w) bool, what is to be drawn.

        Returns:
            (B, C, h, w) float32.
        """
        marks = is_open.to(noisy.dtype)
        parts = torch.cat([noisy * self.opened(is_open), mean, memory, marks], dim=1).to(self.unet.dtype)
        flow: Tensor = self.unet(parts.contiguous(memory_format=torch.channels_last), TRAIN_TIMESTEPS * sigma).sample
        return flow.float()

    def draw(
        self,
        mean: Tensor,
        memory: Tensor,
        is_open: Tensor,
        white: Tensor,
        steps: int,
        after_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Draw one possible view in place of the mean.

        Args:
            mean, memory, is_open: as for `forward`.
            white: (B, C, 2h, 2w) standard normal.
            steps: of Euler's method.
            after_step: called with the number of finished steps; may raise to stop.

        Returns:
            (B, C, h, w) float32 clean latents, the mean where nothing is open.
        """
        sample, sigmas = self.coloured(white), [*sigma_grid(steps, 1.0), 0.0]
        for step, (now, following) in enumerate(pairwise(sigmas)):
            level = torch.full((len(mean),), now, device=mean.device)
            with torch.no_grad():
                sample = sample + (following - now) * self(sample, level, mean, memory, is_open)
            if after_step is not None:
                after_step(step + 1)
        residual = torch.einsum("ij,bjhw->bihw", self.mixing.float(), sample)
        return torch.where(is_open, mean + residual, mean)
