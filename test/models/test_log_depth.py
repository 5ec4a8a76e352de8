"""Depth as latent channels."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.models.log_depth import SKY_DEPTH, pack, reduce, unpack


def test_packing_and_unpacking_return_the_depth() -> None:
    torch.manual_seed(0)
    depth = torch.rand(3, 8, 12) * 9 + 0.1
    channels = pack(depth, 0.9, 0.6)
    assert channels.shape == (3, 4, 4, 6)
    torch.testing.assert_close(unpack(channels, 0.9, 0.6), depth)


def test_invalid_depth_becomes_the_mean_and_stays_in_its_own_channel() -> None:
    depth = torch.full((2, 2), 3.0)
    for value in (0.0, -1.0, torch.nan, -torch.inf):
        depth[0, 1] = value
        channels = pack(depth, 0.9, 0.6).flatten()
        assert channels[1] == 0
        assert (channels[[0, 2, 3]] != 0).all()


def test_what_is_too_far_is_as_far_as_the_sky() -> None:
    depth = torch.tensor([[2.0, torch.inf], [torch.inf, 3.0]])
    expected = torch.tensor([[2.0, SKY_DEPTH], [SKY_DEPTH, 3.0]])
    torch.testing.assert_close(unpack(pack(depth, 0.9, 0.6), 0.9, 0.6), expected)


def test_reducing_takes_a_sample_of_the_block_and_never_a_mixture() -> None:
    torch.manual_seed(0)
    depth = torch.rand(2, 8, 12) + 0.5
    depth[:, :, ::3] = 5.0
    coarse = reduce(depth, 4, 4)
    blocks = depth.view(2, 4, 2, 4, 3).transpose(2, 3).flatten(-2)
    assert (coarse.unsqueeze(-1) == blocks).any(dim=-1).all()
    assert (coarse < 2).all()


def test_reducing_leaves_invalid_pixels_out() -> None:
    depth = torch.tensor([[0.0, torch.nan, 1.0, torch.inf], [2.0, -3.0, 0.0, 0.0]])
    assert reduce(depth, 1, 2).tolist() == [[2.0, 1.0]]
    assert reduce(torch.zeros(2, 4), 1, 2).isnan().all()
    with pytest.raises(ValueError, match="depth: expected a multiple of 3x2 pixels, got 2x4"):
        reduce(depth, 3, 2)
