"""The compiled rays against torch, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.memory.zbuffer import cpu
from mirage_ros.occupancy import rays as rays_module
from mirage_ros.occupancy.grid import GUESSED, SEEN
from mirage_ros.occupancy.rays import PRIOR, VoxelRays, cast, look


@pytest.mark.skipif(cpu.library() is None, reason="the package was built without its compiled part")
@given(seed=st.integers(0, 10_000), turn=st.sampled_from([0.0, 0.3, math.pi / 2, 2.0]), inside=st.booleans())
@settings(deadline=None, derandomize=True, max_examples=40)
def test_the_compiled_rays_are_those_of_torch(room, seed, turn, inside):
    random = torch.Generator().manual_seed(seed)
    poses = [
        room.upright(0.3 * i + (0 if inside else 4), 0.1, turn + 0.2 * i, 0.7 * (seed % 3) - 0.5) for i in range(2)
    ]
    camera = room.cameras(*poses).resized(13, 17)
    grid = VoxelRays.of(camera, torch.tensor([-3.0, -2.0, 0.1]).double(), torch.tensor([0.1, 0.1, 0.2]).double())
    shape = (2, 13 * 17)
    depth = torch.rand(shape, generator=random) * 6
    depth = torch.where(torch.rand(shape, generator=random) < 0.1, torch.inf, depth)
    depth = torch.where(torch.rand(shape, generator=random) < 0.1, torch.tensor([0.0, torch.nan])[seed % 2], depth)
    spread = torch.rand(shape, generator=random) ** 4 * 2
    voxels = torch.randint(-60, 60, (5, 41, 62), generator=random).to(torch.int8)
    passing = torch.rand(256, generator=random)

    def results():
        held, table = voxels.clone(), (SEEN, GUESSED)[seed % 2]
        cast(held, grid, depth, spread, table, 5.0, (0.0, 0.3)[seed % 2])
        return held, look(voxels, grid, depth.nan_to_num(1.0), passing, 5.0)

    compiled = results()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rays_module.cpu, "library", lambda: None)
        plain = results()
    for ours, theirs in zip(compiled, plain, strict=True):
        assert torch.equal(ours, theirs)
    assert (compiled[1] > 0).any() == (plain[1] > 0).any()


def test_a_voxel_is_occupied_as_surely_as_the_surface_is_in_it(room):
    # One ray along x through voxels of 10 cm; the surface is 2 m away, give or take 20 cm.
    rays = VoxelRays(torch.tensor([[0.0, 0.5, 0.5]]), torch.tensor([[[10.0, 0.0, 0.0]]]), torch.zeros(1))
    voxels = torch.zeros(1, 1, 40, dtype=torch.int8)
    cast(voxels, rays, torch.tensor([[2.0]]), torch.tensor([[0.2]]), GUESSED, 10.0)
    occupied = torch.sigmoid(voxels.flatten() / 32.0 + math.log(PRIOR / (1 - PRIOR)))
    edges = (torch.arange(41) * 0.1 - 2.0) / 0.2
    before = torch.special.ndtr(edges)
    expected = (before[1:] - before[:-1] + PRIOR * before[:-1]).clamp(0.0033, 0.79)
    assert (occupied[:24] - expected[:24]).abs().max() < 0.02
    # Behind it nothing is said.
    assert (voxels.flatten()[30:] == 0).all()


def test_what_is_seen_is_hidden_by_what_stands_before_it():
    rays = VoxelRays(torch.tensor([[0.0, 0.5, 0.5]]), torch.tensor([[[10.0, 0.0, 0.0]]]), torch.zeros(1))
    voxels, passing = torch.zeros(1, 1, 40, dtype=torch.int8), torch.ones(256)
    voxels[0, 0, 20], passing[128 + 90] = 90, 0.25
    voxels[0, 0, 20] = 90
    seen = look(voxels, rays, torch.tensor([[3.0]]), passing, 10.0).flatten()
    assert (seen[1:21] == 1).all()
    assert (seen[21:30] == 0.25).all()
    assert (seen[31:] == 0).all()
