"""The video transformer with its side branch, written out in the original Wan and VACE weight names.

An independent formulation to compare with: plain tensor algebra, float32, rotations as complex numbers in float64.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def block_shapes(width: int, ffn: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one block's weights."""
    shapes: dict[str, tuple[int, ...]] = {"modulation": (1, 6, width), "norm3.weight": (width,), "norm3.bias": (width,)}
    for attention in ("self_attn", "cross_attn"):
        for layer in "qkvo":
            shapes |= {f"{attention}.{layer}.weight": (width, width), f"{attention}.{layer}.bias": (width,)}
        shapes |= {f"{attention}.norm_q.weight": (width,), f"{attention}.norm_k.weight": (width,)}
    shapes |= {"ffn.0.weight": (ffn, width), "ffn.0.bias": (ffn,)}
    return shapes | {"ffn.2.weight": (width, ffn), "ffn.2.bias": (width,)}


def backbone_shapes(
    width: int, ffn: int, layers: int, channels: int, text: int, freq: int
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a backbone's weights, patch 1x2x2."""
    shapes: dict[str, tuple[int, ...]] = {
        "patch_embedding.weight": (width, channels, 1, 2, 2),
        "head.modulation": (1, 2, width),
    }
    for name, rows, columns in (
        ("text_embedding.0", width, text),
        ("text_embedding.2", width, width),
        ("time_embedding.0", width, freq),
        ("time_embedding.2", width, width),
        ("time_projection.1", 6 * width, width),
        ("head.head", 4 * channels, width),
    ):
        shapes |= {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}
    shapes["patch_embedding.bias"] = (width,)
    for index in range(layers):
        shapes |= {f"blocks.{index}.{name}": shape for name, shape in block_shapes(width, ffn).items()}
    return shapes


def branch_shapes(width: int, ffn: int, blocks: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a side branch's weights as vace.safetensors has them."""
    shapes: dict[str, tuple[int, ...]] = {
        "vace_patch_embedding.weight": (width, channels, 1, 2, 2),
        "vace_patch_embedding.bias": (width,),
        "vace_blocks.0.before_proj.weight": (width, width),
        "vace_blocks.0.before_proj.bias": (width,),
    }
    for index in range(blocks):
        own = {**block_shapes(width, ffn), "after_proj.weight": (width, width), "after_proj.bias": (width,)}
        shapes |= {f"vace_blocks.{index}.{name}": shape for name, shape in own.items()}
    return shapes


def draw(shapes: dict[str, tuple[int, ...]], seed: int) -> Weights:
    """Random weights of these shapes."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * (0.1 if len(shape) < 2 else shape[-1] ** -0.5)
        + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
        for name, shape in shapes.items()
    }


def flow(
    weights: Weights,
    branch: Weights,
    layers: tuple[int, ...],
    heads: int,
    latents: Tensor,
    timesteps: Tensor,
    text: Tensor,
    memory: Tensor,
    references: int,
) -> Tensor:
    """Predicted flow (1, C, F, h, w) of latents (1, C, F, h, w) with timesteps (F,)."""
    _, channels, frames, height, width = latents.shape
    rows, columns = height // 2, width // 2
    freq = weights["time_embedding.0.weight"].shape[1] // 2
    angle = timesteps.double()[:, None] * 10000.0 ** (-torch.arange(freq).double() / freq)
    sinusoid = torch.cat([angle.cos(), angle.sin()], dim=1).float().repeat_interleave(rows * columns, dim=0)[None]
    time = _linear(weights, "time_embedding.2", F.silu(_linear(weights, "time_embedding.0", sinusoid)))
    modulation = _linear(weights, "time_projection.1", F.silu(time)).unflatten(-1, (6, -1))
    context = _linear(weights, "text_embedding.0", text)
    context = _linear(weights, "text_embedding.2", F.gelu(context, approximate="tanh"))

    hidden = _patches(weights, "patch_embedding", latents)
    turns = _turns(hidden.shape[-1] // heads, frames, references, rows, columns)
    start = references * rows * columns

    chain = _linear(branch, "vace_blocks.0.before_proj", _patches(branch, "vace_patch_embedding", memory))
    chain = chain + hidden[:, start:]
    hints = {}
    for index, layer in enumerate(layers):
        chain = _block(branch, f"vace_blocks.{index}", chain, context, modulation[:, start:], turns[start:], heads)
        hints[layer] = _linear(branch, f"vace_blocks.{index}.after_proj", chain)
    index = 0
    while f"blocks.{index}.modulation" in weights:
        hidden = _block(weights, f"blocks.{index}", hidden, context, modulation, turns, heads)
        if index in hints:
            hidden = hidden + F.pad(hints[index], (0, 0, start, 0))
        index += 1
    shift, scale = (weights["head.modulation"][:, None] + time[:, :, None]).unbind(2)
    out = _linear(weights, "head.head", F.layer_norm(hidden, hidden.shape[-1:], eps=1e-6) * (1 + scale) + shift)
    out = out.view(1, frames, rows, columns, 2, 2, channels)
    return out.permute(0, 6, 1, 2, 4, 3, 5).reshape(1, channels, frames, height, width)


def _block(
    weights: Weights, name: str, hidden: Tensor, context: Tensor, modulation: Tensor, turns: Tensor, heads: int
) -> Tensor:
    table = (weights[f"{name}.modulation"][:, None] + modulation).unbind(2)

    def norm(tokens: Tensor) -> Tensor:
        return F.layer_norm(tokens, tokens.shape[-1:], eps=1e-6)

    def attend(kind: str, queries: Tensor, keys: Tensor, turned: bool) -> Tensor:
        given = (("q", queries), ("k", keys), ("v", keys))
        parts = [_linear(weights, f"{name}.{kind}.{layer}", source) for layer, source in given]
        for position, letter in ((0, "q"), (1, "k")):
            scale = weights[f"{name}.{kind}.norm_{letter}.weight"]
            parts[position] = F.rms_norm(parts[position], scale.shape, scale, eps=1e-6)
        query, key, value = (part.unflatten(-1, (heads, -1)) for part in parts)
        if turned:
            query, key = _turn(query, turns), _turn(key, turns)
        weight = torch.einsum("bnhd,bmhd->bhnm", query, key).mul(query.shape[-1] ** -0.5).softmax(dim=-1)
        return _linear(weights, f"{name}.{kind}.o", torch.einsum("bhnm,bmhd->bnhd", weight, value).flatten(2))

    attended = norm(hidden) * (1 + table[1]) + table[0]
    hidden = hidden + attend("self_attn", attended, attended, turned=True) * table[2]
    affine = norm(hidden) * weights[f"{name}.norm3.weight"] + weights[f"{name}.norm3.bias"]
    hidden = hidden + attend("cross_attn", affine, context, turned=False)
    mixed = _linear(weights, f"{name}.ffn.0", norm(hidden) * (1 + table[4]) + table[3])
    return hidden + _linear(weights, f"{name}.ffn.2", F.gelu(mixed, approximate="tanh")) * table[5]


def _linear(weights: Weights, name: str, tokens: Tensor) -> Tensor:
    return tokens @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]


def _patches(weights: Weights, name: str, video: Tensor) -> Tensor:
    return F.conv3d(video, weights[f"{name}.weight"], weights[f"{name}.bias"], stride=(1, 2, 2)).flatten(2).mT


def _turns(head_dim: int, frames: int, references: int, rows: int, columns: int) -> Tensor:
    """(tokens, head_dim / 2) unit complex numbers."""
    spatial = head_dim // 6
    widths = (head_dim // 2 - 2 * spatial, spatial, spatial)
    tokens = []
    for frame in range(frames):
        time = frame - references
        for row in range(rows):
            for column in range(columns):
                place = (time, row + (rows if time < 0 else 0), column)
                turns = [at * 10000.0 ** (-torch.arange(n).double() / n) for at, n in zip(place, widths, strict=True)]
                tokens.append(torch.cat(turns))
    angle = torch.stack(tokens)
    return torch.polar(torch.ones_like(angle), angle)


def _turn(tokens: Tensor, turns: Tensor) -> Tensor:
    pairs = torch.view_as_complex(tokens.double().unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * turns[None, :, None]).flatten(-2).float()
