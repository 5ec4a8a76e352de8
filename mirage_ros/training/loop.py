"""The training loop of every phase: accelerate, EMA, checkpoints that resume exactly, logs and sample sheets.

What a step sees follows from the seed, the step and the sample's place in the global batch alone. So a run that was
killed goes on as if nothing had happened, and two processes do what one does with twice the batch.
"""

from __future__ import annotations

import json
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
from torch import Tensor
from tqdm import tqdm

from mirage_ros.media import contact_sheet, save_png
from mirage_ros.training.batches import batches
from mirage_ros.training.sharding import Shards
from mirage_ros.training.task import LoopSettings, TrainingTask

CHECKPOINTS, VALIDATIONS = "checkpoints", "validation.jsonl"
# Folder with the averaged weights of the last validation.
AVERAGED = "averaged"


class RunPosition:
    """Where a run is, in steps and seconds; saved with its checkpoints."""

    def __init__(self) -> None:
        self.step, self.seconds = 0, 0.0

    def state_dict(self) -> dict[str, Any]:
        """What to save."""
        return {"step": self.step, "seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take it back."""
        self.step, self.seconds = state["step"], state["seconds"]


def train(task: TrainingTask, folder: Path, settings: LoopSettings, *, resume: bool = True) -> dict[str, float]:
    """Train a task to the end of its budget; its EMA weights are in the task of the first process afterwards.

    Args:
        task: what to train.
        resume: go on from the folder's last checkpoint, if there is one; otherwise start anew.

    Returns:
        the last validation's figures.

    Raises:
        ValueError: accelerate was told to shard the model, or `shard` is set for one process.
    """
    return _Run(task, folder, settings, resume).go()


class _Run:
    def __init__(self, task: TrainingTask, folder: Path, settings: LoopSettings, resume: bool) -> None:
        self.task, self.folder, self.settings = task, folder, settings
        self.accelerator = accelerator = Accelerator(
            cpu=not torch.cuda.is_available(),
            mixed_precision=settings.precision,
            kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
            dataloader_config=DataLoaderConfiguration(use_seedable_sampler=False),
            log_with="tensorboard",
            project_dir=folder,
        )
        if accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError("distributed_type: expected DDP, got FSDP; this loop shards by itself, with `shard`")
        folder.mkdir(parents=True, exist_ok=True)
        self.shards = Shards(task.to(accelerator.device), accelerator.device) if settings.shard else None
        self.parameters = [parameter for parameter in task.parameters() if parameter.requires_grad]
        optimiser = torch.optim.AdamW(
            self.parameters if self.shards is None else self.shards.groups(self.parameters),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
        )
        if self.shards is not None:
            self.shards.begin(optimiser)
        prepared: Any = accelerator.prepare(task, optimiser) if self.shards is None else (task, optimiser)
        self.model, self.optimiser = prepared
        self.ema = EMAModel(self.parameters, decay=settings.ema, use_ema_warmup=True, power=0.75)
        self.ema.to(accelerator.device)
        self.position = RunPosition()
        accelerator.register_for_checkpointing(self.position, self.ema)
        last = latest_checkpoint(folder)
        accelerator.wait_for_everyone()
        if resume and last is not None:
            if self.shards is None:
                accelerator.load_state(str(last))
            else:
                saved = self.shards.load(last, self.optimiser, self.ema, self.position.state_dict())
                self.position.load_state_dict(saved)
            if accelerator.is_main_process:
                print(f"{folder.name}: goes on after step {self.position.step}", flush=True)
        elif last is not None and accelerator.is_main_process:
            # Left in place, the old run's checkpoints would be taken for the newest.
            shutil.rmtree(folder / CHECKPOINTS)
            (folder / VALIDATIONS).unlink(missing_ok=True)
        accelerator.wait_for_everyone()
        # TensorBoard hides what an interrupted run wrote beyond.
        accelerator.init_trackers("tensorboard", init_kwargs={"tensorboard": {"purge_step": self.position.step}})
        # What the run starts from is on disk already; before the first step there is nothing to save.
        self.saved_step = self.position.step

    def go(self) -> dict[str, float]:
        settings, position = self.settings, self.position
        sequence = iter(
            batches(
                self.task.sample,
                seed=settings.seed,
                batch=settings.batch,
                accumulate=settings.accumulate,
                step=position.step,
                processes=self.accelerator.num_processes,
                process=self.accelerator.process_index,
                workers=settings.workers,
            )
        )
        bar = tqdm(
            total=settings.steps,
            initial=position.step,
            desc=self.folder.name,
            unit="step",
            disable=not self.accelerator.is_main_process,
            mininterval=5,
        )
        clock = time.monotonic()
        saved = drawn = position.seconds
        while self._fraction() < 1:
            losses = self._step(sequence)
            now = time.monotonic()
            position.step, position.seconds = position.step + 1, position.seconds + now - clock
            clock = now
            scalars = {f"loss/{name}": value for name, value in losses.items()}
            self.accelerator.log(scalars | {"learning_rate": self.optimiser.param_groups[0]["lr"]}, position.step)
            bar.update()
            if position.step % 20 == 0:
                bar.set_postfix(loss=f"{losses['loss']:.4f}")
            # All processes must agree on when to save, and their clocks do not.
            save = self._agreed(position.seconds - saved > 60 * settings.checkpoint_minutes)
            if self._agreed(position.seconds - drawn > 60 * settings.sheet_minutes):
                drawn, save = position.seconds, True
                self._validate()
                clock = time.monotonic()
            if save:
                saved = position.seconds
                self._save()
                self.task.refresh()
                clock = time.monotonic()
        bar.close()
        self._save()
        figures = self._validate()
        self.ema.copy_to(self.parameters)
        if self.shards is not None:
            self.shards.gather()
        for tracker in self.accelerator.trackers:
            tracker.finish()
        return figures

    def _fraction(self) -> float:
        settings, position = self.settings, self.position
        if settings.steps is not None:
            return position.step / settings.steps
        fraction = torch.tensor(position.seconds / (60 * settings.minutes), device=self.accelerator.device)
        return float(self.accelerator.reduce(fraction, "mean"))

    def _agreed(self, mine: bool) -> bool:
        if self.accelerator.num_processes == 1:
            return mine
        return bool(self.accelerator.reduce(torch.tensor(float(mine), device=self.accelerator.device), "sum") > 0)

    def _step(self, sequence: Iterator[dict[str, Tensor]]) -> dict[str, float]:
        settings, accelerator, step = self.settings, self.accelerator, self.position.step
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
        clip = accelerator.clip_grad_norm_ if self.shards is None else self.shards.clip
        norm = clip(self.parameters, settings.clip)
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
        """Validate with the averaged weights; where each process has a part of them, all take part."""
        if self.shards is None and not self.accelerator.is_main_process:
            return {}
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.task.eval()
        with torch.no_grad():
            figures, rows = self.task.validate()
        with nullcontext() if self.shards is None else self.shards.whole():
            if self.accelerator.is_main_process:
                self._keep_averaged()
        self.ema.restore(self.parameters)
        self.task.train()
        if not self.accelerator.is_main_process:
            return {}
        self._note(figures)
        if rows:
            save_png(self.folder / f"sheet-{self.position.step:07d}.png", contact_sheet(rows))
        return figures

    def _keep_averaged(self) -> None:
        part, final = self.folder / f".{AVERAGED}.part", self.folder / AVERAGED
        self.task.save(part)
        if part.is_dir():
            shutil.rmtree(final, ignore_errors=True)
            os.replace(part, final)

    def _note(self, figures: dict[str, float]) -> None:
        """Write down a validation; those of an interrupted run beyond this step go."""
        step, file = self.position.step, self.folder / VALIDATIONS
        self.accelerator.log({f"validation/{name}": value for name, value in figures.items()}, step)
        before = file.read_text().splitlines() if file.is_file() and step else []
        kept = [line for line in before if json.loads(line)["step"] < step]
        file.write_text("\n".join([*kept, json.dumps({"step": step, **figures})]) + "\n")

    def _save(self) -> None:
        """A checkpoint under its final name once it is whole; older ones go after it is there."""
        # Kept in memory, not looked up on disk: there, another process may see the folder a moment earlier or later,
        # and would wait for the others for ever.
        if self.saved_step == self.position.step:
            return
        self.saved_step = self.position.step
        home = self.folder / CHECKPOINTS
        final = home / f"step-{self.position.step:08d}"
        part = home / f".part-{self.position.step:08d}"
        self.accelerator.wait_for_everyone()
        if self.shards is None:
            self.accelerator.save_state(str(part))
        else:
            self.shards.save(part, self.optimiser, self.ema, self.position.state_dict())
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            os.replace(part, final)
            for old in sorted(home.glob("step-*"))[:-2]:
                shutil.rmtree(old, ignore_errors=True)


def latest_checkpoint(folder: Path) -> Path | None:
    """The last whole checkpoint of a run."""
    return max((folder / CHECKPOINTS).glob("step-*"), default=None)


def schedule(step: int, warmup: int, fraction: float) -> float:
    """Factor of the learning rate: linear warm-up in steps, then a cosine over the share of the budget, to 0.01."""
    ramp = min(1.0, (step + 1) / max(1, warmup))
    return ramp * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * fraction)))
