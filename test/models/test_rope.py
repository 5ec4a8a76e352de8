"""Rotary embeddings at whole positions of any sign."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.models.rope import rotary_embedding, sequence_embedding, token_positions


@pytest.mark.parametrize("head_dim", [12, 16, 24, 64, 128])
def test_equals_diffusers_without_references(head_dim: int) -> None:
    latents = torch.zeros(1, 1, 9, 12, 20)
    expected = WanRotaryPosEmbed(head_dim, (1, 2, 2), 1024)(latents)
    got = rotary_embedding(token_positions(9, 0, 6, 10), head_dim)
    for ours, theirs in zip(got, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_references_stand_before_time_zero_and_one_grid_lower() -> None:
    positions = token_positions(frames=5, references=2, rows=3, columns=4).view(5, 3, 4, 3)
    assert positions[:, 0, 0, 0].tolist() == [-2, -1, 0, 1, 2]
    assert positions[0, :, 0, 1].tolist() == positions[1, :, 0, 1].tolist() == [3, 4, 5]
    assert positions[2, :, 0, 1].tolist() == [0, 1, 2]
    assert positions[0, 0, :, 2].tolist() == positions[4, 2, :, 2].tolist() == [0, 1, 2, 3]


@settings(max_examples=30)
@given(st.lists(st.tuples(*[st.integers(-900, 900)] * 3), min_size=1, max_size=6), st.sampled_from([12, 32, 128]))
def test_is_the_rotation_by_position_times_frequency(positions: list[tuple[int, int, int]], head_dim: int) -> None:
    cosine, sine = rotary_embedding(torch.tensor(positions), head_dim)
    angles = []
    third = 2 * (head_dim // 6)
    widths = (head_dim - 2 * third, third, third)
    for axis, width in zip(torch.tensor(positions).double().unbind(-1), widths, strict=True):
        frequency = 10000.0 ** (-torch.arange(0, width, 2).double() / width)
        angles.append((axis[:, None] * frequency).repeat_interleave(2, dim=1))
    angle = torch.cat(angles, dim=1)[None, :, None]
    torch.testing.assert_close(cosine.double(), angle.cos(), atol=1e-6, rtol=0)
    torch.testing.assert_close(sine.double(), angle.sin(), atol=1e-6, rtol=0)


def test_embeddings_made_under_inference_mode_serve_training() -> None:
    with torch.inference_mode():
        cosine, _ = sequence_embedding(3, 1, 2, 5, 16, torch.device("cpu"))
    assert not cosine.is_inference()
    assert sequence_embedding(3, 1, 2, 5, 16, torch.device("cpu"))[0] is cosine
