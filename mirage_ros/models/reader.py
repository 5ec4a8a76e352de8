"""The learned reader: latents unfold to finer features, are splatted as points, and refold to the target's latent grid.

A token's place inside its cell is lost when whole tokens are moved by whole cells. Moving features of a few pixels, or
of one, keeps it, without ever decoding to pixels. The splatting is the memory's and is passed in; the networks are
trained through it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from mirage_ros.geometry import Camera
from mirage_ros.memory.readout import Readout
from mirage_ros.models.branch_input import fill_smoothly
from mirage_ros.models.frame_autoencoder import ResidualBlock, cast_weights, channels_last
from mirage_ros.models.log_depth import reduce

# A cell counts as visible when more than this share of its fine bins is.
VISIBLE_SHARE = 0.2


# Projects the pixels of source frames into target grids: features (..., S, C, H, W) with depth (..., S, H, W) of
# sources (..., S), seen by targets (..., T); such as `mirage_ros.memory.frame_grids.splat`.
Splat = Callable[[Tensor, Tensor, Camera, Camera], Readout]


@dataclass(frozen=True, eq=False)
class UnfoldedReadout:
    """What a reader makes of a memory for target cameras; `...` is (T,) or (B, T).

    Attributes:
        latents: (..., C, h, w), zero where not visible.
        visible: (..., 1, h, w) float32, one or zero.
        fine: the fine splat, with depth at twice or more the latent resolution.
        coarse: the nearest whole tokens.
    """

    latents: Tensor
    visible: Tensor
    fine: Readout
    coarse: Readout


class UnfoldReader(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Networks on both sides of the splat.

    Args:
        channels: latent channels of the autoencoder.
        stride: its spatial stride, pixels.
        fine_stride: pixels of a fine bin of the target; divides the stride.
        source_stride: pixels of a sample of a source frame, each with its own depth; divides the fine stride, which is
            the default. Finer samples keep edges in their places.
        features: channels of a fine feature.
        unfold_width, refold_width: channels of the hidden layers.

    Raises:
        ValueError: a stride does not divide the next.
    """

    @register_to_config
    def __init__(
        self,
        channels: int = 8,
        stride: int = 4,
        fine_stride: int = 2,
        features: int = 12,
        unfold_width: int = 96,
        refold_width: int = 128,
        unfold_blocks: int = 2,
        refold_blocks: int = 3,
        source_stride: int | None = None,
    ) -> None:
        super().__init__()
        if fine_stride < 1 or stride % fine_stride:
            raise ValueError(f"fine_stride: expected a divisor of stride {stride}, got {fine_stride}")
        source_stride = fine_stride if source_stride is None else source_stride
        if source_stride < 1 or fine_stride % source_stride:
            raise ValueError(f"source_stride: expected a divisor of fine_stride {fine_stride}, got {source_stride}")
        self.factor, self.source_factor = stride // fine_stride, stride // source_stride
        # A sample that is as far away as when it was taken counts as of scale one, however many share a bin.
        self._log_sample = math.log(fine_stride / source_stride)
        self.unfolding = nn.Sequential(
            nn.Conv2d(channels, unfold_width, 3, padding=1),
            *(ResidualBlock(unfold_width) for _ in range(unfold_blocks)),
            nn.SiLU(),
            nn.Conv2d(unfold_width, features * self.source_factor**2, 1),
            nn.PixelShuffle(self.source_factor),
        )
        # Features, offset (2), log scale and mask of every fine bin.
        self.refolding = nn.Sequential(
            nn.PixelUnshuffle(self.factor),
            nn.Conv2d((features + 4) * self.factor**2, refold_width, 3, padding=1),
            *(ResidualBlock(refold_width) for _ in range(refold_blocks)),
            nn.SiLU(),
        )
        self.output = nn.Conv2d(refold_width + channels + 1, channels, 1)
        with torch.no_grad():
            # An untrained reader passes the nearest whole token on.
            self.output.weight.zero_()
            self.output.weight[:, refold_width : refold_width + channels, 0, 0] = torch.eye(channels)
            if self.output.bias is not None:
                self.output.bias.zero_()
        channels_last(self)

    def unfold(self, latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) of source frames to features (N, features, h s, w s); do it once, when writing.

        Cells of zeros are not held, see `fill_holes`.
        """
        return self.unfold_whole(self.fill_holes(latents))

    @staticmethod
    def fill_holes(latents: Tensor) -> Tensor:
        """Latents (N, C, h, w) whose cells of zeros look like what is around them.

        A hole full of zeros would show as a seam where another frame takes over.
        """
        return fill_smoothly(latents, (latents != 0).any(dim=1, keepdim=True).to(latents.dtype))

    def unfold_whole(self, latents: Tensor) -> Tensor:
        """`unfold` for latents without holes."""
        unfolded: Tensor = self.unfolding(self._layout(latents))
        return unfolded

    def refold(self, fine: Readout, coarse: Readout) -> tuple[Tensor, Tensor]:
        """What the target sees, on its latent grid.

        Args:
            fine: splat of unfolded features at (h r, w r).
            coarse: splat of whole tokens at (h, w).

        Returns:
            latents (..., C, h, w) float32, zero where not visible, and visible (..., 1, h, w), one where more than 20 %
            of the fine bins are.
        """
        batch = fine.visible.shape[:-3]
        seen = fine.visible.flatten(0, -4)
        scale = fine.log_scale + self._log_sample
        bins = torch.cat([fine.latents, fine.offset, scale, fine.visible], dim=-3).flatten(0, -4)
        hidden = self.refolding(self._layout(torch.where(seen > 0, bins, 0)))
        tokens = torch.cat([coarse.latents, coarse.visible], dim=-3).flatten(0, -4)
        visible = (nn.functional.avg_pool2d(seen.float(), self.factor) > VISIBLE_SHARE).float()
        latents = self.output(torch.cat([hidden, self._layout(tokens)], dim=1)).float() * visible
        return latents.unflatten(0, batch), visible.unflatten(0, batch)

    def forward(
        self,
        latents: Tensor,
        depth: Tensor,
        source: Camera,
        target: Camera,
        splat: Splat,
        coarse_depth: Tensor | None = None,
    ) -> UnfoldedReadout:
        """Read target views out of source frames; differentiable with respect to latents and weights.

        Args:
            latents: (..., S, C, h, w) normalised latents of source frames, zero in cells that are not held.
            depth: (..., S, h s, w s) metres of the sources' samples, with s = `source_factor`; invalid where nothing
                shall be seen; `log_depth.reduce` makes it of a depth image.
            source: (..., S) cameras at the latent resolution h x w.
            target: (..., T) cameras at the latent resolution.
            splat: projects pixels, the nearest to a bin's centre first.
            coarse_depth: (..., S, h, w) metres of whole tokens; the median of the cell's samples by default.

        Returns:
            latents and visibility at the target views.
        """
        unfolded = self.unfold(latents.flatten(0, -4)).float().unflatten(0, latents.shape[:-3])
        fine_target = target.resized(target.height * self.factor, target.width * self.factor)
        fine = splat(unfolded, depth, source.resized(*depth.shape[-2:]), fine_target)
        if coarse_depth is None:
            coarse_depth = reduce(depth, *latents.shape[-2:])
        coarse = splat(latents, coarse_depth, source, target)
        refolded, visible = self.refold(fine, coarse)
        return UnfoldedReadout(refolded, visible, fine, coarse)

    def cast(self, dtype: torch.dtype) -> None:
        """Change the type of the weights in place."""
        cast_weights(self, dtype)

    def _layout(self, images: Tensor) -> Tensor:
        return images.to(self.output.weight.dtype).contiguous(memory_format=torch.channels_last)
