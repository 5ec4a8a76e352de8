"""Unfolded frames that are kept: the same results, within their bytes."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.models.presets import preset
from mirage_ros.world.unfolding import Unfolder


@pytest.fixture
def reader():
    torch.manual_seed(0)
    return preset("default").new_reader().eval().requires_grad_(False)


@pytest.fixture
def counted(reader):
    """Numbers of frames that went through the network."""
    frames = []
    reader.unfolding.register_forward_hook(lambda module, inputs, output: frames.append(len(output)))
    return frames


def test_what_was_unfolded_is_found_again_bit_for_bit(reader, counted):
    latents = torch.randn(3, 8, 8, 12)
    unfolder = Unfolder(reader)
    first = unfolder(latents)
    assert sum(counted) == 3
    again = unfolder(latents[[2, 0]])
    assert sum(counted) == 3
    assert torch.equal(again, first[[2, 0]])
    assert torch.allclose(first, reader.unfold(latents).float(), atol=1e-5)
    # Without anything kept, the same.
    assert torch.equal(Unfolder(reader)(latents[1:]), first[1:])


def test_a_frame_that_has_changed_in_one_cell_is_unfolded_anew(reader, counted):
    latents = torch.randn(1, 8, 8, 12)
    unfolder = Unfolder(reader)
    before = unfolder(latents)
    latents[0, 3, 4, 5] += 1e-6
    after = unfolder(latents)
    assert sum(counted) == 2
    assert not torch.equal(before, after)


def test_no_more_is_kept_than_allowed(reader, counted):
    latents = torch.randn(6, 8, 8, 12)
    one = Unfolder(reader)(latents[:1]).nbytes
    unfolder = Unfolder(reader, max_bytes=3 * one)
    for frame in latents:
        unfolder(frame[None])
        assert unfolder.nbytes <= 3 * one
    counted.clear()
    unfolder(latents[3:])
    assert not counted
    unfolder(latents[:1])
    assert counted == [1]
    # A bound below one frame keeps nothing, and works.
    small = Unfolder(reader, max_bytes=1)
    assert torch.equal(small(latents), unfolder(latents))
    assert small.nbytes == 0
