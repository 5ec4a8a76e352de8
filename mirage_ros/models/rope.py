"""Rotary position embeddings at any whole (time, row, column), negative ones too.

diffusers' table starts at zero and follows the grid of one video. Here every token says where it is: target and
preceding frames stand at times 0 .. T+P-1, reference frames at -R .. -1 and one grid height further down, so that they
never share a place with a frame that is being made.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from diffusers.models.embeddings import get_1d_rotary_pos_embed
from torch import Tensor

THETA = 10000.0


def token_positions(frames: int, references: int, rows: int, columns: int) -> Tensor:
    """Positions of the tokens of [reference | target | preceding] frames, frame by frame, row by row.

    Args:
        frames: all frames of the sequence.
        references: how many of them, from the first on, are reference frames.
        rows, columns: tokens of one frame.

    Returns:
        (frames * rows * columns, 3) int64 (time, row, column). References have times -references .. -1 and rows
        `rows` .. 2 `rows` - 1.
    """
    time = torch.arange(-references, frames - references)
    positions = torch.cartesian_prod(time, torch.arange(rows), torch.arange(columns))
    positions[: references * rows * columns, 1] += rows
    return positions


def rotary_embedding(positions: Tensor, head_dim: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines in the layout of diffusers' Wan attention.

    Args:
        positions: (N, 3) int64 (time, row, column), any sign.
        head_dim: channels of one attention head.

    Returns:
        Two (1, N, 1, head_dim) float32 tensors, for non-negative positions bit for bit those of WanRotaryPosEmbed.
    """
    cosines, sines = [], []
    # Wan: a third of the channels turns with time, row and column each, rounded in favour of time.
    spatial = 2 * (head_dim // 6)
    for axis, width in zip(positions.unbind(-1), (head_dim - 2 * spatial, spatial, spatial), strict=True):
        # One table serves both signs: the cosine is even, the sine odd.
        distance = axis.abs()
        cosine, sine = get_1d_rotary_pos_embed(
            width,
            int(distance.max()) + 1 if distance.numel() else 1,
            THETA,
            use_real=True,
            repeat_interleave_real=True,
            freqs_dtype=torch.float64,
        )
        cosines.append(cosine[distance])
        sines.append(sine[distance] * axis.sign().unsqueeze(-1))
    return torch.cat(cosines, dim=-1)[None, :, None], torch.cat(sines, dim=-1)[None, :, None]


@lru_cache(maxsize=16)
def sequence_embedding(
    frames: int, references: int, rows: int, columns: int, head_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """`rotary_embedding` of a whole sequence on a device, kept: it is the same at every step of a rollout."""
    # Inference tensors must not enter the cache: training would refuse them later.
    with torch.inference_mode(False):
        positions = token_positions(frames, references, rows, columns)
        cosine, sine = rotary_embedding(positions, head_dim)
        return cosine.to(device), sine.to(device)
