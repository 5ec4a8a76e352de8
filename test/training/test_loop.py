"""The training loop: resuming, several processes, and what a run leaves behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mirage_ros.training.loop import latest_checkpoint, schedule, train
from mirage_ros.training.task import LoopSettings, TrainingTask

SETTINGS = LoopSettings(steps=12, batch=4, learning_rate=1e-2, warmup=3, precision="no", checkpoint_minutes=1e-9)


class Line(TrainingTask):
    """Fits a small network to a noisy line; dropout and noise make it depend on every random number."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(1, 8), nn.SiLU(), nn.Linear(8, 1))
        self.stop_at: int | None = None

    def sample(self, rng, shared):
        x = torch.from_numpy(rng.uniform(-1, 1, 1).astype(np.float32))
        return {"x": x, "y": 2 * x + float(shared.uniform(-0.1, 0.1))}

    def forward(self, batch, step, generator):
        if self.stop_at is not None and step >= self.stop_at:
            raise KeyboardInterrupt
        loss = (self.network(batch["x"]) - batch["y"]).square().mean()
        return {"loss": loss, "twice": 2 * loss}

    def validate(self):
        x = torch.linspace(-1, 1, 9)[:, None]
        picture = np.zeros((8, 8, 3), np.uint8)
        return {"error": float((self.network(x) - 2 * x).square().mean())}, [("nothing", [picture])]


def weights(task: TrainingTask) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in task.parameters()])


def test_a_run_that_broke_off_goes_on_exactly(tmp_path):
    whole = Line()
    train(whole, tmp_path / "whole", SETTINGS)
    broken = Line()
    broken.stop_at = 7
    with pytest.raises(KeyboardInterrupt):
        train(broken, tmp_path / "broken", SETTINGS)
    resumed = Line()
    figures = train(resumed, tmp_path / "broken", SETTINGS)
    assert torch.equal(weights(resumed), weights(whole))
    assert (
        figures["error"] == json.loads((tmp_path / "whole" / "validation.jsonl").read_text().splitlines()[-1])["error"]
    )


@pytest.mark.slow
def test_a_killed_process_loses_the_last_interval_at_most(tmp_path, capsys):
    script = tmp_path / "endless.py"
    source = Path(__file__).read_text().split("SETTINGS =")[0]
    line = "class Line" + Path(__file__).read_text().split("class Line")[1].split("def weights")[0]
    settings = "LoopSettings(steps=10**9, batch=2, precision='no', checkpoint_minutes=0.005)"
    script.write_text(f"{source}{line}train(Line(), Path({str(tmp_path / 'run')!r}), {settings})\n")
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    try:
        deadline = time.monotonic() + 120
        while latest_checkpoint(tmp_path / "run") is None:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.05)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    step = int(checkpoint.name.removeprefix("step-"))
    task = Line()
    capsys.readouterr()
    train(task, tmp_path / "run", LoopSettings(steps=step + 2, batch=2, precision="no"))
    assert f"run: goes on after step {step}\n" in capsys.readouterr().out
    assert latest_checkpoint(tmp_path / "run").name == f"step-{step + 2:08d}"


def test_starting_anew_forgets_the_run_before(tmp_path):
    train(Line(), tmp_path / "run", SETTINGS)
    short = LoopSettings(**{**vars(SETTINGS), "steps": 5})
    anew, alone = Line(), Line()
    train(anew, tmp_path / "run", short, resume=False)
    assert [folder.name for folder in sorted((tmp_path / "run" / "checkpoints").glob("step-*"))] == [
        "step-00000004",
        "step-00000005",
    ]
    train(alone, tmp_path / "alone", short)
    assert torch.equal(weights(anew), weights(alone))


def test_summing_up_two_passes_is_one_pass_of_twice_the_batch(tmp_path):
    one, two = Line(), Line()
    train(one, tmp_path / "one", SETTINGS)
    train(two, tmp_path / "two", LoopSettings(**{**vars(SETTINGS), "batch": 2, "accumulate": 2}))
    assert torch.allclose(weights(one), weights(two), atol=1e-5)


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(tmp_path, run_twice):
    """Gradients are summed in another order, hence the tolerance."""
    script = tmp_path / "pair.py"
    text = Path(__file__).read_text()
    script.write_text(
        text.split("SETTINGS =")[0]
        + "class Line"
        + text.split("class Line")[1].split("def test_a_run")[0]
        + f"settings = LoopSettings(**{ {**vars(SETTINGS), 'batch': 2}!r})\n"
        + f"task = Line()\ntrain(task, Path({str(tmp_path / 'pair')!r}), settings)\n"
        + f"if os.environ['RANK'] == '0': torch.save(weights(task), {str(tmp_path / 'pair.pt')!r})\n"
        + "torch.distributed.destroy_process_group()\n"
    )
    run_twice(script, 250)
    one = Line()
    train(one, tmp_path / "one", SETTINGS)
    assert torch.allclose(torch.load(tmp_path / "pair.pt"), weights(one), atol=1e-5)


@pytest.mark.slow
def test_a_run_leaves_logs_sheet_and_two_checkpoints(tmp_path):
    train(Line(), tmp_path, LoopSettings(steps=41, batch=2, precision="no", checkpoint_minutes=1e-9))
    assert json.loads((tmp_path / "validation.jsonl").read_text())["step"] == 41
    assert (tmp_path / "sheet-0000041.png").is_file()
    assert list((tmp_path / "tensorboard").iterdir())
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000040", "step-00000041"]


def test_the_learning_rate_warms_up_and_falls():
    factors = [schedule(step, 10, step / 100) for step in range(101)]
    assert factors[0] == pytest.approx(0.1, abs=0.01)
    assert max(factors) == factors[10] or max(factors) == factors[9]
    assert factors[100] == pytest.approx(0.01)


def test_a_task_that_lacks_a_part_cannot_be_made():
    class Half(TrainingTask):
        def sample(self, rng, shared):
            return {}

    with pytest.raises(TypeError, match="abstract methods '?forward'?, '?validate'?"):
        Half()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"batch": 0}, {"minutes": 0.0}, {"precision": "fp16"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopSettings(**wrong)
