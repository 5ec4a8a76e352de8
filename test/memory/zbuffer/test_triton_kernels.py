"""What the kernels compile to, for GPUs that need not be here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton")

COMPILE = """
import json, logging, sys
import torch

sys.modules["triton"] = None
from mirage_ros.memory.zbuffer import cuda as triton_read
report = {"available": triton_read.available(torch.device("cuda", 0))}
del sys.modules["triton"]

class Records(logging.Handler):
    def emit(self, record):
        report["warning"] = record.getMessage()

logging.getLogger("mirage_ros").addHandler(Records())
report["trial"] = triton_read.trial(torch.device("cpu"))

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mirage_ros.memory.zbuffer import triton_kernels as kernels

def ptx(kernel, capability, fused, **known):
    names = {"positions": "*fp32", "sizes": "*fp16", "matrices": "*fp32", "half_focal": "*fp32", "limit": "*fp32",
             "keys": "*i64", "grid": "*i64" if known.get("KEYS") else "*i32"}
    constants = {"FOOTPRINT": 4, "RADIUS": 4, "INTEGER": False, "BLOCK": 256}
    constants = {name: value for name, value in {**constants, **known}.items() if name in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else names.get(name, "i32") for name in kernel.arg_names}
    options = {"num_warps": 4, "enable_fp_fusion": fused}
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(ASTSource(kernel, signature, constants), target=target, options=options).asm["ptx"]

report["plain"] = {
    "strict": ptx(kernels.frontmost, 90, False, KEYS=True),
    "surface": ptx(kernels.frontmost, 90, False, KEYS=False, views=1),
    "nearest": ptx(kernels.nearest, 90, False, INTEGER=True),
    "unpack": ptx(kernels.unpack, 75, False),
}
report["fused"] = ptx(kernels.frontmost, 90, True, KEYS=True)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """What a process says that compiles the kernels for GPUs and then tries them on a CPU, which cannot work."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    done = subprocess.run([sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_machine_code_rounds_as_the_contract_says(compiled):
    plain = compiled["plain"]
    for name, code in plain.items():
        assert not re.search(r"\bfma\.|\.ftz|\.approx|div\.full", code), name
    # Were fusion not switched off, there would be some.
    assert re.search(r"\bfma\.rn\.f32", compiled["fused"])
    for name in ("strict", "nearest"):
        assert len(re.findall(r"div\.rn\.f32", plain[name])) >= 4
        assert re.search(r"(red|atom)\S*\.min\.s64", plain[name])
    assert re.search(r"(red|atom)\S*\.min\.s32", plain["surface"])


def test_a_machine_that_cannot_run_the_kernels_says_why_and_reads_with_torch(compiled):
    assert compiled["available"] is False
    assert compiled["trial"] is False
    assert re.match("reading with torch instead of Triton on cpu: .+: .+", compiled["warning"])
