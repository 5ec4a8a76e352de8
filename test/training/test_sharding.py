"""Training with blocks split over two processes, against one process with both halves of every batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mirage_ros.models.presets import TEST
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import save_transformer
from mirage_ros.training.loop import train
from mirage_ros.training.task import LoopSettings, TrainingTask

SETTINGS = LoopSettings(steps=4, batch=2, learning_rate=1e-2, warmup=1, clip=0.05, precision="no", ema=0.5)


class Flow(TrainingTask):
    """The branch learns a flow of nothing; the backbone is frozen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = MirageTransformer.from_preset(TEST)
        self.model.backbone.requires_grad_(False)
        self.model.set_gradient_checkpointing()
        for parameter in self.model.branch.proj_out.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        self.stop_at: int | None = None

    def sample(self, rng, shared):
        draw = rng.standard_normal
        return {"latents": torch.from_numpy(draw((6, 3, 4, 6), np.float32)), "memory": torch.ones(7, 3, 4, 6)}

    def forward(self, batch, step, generator):
        if self.stop_at is not None and step >= self.stop_at:
            raise KeyboardInterrupt
        return {"loss": self._flow(batch["latents"], batch["memory"]).square().mean()}

    def _flow(self, latents, memory):
        context = self.model.embed_text(torch.zeros(len(latents), 1, 16))
        return self.model(latents, torch.full((len(latents), 3), 500.0), context, memory)

    def validate(self):
        return {"flow": float(self._flow(torch.ones(1, 6, 3, 4, 6), torch.ones(1, 7, 3, 4, 6)).square().mean())}, []

    def save(self, folder):
        save_transformer(self.model, folder)


@pytest.mark.slow
@pytest.mark.timeout(1000)
def test_two_shards_train_clip_average_break_off_and_go_on_like_one_process(tmp_path: Path, run_twice) -> None:
    script, text = tmp_path / "shards.py", Path(__file__).read_text()
    settings = {**vars(SETTINGS), "batch": 1, "shard": True, "checkpoint_minutes": 1e-9}
    script.write_text(
        text.split("SETTINGS =")[0]
        + "import os\nfrom torch.distributed.tensor import DTensor\n"
        + "class Flow"
        + text.split("class Flow", 1)[1].split("@pytest.mark.slow")[0]
        + f"settings, folder = LoopSettings(**{settings!r}), Path({str(tmp_path / 'pair')!r})\n"
        + "task = Flow()\n"
        + "task.stop_at = 2\n"
        + "try:\n    train(task, folder, settings)\nexcept KeyboardInterrupt:\n    pass\n"
        + "held = [p for p in task.model.branch.blocks.parameters() if p.ndim == 2]\n"
        + "assert held and all(isinstance(p, DTensor) and 2 * p.to_local().numel() == p.numel() for p in held)\n"
        + "task = Flow()\n"
        + "figures = train(task, folder, settings)\n"
        + "if os.environ['RANK'] == '0':\n"
        + f"    task.save(Path({str(tmp_path / 'saved')!r}))\n"
        + f"    torch.save(figures, {str(tmp_path / 'figures.pt')!r})\n"
        + "torch.distributed.destroy_process_group()\n"
    )
    run_twice(script, 900)
    one = Flow()
    before = {name: tensor.clone() for name, tensor in one.model.branch.state_dict().items()}
    figures = train(one, tmp_path / "one", SETTINGS)
    assert torch.load(tmp_path / "figures.pt")["flow"] == pytest.approx(figures["flow"], rel=1e-3)
    saved = load_file(tmp_path / "saved" / "branch" / "diffusion_pytorch_model.safetensors")
    averaged = load_file(tmp_path / "pair" / "averaged" / "branch" / "diffusion_pytorch_model.safetensors")
    moved = max(float((tensor - before[name]).abs().max()) for name, tensor in one.model.branch.state_dict().items())
    for name, tensor in one.model.branch.state_dict().items():
        # Gradients are summed in another order, and AdamW divides small ones by their own size.
        assert (saved[name] - tensor).abs().max() < 0.01 * moved
        assert torch.equal(saved[name], averaged[name])


def test_one_process_has_nothing_to_split(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shard: expected several processes"):
        train(Flow(), tmp_path, LoopSettings(**{**vars(SETTINGS), "shard": True}))
