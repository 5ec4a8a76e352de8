"""The kernels against the torch reference: run by Triton's interpreter, and on a GPU where there is one.

The interpreter has to be chosen before triton is imported, so it runs in a process of its own.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import pinhole
from mirage_ros.memory.zbuffer.cuda import available, trial, winners_device, winners_triton
from mirage_ros.memory.zbuffer.projection import (
    BORDER,
    CENTRED,
    NEAR,
    PUBLIC,
    Convention,
    Views,
    views_of,
)
from mirage_ros.memory.zbuffer.reference import winners_dense

pytest.importorskip("triton")

ONE_CELL = Convention(footprints=False)
INTEGER = Convention(integer_centres=True)
KINDS = ("room", "scales", "plane", "behind", "broken", "duplicates")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(scope="module")
def interpreted():
    """interpreted(function, ...): the result of a call in a process where Triton interprets its kernels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        # Dividing by a depth of zero is part of the contract.
        patch.setenv("PYTHONWARNINGS", "ignore")
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            yield lambda function, *args, **options: pool.submit(function, *args, **options).result()


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**31),
    count=st.sampled_from([0, 1, 7, 40, 300]),
    kind=st.sampled_from(KINDS),
    views=st.integers(1, 2),
    convention=st.sampled_from([CENTRED, INTEGER, ONE_CELL, PUBLIC]),
    rule=st.sampled_from(["strict", "nearest"]),
)
def test_winners_are_those_of_the_reference(
    random_scene, random_views, interpreted, seed, count, kind, views, convention, rule
):
    positions, sizes = random_scene(seed, count, kind)
    into = random_views(seed, views, convention)
    expected = winners_dense(positions, sizes, into, rule)
    assert torch.equal(interpreted(winners_triton, positions, sizes, into, rule), expected)


def flat(convention, half_focal, height=6, width=6):
    """A view in which a point (x, y, z) lands on column x / z and row y / z of the image, by exact arithmetic."""
    matrix = torch.tensor([[[1.0, 0, BORDER, 0], [0, 1, BORDER, 0], [0, 0, 1, 0]]])
    return Views(matrix, torch.full((1, 2), half_focal), torch.ones(1), height, width, convention)


def beside(value):
    """A float32 number and both its neighbours."""
    value = np.float32(value)
    return [
        float(np.nextafter(value, np.float32(-np.inf))),
        float(value),
        float(np.nextafter(value, np.float32(np.inf))),
    ]


@pytest.mark.parametrize("rule", ["strict", "nearest"])
@pytest.mark.parametrize("convention", [CENTRED, INTEGER])
def test_comparisons_that_hang_on_the_last_bit(interpreted, rule, convention):
    # Each in a view of its own, so that none hides another: x, y, z, size.
    groups = [
        [(0.0, 0.0, z, 0.0) for z in beside(NEAR)],
        [(x - BORDER, 2.25, 1.0, 0.25) for edge in (1.0, 1.5, 2.5) for x in beside(edge + BORDER)],
        [(2.5, 4.5, 2.0, 2 * reach) for k in (0.25, 0.75, 1.25) for reach in beside(k)],
        [(2.0, 2.0, 1.0, size) for size in (0.0, -1.0, 1e-45, np.inf, np.nan)],
    ]
    for group in groups:
        rows = torch.tensor(group)
        one, count = flat(convention, 1.0), len(rows)
        many = replace(one, matrices=one.matrices.repeat(count, 1, 1), half_focal=one.half_focal.repeat(count, 1))
        positions, sizes = rows[:, :3].unsqueeze(-1), rows[:, 3:]
        expected = winners_dense(positions, sizes, many, rule)
        assert len({tuple(view.flatten().tolist()) for view in expected}) > 1
        assert torch.equal(interpreted(winners_triton, positions, sizes, many, rule), expected)


def test_depth_at_the_limit_of_what_is_visible(interpreted):
    views = flat(CENTRED, 0.0)
    for front in (1.0, 1.7, 3.0, 1e30):
        limit = float(torch.tensor(front) * (1 + 0.05))
        for depth in beside(limit):
            # The deeper one is nearer to the centre, and so wins where it counts as visible.
            positions = torch.tensor([[2.3 * front, 2.5 * depth], [2.3 * front, 2.5 * depth], [front, depth]])
            sizes = torch.zeros(2)
            expected = winners_dense(positions, sizes, views, "nearest")
            assert expected[0, 2 * 6 + 2] == (1 if depth <= limit else 0)
            assert torch.equal(interpreted(winners_triton, positions, sizes, views, "nearest"), expected)


def test_candidates_are_less_than_a_cell_away(interpreted):
    views = flat(CENTRED, 1.0)
    for x in beside(1.5 + BORDER):
        # The first covers the cell in column 2 from afar, the second is nearer and covers nothing but column 1.
        positions = torch.tensor([[5.5, x - BORDER], [2.5, 2.5], [1.0, 1.0]])
        sizes = torch.tensor([4.0, 0.0])
        expected = winners_dense(positions, sizes, views, "nearest")
        assert expected[0, 2 * 6 + 2] == (1 if x > 1.5 + BORDER else 0)
        assert torch.equal(interpreted(winners_triton, positions, sizes, views, "nearest"), expected)


def test_depths_that_differ_by_rounding_alone(interpreted):
    # A plane that faces a camera turned any way: of a cell's elements that is frontmost whose depth is rounded down.
    generator = torch.Generator().manual_seed(1)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64)).Q
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3], pose[:3, 3] = turn * turn.det(), torch.tensor([1.3, -0.4, 2.1])
    views = views_of(pinhole(5, 7, focal=5.0).at(pose.float().unsqueeze(0)))
    there = torch.rand(3, 250, generator=generator, dtype=torch.float64) * 4 - 2
    there[2] = 3
    positions = (pose[:3, :3] @ there + pose[:3, 3:]).float()
    sizes = torch.full((250,), 0.6)
    expected = winners_dense(positions, sizes, views, "strict")
    order = [1, 2, 0]
    otherwise = replace(views, matrices=views.matrices[..., [*order, 3]])
    assert (winners_dense(positions[order], sizes, otherwise, "strict") != expected).any()
    assert torch.equal(interpreted(winners_triton, positions, sizes, views, "strict"), expected)


def test_views_with_their_own_elements_in_any_layout(random_scene, random_views, interpreted):
    scenes = [random_scene(seed, 60, "room") for seed in range(2)]
    positions = torch.stack([positions.T for positions, _ in scenes]).mT
    sizes = torch.stack([sizes for _, sizes in scenes], dim=-1).half().T
    assert not positions.is_contiguous()
    views = random_views(7, 2, CENTRED)
    expected = winners_dense(positions, sizes, views, "nearest")
    assert not torch.equal(expected[0], winners_dense(positions[1], sizes[1], views.at(slice(0, 1)), "nearest")[0])
    assert torch.equal(interpreted(winners_triton, positions, sizes, views, "nearest"), expected)


def test_what_a_kernel_would_read_beyond_is_refused(random_scene, random_views):
    views = random_views(3, 2, CENTRED)
    positions, sizes = random_scene(1, 8, "room")
    with pytest.raises(ValueError, match=r"sizes: expected \(2, 8\) or \(8,\), got \(7,\)"):
        winners_triton(positions, sizes[1:], views, "nearest")
    with pytest.raises(ValueError, match=r"positions: expected \(2, 3, 8\) or \(3, 8\), got \(3, 3, 8\)"):
        winners_triton(positions.expand(3, 3, 8), sizes, views, "nearest")


def test_a_cpu_is_read_with_torch(random_scene, random_views, interpreted):
    assert not available(torch.device("cpu"))
    positions, sizes = random_scene(4, 50, "room")
    views = random_views(4, 2, CENTRED)
    expected = winners_dense(positions, sizes, views, "strict")
    assert torch.equal(winners_device(positions, sizes, views, "strict"), expected)
    assert interpreted(trial, torch.device("cpu"))


@needs_gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["strict", "nearest"])
def test_a_gpu_finds_the_winners_of_the_reference(random_scene, random_views, kind, rule):
    device = torch.device("cuda", torch.cuda.current_device())
    assert available(device)
    positions, sizes = random_scene(1, 50_000, kind)
    for convention in (CENTRED, PUBLIC):
        views = random_views(1, 3, convention, 44, 80)
        expected = winners_dense(positions, sizes, views, rule)
        views = random_views(1, 3, convention, 44, 80, device)
        found = winners_triton(positions.to(device), sizes.to(device), views, rule)
        assert torch.equal(found.cpu(), expected)


@needs_gpu
@pytest.mark.parametrize("rule", ["strict", "nearest"])
def test_a_captured_read_follows_its_inputs(random_scene, random_views, rule):
    device = torch.device("cuda", torch.cuda.current_device())
    positions, sizes = (tensor.to(device) for tensor in random_scene(1, 20_000, "room"))
    views = random_views(1, 2, CENTRED, 44, 80, device)
    winners_triton(positions, sizes, views, rule)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = winners_triton(positions, sizes, views, rule)
    for seed in (2, 3):
        positions.copy_(random_scene(seed, 20_000, "room")[0])
        views.matrices.copy_(random_views(seed, 2, CENTRED, 44, 80).matrices)
        graph.replay()
        assert torch.equal(found, winners_dense(positions, sizes, views, rule))
