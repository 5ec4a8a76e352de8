"""Minute models with random weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import Tensor

from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.transformer import MirageTransformer

# Three blocks, hints after the first and the last, six channels.
CHANNELS = 6
LAYERS = (0, 2)


def new_backbone(seed: int = 0, **changes: object) -> WanTransformer3DModel:
    torch.manual_seed(seed)
    configuration = {
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "in_channels": CHANNELS,
        "out_channels": CHANNELS,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 48,
        "num_layers": 3,
        **changes,
    }
    return WanTransformer3DModel(**configuration).eval()


def awaken(model: MirageTransformer, seed: int = 1) -> None:
    """Give the zero-initialised projections weights, so that hints are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.branch.proj_out.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)


@pytest.fixture
def new_model() -> Callable[..., MirageTransformer]:
    """A function that builds a model; its hints are zero unless `hints` is given."""

    def build(
        *,
        inputs: tuple[str, ...] = ("latents", "visible"),
        layers: tuple[int, ...] = LAYERS,
        hints: bool = False,
        **changes: object,
    ) -> MirageTransformer:
        backbone = new_backbone(**changes)
        branch = MemoryBranch.for_backbone(backbone, layers, inputs, CHANNELS)
        model = MirageTransformer(backbone, branch).eval()
        if hints:
            awaken(model)
        return model

    return build


@pytest.fixture
def clip() -> Callable[..., dict[str, Tensor]]:
    """A function that draws inputs of 4x6 cells: latents, timesteps, text and memory."""

    def draw(frames: int = 3, references: int = 0, batch: int = 2, memory_channels: int = 7) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(2)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator)

        return {
            "latents": normal(batch, CHANNELS, frames, 4, 6),
            "timesteps": torch.rand(batch, frames, generator=generator) * 1000,
            "text": normal(batch, 5, 16),
            "memory": normal(batch, memory_channels, frames - references, 4, 6),
        }

    return draw


@pytest.fixture
def flow(clip: Callable[..., dict[str, Tensor]]) -> Callable[[MirageTransformer], Tensor]:
    """A function that gives the flow a model predicts for one clip."""
    inputs = clip()

    @torch.no_grad()
    def run(model: MirageTransformer) -> Tensor:
        return model(inputs["latents"], inputs["timesteps"], model.embed_text(inputs["text"]), inputs["memory"])

    return run
