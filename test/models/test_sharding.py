"""The model in shards: two processes, each with a half of every block's weights."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys, torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from mirage_ros.models.blocks import MirageBlock
from mirage_ros.models.presets import TEST
from mirage_ros.models.transformer import MirageTransformer

torch.set_num_threads(1)
dist.init_process_group("gloo")
rank, mesh = dist.get_rank(), init_device_mesh("cpu", (2,))

class Loss(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.model = MirageTransformer.from_preset(TEST)
        self.model.set_gradient_checkpointing()
        self.model.backbone.requires_grad_(False)
        for parameter in self.model.branch.proj_out.parameters():
            torch.nn.init.normal_(parameter, std=0.1)

    def forward(self, latents, memory):
        context = self.model.embed_text(torch.zeros(len(latents), 1, 16))
        return self.model(latents, torch.full((len(latents), 3), 500.0), context, memory).square().mean()

generator = torch.Generator().manual_seed(1)
latents = torch.randn(2, 6, 3, 4, 6, generator=generator)
memory = torch.randn(2, 7, 3, 4, 6, generator=generator)
whole, sharded = Loss(), Loss()
for block in [module for module in sharded.modules() if isinstance(module, MirageBlock)]:
    fully_shard(block, mesh=mesh)
fully_shard(sharded, mesh=mesh)
assert all(isinstance(parameter, DTensor) for parameter in sharded.parameters())
losses = {}
for name, model, part in (("whole", whole, slice(None)), ("sharded", sharded, slice(rank, rank + 1))):
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses[name] = []
    for _ in range(3):
        loss = model(latents[part], memory[part])
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        mean = loss.detach().clone()
        if name == "sharded":
            dist.all_reduce(mean)
            mean /= 2
        losses[name].append(float(mean))
if rank == 0:
    print(json.dumps(losses))
dist.barrier()
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_halves_train_like_the_whole_with_both_samples(tmp_path: Path) -> None:
    (tmp_path / "shards.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "PYTHONPATH": str(Path.cwd())}
    processes = [
        subprocess.Popen(
            [sys.executable, str(tmp_path / "shards.py")],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
        )
        for rank in range(2)
    ]
    try:
        printed = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0]
    losses = json.loads(printed[0].splitlines()[-1])
    assert losses["whole"][2] < 0.5 * losses["whole"][0]
    # Gradients are summed in another order.
    assert losses["sharded"] == pytest.approx(losses["whole"], rel=1e-4)
