"""The compiled gather against torch's, bit for bit, and what happens where the library is missing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mirage_ros.memory import native
from mirage_ros.memory.native import gather_native, load_library

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
