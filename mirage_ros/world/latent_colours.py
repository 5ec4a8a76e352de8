"""Colours of single latent tokens, for clouds of memories that keep none."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.world.networks import Networks

# Plain and shaded patches that the colours are fitted on.
SAMPLES = 24


@torch.no_grad()
def fit_colours(networks: Networks) -> tuple[Tensor, Tensor]:
    """The linear map from latent tokens to the mean colour of their patch: matrix (C, 3) and offset (3,).

    Images of smooth colours are encoded, and their cells' mean colours regressed. Decoding a token alone would need its
    neighbours; a linear map is what previews of latent diffusion use.
    """
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
    return solution[:-1], solution[-1]
