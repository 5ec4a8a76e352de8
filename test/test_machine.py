"""Precision, threads and waiting, as the machine wants them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mirage_ros import machine


def test_what_the_user_set_stays():
    environment = {"OMP_WAIT_POLICY": "ACTIVE"}
    assert machine.wait_passively(environment)
    assert environment == {"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "0", "KMP_BLOCKTIME": "0"}


def test_it_says_when_it_is_too_late():
    # torch is imported here already.
    before = dict(os.environ)
    try:
        assert not machine.wait_passively()
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_deciding_how_to_wait_does_not_load_torch():
    code = "import sys; from mirage_ros import machine; print(machine.wait_passively(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.split() == ["True", "False"]


def test_bfloat16_follows_what_torch_says_of_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, "avx512_bf16": False})
    assert machine.fast_dtype() == torch.float32
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert machine.fast_dtype() == torch.bfloat16
    # Old GPUs emulate it.
    for native, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert machine.fast_dtype("cuda") == dtype


def test_threads():
    before = torch.get_num_threads()
    try:
        assert machine.set_threads(1) == torch.get_num_threads() == 1
        assert 1 <= machine.set_threads() <= machine.usable_cores()
        with pytest.raises(ValueError, match="threads: expected a number from 0, got -1"):
            machine.set_threads(-1)
    finally:
        torch.set_num_threads(before)
