"""Colours of single latent tokens, for clouds of memories that keep none."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.world.networks import Networks

# Plain and shaded patches that the colours are fitted on.
SAMPLES = 24


class LatentColours:
    """A linear map from latent tokens to the mean colour of their patch.

    Decoding a token alone would need its neighbours; a linear map is what previews of latent diffusion use.
    """

    def __init__(self, matrix: Tensor, offset: Tensor) -> None:
        """Take over a matrix (C, 3) and an offset (3,)."""
        self._matrix, self._offset = matrix, offset

    @classmethod
    @torch.no_grad()
    def of(cls, networks: Networks) -> LatentColours:
        """Fit to an autoencoder: images of smooth colours are encoded, and their cells' mean colours regressed."""
        generator = torch.Generator().manual_seed(0)
        rows, columns = networks.autoencoder.strides[1:]
        # Smooth fields: few random colours, enlarged.
        coarse = torch.rand(SAMPLES, 3, 3, 3, generator=generator)
        images = torch.nn.functional.interpolate(coarse, (rows * 8, columns * 8), mode="bilinear", align_corners=True)
        latents = networks.encode(images[:, None].to(networks.device))[:, :, 0].float()
        colours = torch.nn.functional.avg_pool2d(images, (rows, columns)).to(networks.device)
        x = latents.permute(0, 2, 3, 1).flatten(0, 2)
        y = colours.permute(0, 2, 3, 1).flatten(0, 2)
        design = torch.cat([x, torch.ones_like(x[:, :1])], dim=1).double()
        # A little ridge: tokens may be linearly dependent.
        gram = design.T @ design + 1e-3 * torch.eye(design.shape[1], dtype=torch.float64, device=design.device)
        solution = torch.linalg.solve(gram, design.T @ y.double()).float()
        return cls(solution[:-1], solution[-1])

    def __call__(self, features: Tensor) -> Tensor:
        """Tokens (N, C) to colours (N, 3) 0..1."""
        return (features.float() @ self._matrix + self._offset).clamp(0, 1)
