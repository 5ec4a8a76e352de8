"""Training with the weights of every block split over the processes (FSDP2, torch.distributed.fsdp.fully_shard).

At full size blocks hold nine tenths of the weights, of their gradients, of AdamW's moments and of the averaged weights:
each process keeps its part and gathers one block's weights at a time. What stands outside of blocks is whole in every
process, and its gradients are averaged here. Checkpoints are torch.distributed.checkpoint's: each process writes its
part, and another number of processes can go on from them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from mirage_ros.models.blocks import MirageBlock


class Shards:
    """A network whose blocks are split over the processes.

    Args:
        task: on its device already.
        device: of this process.

    Raises:
        ValueError: there is one process alone.
    """

    def __init__(self, task: nn.Module, device: torch.device) -> None:
        if not dist.is_initialized() or dist.get_world_size() < 2:
            raise ValueError("shard: expected several processes (accelerate launch --num_processes N), got one")
        self._task, self._blocks = task, [module for module in task.modules() if isinstance(module, MirageBlock)]
        mesh = init_device_mesh(device.type, (dist.get_world_size(),))
        for block in self._blocks:
            # Said so because each is a root of its own, which otherwise keeps all its weights after a pass.
            fully_shard(block, mesh=mesh, reshard_after_forward=True)

    def groups(self, parameters: Sequence[nn.Parameter]) -> list[dict[str, Any]]:
        """For an optimiser, which cannot step over both kinds at once: split parameters, and whole ones."""
        kinds = [[one for one in parameters if isinstance(one, DTensor) == split] for split in (True, False)]
        return [{"params": kind} for kind in kinds if kind]

    def begin(self, optimiser: torch.optim.Optimizer) -> None:
        """Give every parameter its moments, zero, before the first step.

        Otherwise those that have not had a gradient yet would be missing in a checkpoint, whose reader expects all.
        """
        get_state_dict(self._task, optimiser)
        for state in optimiser.state.values():
            # It took a step of nothing to make them.
            state["step"].zero_()

    def clip(self, parameters: Sequence[nn.Parameter], most: float) -> Tensor:
        """Average the gradients of whole parameters, and scale all so that their norm is at most this one.

        Those of split parameters were averaged as they were scattered.

        Returns:
            the norm before, the same in every process.
        """
        given = [one for one in parameters if one.grad is not None]
        split, whole = ([one for one in given if isinstance(one, DTensor) == kind] for kind in (True, False))
        for one in whole:
            assert one.grad is not None
            dist.all_reduce(one.grad)
            one.grad /= dist.get_world_size()
        gradients = [[one.grad for one in part if one.grad is not None] for part in (split, whole)]
        norms = [torch.nn.utils.get_total_norm(part) for part in gradients if part]
        norm = torch.stack([n.full_tensor() if isinstance(n, DTensor) else n for n in norms]).norm()
        for part in (split, whole):
            torch.nn.utils.clip_grads_with_norm_(part, most, norm)
        return norm

    @contextmanager
    def whole(self) -> Iterator[None]:
        """All weights in the first process for a while, to be saved as they are used; the others help to gather."""
        split = self.gather()
        try:
            yield
        finally:
            for module, name, weight in split:
                module._parameters[name] = weight

    def gather(self) -> list[tuple[nn.Module, str, nn.Parameter]]:
        """All weights in the first process from now on, in host memory; gives the parts that they were made of.

        By hand, because a sharded module's own state is always its part.
        """
        for block in self._blocks:
            if isinstance(block, FSDPModule):
                block.reshard()
        split: list[tuple[nn.Module, str, nn.Parameter]] = []
        for module in (inner for block in self._blocks for inner in block.modules()):
            for name, weight in module._parameters.items():
                if isinstance(weight, DTensor):
                    full = weight.full_tensor().detach()
                    if dist.get_rank() == 0:
                        split.append((module, name, weight))
                        module._parameters[name] = nn.Parameter(full.cpu(), weight.requires_grad)
        return split

    def save(self, folder: Path, optimiser: torch.optim.Optimizer, ema: EMAModel, position: dict[str, Any]) -> None:
        """Write a checkpoint, each process its part."""
        dcp.save(self._state(optimiser, ema, position), checkpoint_id=folder)

    def load(
        self, folder: Path, optimiser: torch.optim.Optimizer, ema: EMAModel, position: dict[str, Any]
    ) -> dict[str, Any]:
        """Take one back; gives the position that was saved."""
        state = self._state(optimiser, ema, position)
        dcp.load(state, checkpoint_id=folder)
        set_state_dict(self._task, optimiser, model_state_dict=state["model"], optim_state_dict=state["optimiser"])
        ema.optimization_step = state["averages"]
        loaded: dict[str, Any] = state["position"]
        return loaded

    def _state(self, optimiser: torch.optim.Optimizer, ema: EMAModel, position: dict[str, Any]) -> dict[str, Any]:
        model, moments = get_state_dict(self._task, optimiser)
        averaged = {str(index): weight for index, weight in enumerate(ema.shadow_params)}
        return {
            "model": model,
            "optimiser": moments,
            "averaged": averaged,
            "averages": ema.optimization_step,
            "position": position,
        }
