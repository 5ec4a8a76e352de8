"""The generator: a cascade of U-Nets that draws what the transformer's mean leaves open, as one of what may be there.

Where the memory shows nothing, many things may be seen; the transformer estimates their mean, which has no texture and
no edges. The generator draws the residual of one of them over that mean by flow matching (Lipman et al.,
arXiv 2210.02747), and leaves what is known as it is. It does so twice, as cascades do (Ho et al., arXiv 2106.15282):
first on a grid of coarse cells, where a small network sees a whole room, and many of them in an hour, and decides what
stands where; then on the latent grid, where what was drawn first has become a part of the mean.

Both flows start from noise that is like their residual already: as strong in every channel, correlated between
channels alike, and with as much of it in every octave of spatial frequency, as in pictures of the world (power 1/f^2).
From white noise, of which large scales have next to nothing, networks of this size make confetti. On the latent grid it
is as strong in every place as the residual may be there: next to nothing on a wall that goes on, much where furniture
may stand. That scale is what a third network estimates, from the same conditions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional as F

from mirage_ros.models.frame_autoencoder import cast_weights, channels_last
from mirage_ros.models.schedule import TRAIN_TIMESTEPS, sigma_grid

# Channels of an attention head, and groups of a group norm.
HEAD, GROUPS = 32, 16
# Latent cells along each side of a coarse cell, and the share of one that is open at least where it is drawn.
COARSE, LEAST_OPEN = 4, 0.25
# Channels of what condenses conditions into coarse cells.
STEM = 128
# Cycles a latent cell below which the noise is as strong as there: a period of 128 cells.
CORNER = 1 / 128
# Bound of the logarithm of the scale, about 0.
MAX_LOG_SCALE = 3.0


@dataclass(frozen=True, eq=False)
class OpenView:
    """What a view is drawn under.

    Attributes:
        mean: (B, C, h, w) the transformer's estimate, the known value where nothing is open.
        memory: (B, K, h, w) input of the memory branch.
        is_open: (B, C, h, w) bool, what is to be drawn.
    """

    mean: Tensor
    memory: Tensor
    is_open: Tensor

    def stacked(self) -> Tensor:
        """All of it as channels (B, 2 C + K, h, w)."""
        return torch.cat([self.mean, self.memory, self.is_open.to(self.mean.dtype)], dim=1)


class Generator(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Networks over residuals of one keyframe, saved and loaded like any diffusers model.

    Residuals are 'unmixed' first: multiplied by the inverse of `mixing`, so that channels do not correlate and are as
    strong as each other.

    Args:
        channels: C of clean latents, depth channels included.
        memory_channels: K of the memory branch's input, see `branch_input.assemble`.
        latent_channels: how many of the channels are latents; the others are depth.
        widths: channels at each scale of the network on the latent grid; attention at the last two.
        coarse_widths: of the network on coarse cells.
        scale_widths: of the network that estimates how strong residuals on the latent grid are.
        layers: residual blocks at each scale.
        exponents: of the noise's power over frequency, for latents and for depth.

    Attributes:
        mixing: (C, C) lower triangular.
        deviations: (C,) standard deviations of the coarse parts of unmixed residuals.
    """

    @register_to_config
    def __init__(
        self,
        channels: int = 12,
        memory_channels: int = 42,
        latent_channels: int = 8,
        widths: Sequence[int] = (64, 128, 256),
        coarse_widths: Sequence[int] = (128, 256),
        scale_widths: Sequence[int] = (32, 64, 64),
        layers: int = 1,
        exponents: Sequence[float] = (2.0, 2.4),
    ) -> None:
        super().__init__()
        conditions = 2 * channels + memory_channels
        self.stem = nn.Sequential(
            nn.Conv2d(conditions, STEM // 2, 4, 2, 1), nn.SiLU(), nn.Conv2d(STEM // 2, STEM, 4, 2, 1)
        )
        self.coarse = _unet(channels + STEM, channels, coarse_widths, layers)
        self.fine = _unet(channels + conditions, channels, widths, layers)
        self.scale = _unet(conditions, channels, scale_widths, layers)
        # The same everywhere until it is learned.
        for parameter in self.scale.conv_out.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("mixing", torch.eye(channels))
        self.register_buffer("deviations", torch.ones(channels))
        self.mixing: Tensor
        self.deviations: Tensor
        self._latents = latent_channels

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of the weights in place; residuals are drawn in float32 whatever this is."""
        for network in (self.stem, self.coarse, self.fine, self.scale):
            cast_weights(network, dtype)
            channels_last(network)

    def fit(self, covariance: Tensor) -> None:
        """Take `mixing` from the (C, C) covariance of residuals; latents and depth do not mix."""
        count = self._latents
        self.mixing.zero_()
        for part in (slice(count), slice(count, None)):
            block = covariance[part, part].double()
            self.mixing[part, part] = torch.linalg.cholesky(block + 1e-6 * torch.eye(len(block))).to(self.mixing)

    def unmixed(self, residual: Tensor) -> Tensor:
        """A residual (B, C, h, w) in channels that do not correlate and are as strong as each other."""
        return torch.einsum("ij,bjhw->bihw", torch.linalg.inv(self.mixing.float()), residual)

    def opened(self, is_open: Tensor) -> Tensor:
        """(B, C, h, w) bool: all latents, or all depth channels, of a cell if one of them is open."""
        parts = is_open.split([self._latents, is_open.shape[1] - self._latents], dim=1)
        return torch.cat([part.any(dim=1, keepdim=True).expand_as(part) for part in parts if part.shape[1]], dim=1)

    def coarse_part(self, unmixed: Tensor, is_open: Tensor) -> tuple[Tensor, Tensor]:
        """Means over what is open of coarse cells, in `deviations`, and which cells count, both (B, C, h/4, w/4)."""
        marks = self.opened(is_open).to(unmixed.dtype)
        share = F.avg_pool2d(marks, COARSE)
        means = F.avg_pool2d(unmixed * marks, COARSE) / share.clamp(min=1e-3)
        return means / self.deviations[:, None, None], share > LEAST_OPEN

    def corrected(self, opening: OpenView, coarse: Tensor) -> OpenView:
        """The same view with what was drawn of coarse cells (B, C, h/4, w/4) as a part of the mean."""
        smooth = F.interpolate(
            coarse * self.deviations[:, None, None],
            size=opening.mean.shape[-2:],
            mode="bilinear",
            align_corners=False,
        )
        residual = torch.einsum("ij,bjhw->bihw", self.mixing.float(), smooth)
        return replace(opening, mean=torch.where(opening.is_open, opening.mean + residual, opening.mean))

    def coarse_noise(self, white: Tensor) -> Tensor:
        """Noise (B, C, h/4, w/4) with the spectrum of coarse parts, of unit variance, out of white (B, C, 2h, 2w)."""
        return self._coloured(COARSE * F.avg_pool2d(white.float(), COARSE), COARSE)

    def fine_noise(self, white: Tensor) -> Tensor:
        """Noise (B, C, h, w) with the spectrum of what coarse parts leave, of unit variance, out of the same."""
        return self._coloured(white.float(), 1)

    def _coloured(self, white: Tensor, cell: int) -> Tensor:
        """Half of each side of `white`, filtered; `cell` latent cells are one. Latent cells lack what coarse have."""
        height, width = (side // 2 for side in white.shape[-2:])
        rows, columns = (torch.fft.fftfreq(2 * side, device=white.device) for side in (height, width))
        frequency = rows[:, None].square() + columns.square() + (cell * CORNER) ** 2
        latents, depth = self.config["exponents"]
        exponents = torch.full((white.shape[1],), float(latents), device=white.device)
        exponents[self._latents :] = depth
        power = frequency ** (-exponents[:, None, None] / 2)
        if cell == 1:
            # Of each frequency, what means over coarse cells do not show.
            shown = [torch.sinc(COARSE * side) / torch.sinc(side) for side in (rows, columns)]
            power = power * (1 - (shown[0][:, None] * shown[1]).square())
        gain = (power / power.mean(dim=(-2, -1), keepdim=True)).sqrt()
        # Half of it: what is filtered this way is periodic.
        return torch.fft.ifft2(torch.fft.fft2(white) * gain).real[..., :height, :width].contiguous()

    def log_scales(self, opening: OpenView) -> Tensor:
        """Logarithm of the standard deviation of the unmixed residual that is left on the latent grid.

        Args:
            opening: with a corrected mean.

        Returns:
            (B, C, h, w) float32.
        """
        free = _run(self.scale, opening.stacked(), torch.zeros(len(opening.mean), device=opening.mean.device))
        return MAX_LOG_SCALE * torch.tanh(free / MAX_LOG_SCALE)

    def condensed(self, opening: OpenView) -> Tensor:
        """What the coarse flow depends on, (B, STEM, h/4, w/4)."""
        dtype = next(self.stem.parameters()).dtype
        shown: Tensor = self.stem(opening.stacked().to(dtype, memory_format=torch.channels_last))
        return shown

    def coarse_flow(self, noisy: Tensor, sigma: Tensor, condensed: Tensor) -> Tensor:
        """Predict the flow (noise minus residual) of coarse cells.

        Args:
            noisy: (B, C, h/4, w/4) coarse part of a residual on its way from noise, zero where nothing is drawn.
            sigma: (B,) noise levels.
            condensed: see there.

        Returns:
            (B, C, h/4, w/4) float32.
        """
        return _run(self.coarse, torch.cat([noisy.to(condensed.dtype), condensed], dim=1), TRAIN_TIMESTEPS * sigma)

    def fine_flow(self, noisy: Tensor, sigma: Tensor, opening: OpenView) -> Tensor:
        """Predict the flow (noise minus unmixed residual over its scale) of latent cells.

        Args:
            noisy: (B, C, h, w) unmixed residual over its scale on its way from noise; only open cells count.
            sigma: (B,) noise levels.
            opening: with a corrected mean.

        Returns:
            (B, C, h, w) float32.
        """
        parts = torch.cat([noisy * self.opened(opening.is_open), opening.stacked()], dim=1)
        return _run(self.fine, parts, TRAIN_TIMESTEPS * sigma)

    @torch.no_grad()
    def draw(
        self, opening: OpenView, white: Tensor, steps: int, after_step: Callable[[int], None] = lambda step: None
    ) -> Tensor:
        """Draw one possible view in place of the mean.

        Args:
            opening: what it is drawn under.
            white: (B, C, 2h, 2w) standard normal.
            steps: of Euler's method, of each flow.
            after_step: called with the number of finished steps of the latent grid; may raise to stop.

        Returns:
            (B, C, h, w) float32 clean latents, the mean where nothing is open.

        Raises:
            ValueError: the latent grid is not of whole coarse cells.
        """
        if any(side % COARSE for side in opening.mean.shape[-2:]):
            grid = tuple(opening.mean.shape[-2:])
            raise ValueError(f"mean: expected rows and columns that {COARSE} divides, got {grid}")
        coarse, fine = self.coarse_noise(white), self.fine_noise(white)
        counted = self.coarse_part(torch.zeros_like(opening.mean), opening.is_open)[1]
        condensed = self.condensed(opening)
        for now, following in _levels(steps):
            level = torch.full((len(white),), now, device=white.device)
            coarse = coarse + (following - now) * self.coarse_flow(coarse * counted, level, condensed)
        opening = self.corrected(opening, coarse * counted)
        for step, (now, following) in enumerate(_levels(steps)):
            level = torch.full((len(white),), now, device=white.device)
            fine = fine + (following - now) * self.fine_flow(fine, level, opening)
            after_step(step + 1)
        residual = torch.einsum("ij,bjhw->bihw", self.mixing.float(), fine * self.log_scales(opening).exp())
        return torch.where(opening.is_open, opening.mean + residual, opening.mean)


def _levels(steps: int) -> list[tuple[float, float]]:
    return list(pairwise([*sigma_grid(steps, 1.0), 0.0]))


def _unet(inputs: int, outputs: int, widths: Sequence[int], layers: int) -> UNet2DModel:
    """A U-Net with attention at its last two scales."""
    attends = [index >= len(widths) - 2 for index in range(len(widths))]
    return UNet2DModel(
        in_channels=inputs,
        out_channels=outputs,
        layers_per_block=layers,
        block_out_channels=tuple(widths),
        down_block_types=tuple("AttnDownBlock2D" if attend else "DownBlock2D" for attend in attends),
        up_block_types=tuple("AttnUpBlock2D" if attend else "UpBlock2D" for attend in reversed(attends)),
        norm_num_groups=GROUPS,
        attention_head_dim=HEAD,
    )


def _run(network: UNet2DModel, inputs: Tensor, timesteps: Tensor) -> Tensor:
    """The output of a U-Net in float32, for grids that it cannot halve often enough as well."""
    height, width = inputs.shape[-2:]
    multiple = 2 ** (len(network.config["block_out_channels"]) - 1)
    padded = F.pad(inputs, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    output: Tensor = network(padded.to(network.dtype, memory_format=torch.channels_last), timesteps).sample
    return output[..., :height, :width].float()
