"""The compiled library against torch, bit for bit, and what happens where it is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.memory.zbuffer import cpu as native
from mirage_ros.memory.zbuffer.cpu import gather_native, load_library, winners_native
from mirage_ros.memory.zbuffer.culling import Blocks
from mirage_ros.memory.zbuffer.projection import CENTRED, PUBLIC, Convention
from mirage_ros.memory.zbuffer.reference import winners_dense

KINDS = ("room", "scales", "plane", "behind", "broken", "duplicates")
ONE_CELL = Convention(footprints=False)
INTEGER = Convention(integer_centres=True)

pytestmark = pytest.mark.skipif(native.library() is None, reason="the package was built without its compiled part")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize(("channels", "cells"), [(1, 1), (5, 17), (48, 64), (130, 33)])
def test_gathered_features_are_those_that_torch_gathers(dtype, channels, cells):
    generator = torch.Generator().manual_seed(channels)
    rows = 500
    # Every pattern of bits that stands for a number, the subnormal ones too.
    bits = torch.randint(-(2**31), 2**31, (rows, channels), generator=generator)
    if dtype in (torch.float16, torch.bfloat16):
        features = bits.to(torch.int16).view(dtype)
    else:
        features = bits.to(torch.int8) if dtype == torch.int8 else bits.to(torch.int32).view(dtype)
    if dtype != torch.int8:
        features = torch.where(features.isnan(), 0.0, features)
    scale = torch.rand(channels, generator=generator) if dtype == torch.int8 else None
    winners = torch.randint(-1, rows, (3, 2, cells), generator=generator)[:, 1]
    found = gather_native(features, scale, winners)
    expected = features[winners.clamp(min=0)].float() * (1.0 if scale is None else scale)
    expected = torch.where(winners[..., None] >= 0, expected, 0.0).mT
    assert found is not None
    assert torch.equal(found, expected)


def test_features_that_are_differentiated_are_left_to_torch():
    features = torch.ones(4, 3, requires_grad=True)
    winners = torch.zeros(1, 5, dtype=torch.int64)
    assert gather_native(features, None, winners) is None
    with torch.no_grad():
        assert gather_native(features, None, winners) is not None


def test_a_library_that_does_not_load_is_passed_over_with_a_warning(tmp_path, caplog):
    broken = tmp_path / native.LIBRARY
    broken.write_bytes(b"\x7fELF" + bytes(100))
    assert load_library(broken) is None
    assert "reading with torch instead of the compiled z-buffer" in caplog.text


def test_a_library_of_another_version_is_refused(monkeypatch, caplog):
    monkeypatch.setattr(native, "_VERSION", native._VERSION + 1)
    path = next(folder / native.LIBRARY for folder in native.folders() if (folder / native.LIBRARY).exists())
    assert load_library(path) is None
    assert "install the package again" in caplog.text


SCRIPT = """
import torch
from mirage_ros.geometry import pinhole
from mirage_ros.memory import LatentMemory
camera = pinhole(32, 48, focal=30.0).at(torch.eye(4)[None])
memory = LatentMemory(3)
generator = torch.Generator().manual_seed(0)
memory.write(torch.rand(1, 3, 8, 12, generator=generator), 2 + torch.rand(1, 32, 48, generator=generator), camera)
print(memory.backend, "compiled" in repr(memory), memory.read(camera.resized(8, 12)).latents.double().sum().item())
"""


def test_without_the_library_torch_reads_the_same(capsys):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "MIRAGE_COMPILED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    exec(SCRIPT, {})
    without, within = done.stdout.split(), capsys.readouterr().out.split()
    assert without[:2] == ["torch", "False"]
    assert within[:2] == ["compiled", "True"]
    assert without[2] == within[2]


@settings(max_examples=150)
@given(
    seed=st.integers(0, 2**31),
    count=st.sampled_from([0, 1, 2, 7, 40, 300, 2000]),
    kind=st.sampled_from(KINDS),
    views=st.integers(1, 3),
    threads=st.integers(1, 4),
    rule=st.sampled_from(["strict", "nearest"]),
    convention=st.sampled_from([CENTRED, ONE_CELL, PUBLIC, INTEGER]),
)
def test_compiled_winners_are_those_of_the_reference(
    random_scene, random_views, padded, seed, count, kind, views, threads, rule, convention
):
    positions, sizes = random_scene(seed, count, kind)
    targets = random_views(seed, views, convention)
    store, lengths = padded(positions, sizes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = winners_native(native.library(), store, lengths, targets, Blocks(store, lengths), rule)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, winners_dense(positions, sizes, targets, rule))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["strict", "nearest"])
def test_blocks_shared_by_threads_of_the_library_give_the_same_as_torch(random_scene, random_views, padded, rule, kind):
    positions, sizes = random_scene(5, 40_000, kind)
    views = random_views(5, 5, CENTRED, height=20, width=30)
    store, lengths = padded(positions, sizes)
    blocks = Blocks(store, lengths)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = winners_native(native.library(), store, lengths.half(), views, blocks, rule)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found, winners_dense(store, lengths.half(), views, rule))


def test_several_callers_at_once_do_not_disturb_each_other(random_scene, random_views, padded):
    scenes = [random_scene(seed, 30_000, "room") for seed in range(4)]
    views = random_views(5, 4, CENTRED, height=20, width=30)

    def read(scene):
        store, lengths = padded(*scene)
        return winners_native(native.library(), store, lengths, views, Blocks(store, lengths), "nearest")

    alone = [read(scene) for scene in scenes]
    with ThreadPoolExecutor(4) as pool:
        for expected, found in zip(alone * 5, pool.map(read, scenes * 5), strict=True):
            assert torch.equal(found, expected)
