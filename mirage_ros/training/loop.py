"""The training loop of every phase: accelerate, EMA, checkpoints that resume exactly, logs and sample sheets.

What a step sees follows from the seed, the step and the sample's place in the global batch alone. So a run that was
killed goes on as if nothing had happened, and two processes do what one does with twice the batch.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, DistributedDataParallelKwargs, DistributedType
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from tqdm import tqdm

from mirage_ros.media import contact_sheet, save_png
from mirage_ros.training.batches import batches
from mirage_ros.training.journal import Journal
from mirage_ros.training.task import LoopSettings, Task

CHECKPOINTS = "checkpoints"
# Folder with the averaged weights of the last validation.
AVERAGED = "averaged"


class Progress:
    """Where a run is; saved with its checkpoints."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What to save."""
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.step, self.seconds = state["step"], state["seconds"]


def train(task: Task, folder: Path, settings: LoopSettings, *, resume: bool = True) -> dict[str, float]:
    """Train a task to the end of its budget; its EMA weights are in the task afterwards.

    Args:
        task: what to train.
        folder: for checkpoints, logs, the loss curve and sheets.
        settings: how.
        resume: go on from the folder's last checkpoint, if there is one; otherwise start anew.

    Returns:
        the last validation's figures.

    Raises:
        ValueError: accelerate was told to shard the model.
    """
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)]
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(),
        mixed_precision=settings.precision,
        kwargs_handlers=handlers,
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=False),
    )
    if accelerator.distributed_type == DistributedType.FSDP:
        # Averages, checkpoints and validation hold whole weights; of sharded ones each process has a part.
        raise ValueError(
            "distributed_type: expected DDP, got FSDP, whose sharded weights are not averaged or saved here"
        )
    folder.mkdir(parents=True, exist_ok=True)
    parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay
    )
    model, optimiser = accelerator.prepare(task, optimiser)
    ema = EMAModel(parameters, decay=settings.ema, use_ema_warmup=True, power=0.75)
    ema.to(accelerator.device)
    progress, journal = Progress(), Journal(folder, accelerator.is_main_process)
    accelerator.register_for_checkpointing(progress, ema, journal)
    last = latest_checkpoint(folder)
    accelerator.wait_for_everyone()
    if resume and last is not None:
        accelerator.load_state(str(last))
        journal.rewind(progress.step)
        if accelerator.is_main_process:
            print(f"{folder.name}: goes on after step {progress.step}", flush=True)
    elif last is not None and accelerator.is_main_process:
        # Left in place, the old run's checkpoints would be taken for the newest.
        shutil.rmtree(folder / CHECKPOINTS)
    accelerator.wait_for_everyone()
    run = _Run(task, model, optimiser, ema, accelerator, settings, folder, progress, journal, parameters)
    return run.go()


class _Run:
    def __init__(
        self,
        task: Task,
        model: nn.Module,
        optimiser: torch.optim.Optimizer,
        ema: EMAModel,
        accelerator: Accelerator,
        settings: LoopSettings,
        folder: Path,
        progress: Progress,
        journal: Journal,
        parameters: list[nn.Parameter],
    ) -> None:
        self.task, self.model, self.optimiser, self.ema = task, model, optimiser, ema
        self.accelerator, self.settings, self.folder = accelerator, settings, folder
        self.progress, self.journal, self.parameters = progress, journal, parameters
        # What the run starts from is on disk already; before the first step there is nothing to save.
        self.saved_step = progress.step

    def go(self) -> dict[str, float]:
        settings, progress = self.settings, self.progress
        sequence = iter(
            batches(
                self.task.sample,
                seed=settings.seed,
                batch=settings.batch,
                accumulate=settings.accumulate,
                step=progress.step,
                processes=self.accelerator.num_processes,
                process=self.accelerator.process_index,
                workers=settings.workers,
            )
        )
        bar = tqdm(
            total=settings.steps,
            initial=progress.step,
            desc=self.folder.name,
            unit="step",
            disable=not self.accelerator.is_main_process,
            mininterval=5,
        )
        clock = time.monotonic()
        saved = drawn = progress.seconds
        while self._fraction() < 1:
            losses = self._step(sequence)
            now = time.monotonic()
            progress.step, progress.seconds = progress.step + 1, progress.seconds + now - clock
            clock = now
            self.journal.losses(progress.step, losses, self.optimiser.param_groups[0]["lr"])
            bar.update()
            if progress.step % 20 == 0:
                bar.set_postfix(loss=f"{losses['loss']:.4f}")
            # All processes must agree on when to save, and their clocks do not.
            save = self._agreed(progress.seconds - saved > 60 * settings.checkpoint_minutes)
            if self._agreed(progress.seconds - drawn > 60 * settings.sheet_minutes):
                drawn, save = progress.seconds, True
                self._validate()
                clock = time.monotonic()
            if save:
                saved = progress.seconds
                self._save()
                self.task.refresh()
                clock = time.monotonic()
        bar.close()
        self._save()
        figures = self._validate()
        self.ema.copy_to(self.parameters)
        self.journal.close()
        return figures

    def _fraction(self) -> float:
        settings, progress = self.settings, self.progress
        if settings.steps is not None:
            return progress.step / settings.steps
        fraction = torch.tensor(progress.seconds / (60 * settings.minutes), device=self.accelerator.device)
        return float(self.accelerator.reduce(fraction, "mean"))

    def _agreed(self, mine: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return mine
        return bool(self.accelerator.reduce(torch.tensor(float(mine), device=self.accelerator.device), "sum") > 0)

    def _step(self, sequence: Iterator[dict[str, Tensor]]) -> dict[str, float]:
        settings, accelerator, step = self.settings, self.accelerator, self.progress.step
        rate = settings.learning_rate * schedule(step, settings.warmup, min(1.0, self._fraction()))
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self.model.train()
        total: dict[str, Tensor] = {}
        for micro in range(settings.accumulate):
            batch = {name: value.to(accelerator.device) for name, value in next(sequence).items()}
            generator = torch.Generator(accelerator.device)
            place = (step * settings.accumulate + micro) * accelerator.num_processes + accelerator.process_index
            generator.manual_seed(settings.seed * 1_000_003 + place)
            last = micro + 1 == settings.accumulate
            context = nullcontext() if last else accelerator.no_sync(self.model)
            with context, accelerator.autocast():
                losses = self.model(batch, step, generator)
                accelerator.backward(losses["loss"] / settings.accumulate)
            for name, value in losses.items():
                total[name] = total.get(name, torch.zeros((), device=value.device)) + value.detach().float()
        norm = accelerator.clip_grad_norm_(self.parameters, settings.clip)
        # One bad batch must not end a night's run.
        if torch.isfinite(norm):
            self.optimiser.step()
            self.ema.step(self.parameters)
        else:
            warnings.warn(f"step {step}: the gradient is not finite; skipped", stacklevel=2)
        self.optimiser.zero_grad(set_to_none=True)
        means = {name: value / settings.accumulate for name, value in total.items()}
        return {name: float(accelerator.reduce(value, "mean")) for name, value in means.items()} | {"norm": float(norm)}

    def _validate(self) -> dict[str, float]:
        """Validate with the averaged weights."""
        if not self.accelerator.is_main_process:
            return {}
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.task.eval()
        with torch.no_grad():
            figures, rows = self.task.validate()
        part, final = self.folder / f".{AVERAGED}.part", self.folder / AVERAGED
        self.task.save(part)
        if part.is_dir():
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)
        self.ema.restore(self.parameters)
        self.task.train()
        self.journal.figures(self.progress.step, figures)
        if rows:
            sheet = contact_sheet(rows)
            save_png(self.folder / f"sheet-{self.progress.step:07d}.png", sheet)
        return figures

    def _save(self) -> None:
        """A checkpoint under its final name once it is whole; older ones go after it is there."""
        # Kept in memory, not looked up on disk: there, another process may see the folder a moment earlier or later,
        # and would wait for the others for ever.
        if self.saved_step == self.progress.step:
            return
        self.saved_step = self.progress.step
        home = self.folder / CHECKPOINTS
        final = home / f"step-{self.progress.step:08d}"
        part = home / f".part-{self.progress.step:08d}"
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(part))
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            os.replace(part, final)
            for old in sorted(home.glob("step-*"))[:-2]:
                shutil.rmtree(old, ignore_errors=True)
            self.journal.draw()


def latest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint of a run."""
    return max((folder / CHECKPOINTS).glob("step-*"), default=None)


def schedule(step: int, warmup: int, fraction: float) -> float:
    """Factor of the learning rate: linear warm-up in steps, then a cosine over the share of the budget, to 0.01."""
    ramp = min(1.0, (step + 1) / max(1, warmup))
    return ramp * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))
