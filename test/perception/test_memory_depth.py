"""Depth out of the memory."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.bench.perception import TrueClip, mean_colours
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.memory_depth import MemoryDepth, guided_fill
from mirage_ros.perception.pipeline import DecodedFrames


@pytest.mark.parametrize("patch", [0, 2, 4])
def test_gives_what_was_remembered(still: TrueClip, patch: int) -> None:
    memory = LatentMemory(3, patch=patch)
    memory.write(mean_colours(still.rgb[:9], 4), still.depth[:9], still.camera[:9])
    found = MemoryDepth().estimate(DecodedFrames(still.rgb[9:13], still.camera[9:13], 9), memory).depth
    known = found > 0
    assert known.float().mean() > 0.9
    error = (found / still.depth[9:13])[known & (still.depth[9:13] > 0)].log().abs()
    assert error.median() < (0.02 if patch < 4 else 0.006)


def test_fills_follow_colours_and_stop_at_the_reach() -> None:
    # Left half near and red, right half far and blue; only one cell of each is known.
    rgb = torch.zeros(1, 3, 32, 64)
    rgb[:, 0, :, :30], rgb[:, 2, :, 30:] = 1, 1
    depth = torch.zeros(1, 8, 16)
    depth[0, 4, 4], depth[0, 4, 10] = 1.0, 5.0
    filled = guided_fill(depth, rgb, reach=10)[0]
    assert (filled[14:22, 20:30] == 1).all()
    assert (filled[14:22, 30:40] == 5).all()
    assert (filled[:, 60:] == 0).all()


def test_continues_planes() -> None:
    # A floor: inverse depth is linear in the row.
    rows = torch.arange(32) + 0.5
    true = 1 / (0.05 + 0.02 * rows)
    cells = true[2::4].reshape(1, 8, 1).expand(1, 8, 12).clone()
    cells[:, :, 5:8] = 0
    filled = guided_fill(cells, torch.full((1, 3, 32, 48), 0.5), reach=12)[0]
    torch.testing.assert_close(filled[6:26], true[6:26].unsqueeze(-1).expand(-1, 48), rtol=0.02, atol=0)


def test_an_empty_memory_knows_nothing(still: TrueClip) -> None:
    found = MemoryDepth().estimate(DecodedFrames(still.rgb[:2], still.camera[:2]), LatentMemory(3))
    assert not found.depth.any()
    assert "empty" in found.notes[0]
