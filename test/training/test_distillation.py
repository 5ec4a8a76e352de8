"""Distillation at a minute width: few steps go where the teacher goes in many, on noise and scenes of their own."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from torch.utils.data import default_collate

from mirage_ros.models.presets import TEST
from mirage_ros.models.schedule import FEW_STEPS, ScheduleConfig
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_transformer, save_transformer
from mirage_ros.training.chunk_samples import StageSettings, chunk_sample
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.loop import train
from mirage_ros.training.recipe import Recipe, new_task, run
from mirage_ros.training.stages import StageTask
from mirage_ros.training.task import LoopSettings
from mirage_ros.world.denoise import draw_noise
from mirage_ros.world.loading import load_networks

PRESET = replace(
    TEST, height=32, width=48, chunk_frames=5, preceding=1, schedule=ScheduleConfig("unipc", steps=12, shift=5.0)
)
LOOP = LoopSettings(steps=80, batch=2, learning_rate=5e-3, warmup=5, precision="no", ema=0.9)


@pytest.fixture
def recipe(new_clips, tmp_path) -> Recipe:
    """A run whose model has a branch that matters; its flow is random, and far from straight."""
    torch.manual_seed(0)
    model = MirageTransformer.from_preset(PRESET)
    with torch.no_grad():
        for parameter in (*model.branch.proj_out.parameters(), model.backbone.proj_out.weight):
            parameter.normal_(std=0.3)
    save_transformer(model, tmp_path / "run" / "model")
    PRESET.new_autoencoder().save_pretrained(tmp_path / "run" / "model" / "vae")
    clips = [new_clips(count, 9)._folder for count in (2, 1)]
    stages = StageSettings(chunks=(2,), sources=(1,), memory_dropout=0.0)
    return Recipe(PRESET, tmp_path / "run", *clips, {"distil": LOOP}, stages=stages)


def imagined(chunks, data, steps: int | None) -> torch.Tensor:
    """Frames after the known one, of chunks of held-out scenes and noise of their own."""
    batch = default_collate([chunk_sample(data, 0, 2, PRESET)] * 4)
    shape = tuple(batch["targets"].transpose(1, 2).shape)
    noise = torch.cat([draw_noise((1, *shape[1:]), 10**6 + row, 0, torch.device("cpu")) for row in range(4)])
    return chunks.imagine(batch, steps, noise=noise)[:, :, 1:]


def the_task(recipe: Recipe) -> StageTask:
    task = new_task(recipe, "distil", ClipCache(recipe.data), ClipCache(recipe.held_out))
    assert isinstance(task, StageTask)
    return task


@pytest.mark.slow
def test_one_step_of_the_student_goes_further_than_four_of_the_teacher(recipe):
    task = the_task(recipe)
    wanted = imagined(task.teacher, task._held_out, None)

    def errors(chunks) -> list[float]:
        return [float((imagined(chunks, task._held_out, n) - wanted).square().mean()) for n in (1, 2)]

    before = errors(task.chunks)
    teacher_in_four = replace(PRESET, schedule=FEW_STEPS)
    four = float((imagined(task.chunks, task._held_out, 4) - wanted).square().mean())
    assert task.chunks.preset == teacher_in_four
    train(task, recipe.folder / "distil", LOOP)
    after = errors(task.chunks)
    assert all(late < 0.25 * early for early, late in zip(before, after, strict=True))
    assert max(after) < four
    # The teacher is still what it was, and holds no second copy of what neither trains.
    assert torch.equal(imagined(task.teacher, task._held_out, None), wanted)
    frozen = task.model.backbone.patch_embedding.weight
    assert task.teacher.model.backbone.patch_embedding.weight is frozen
    assert not frozen.requires_grad


def test_a_broken_run_goes_on_with_its_own_teacher_and_what_it_leaves_is_loaded_with_few_steps(
    recipe, tmp_path, monkeypatch
):
    loop = replace(LOOP, steps=4, batch=1, checkpoint_minutes=1e-9)
    whole = replace(recipe, folder=tmp_path / "whole", source=recipe.model, loops={"distil": loop})
    run(whole)
    draw, drawn = StageTask.sample, []

    def break_off(self, *generators):
        drawn.append(1)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return draw(self, *generators)

    monkeypatch.setattr(StageTask, "sample", break_off)
    broken = replace(whole, folder=tmp_path / "broken")
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    run(broken)
    assert len(drawn) == 5
    models = [load_transformer(each.folder / "distilled") for each in (whole, broken)]
    states = [model.state_dict() for model in models]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    untrained = load_transformer(recipe.model).branch.state_dict()
    assert any(not torch.equal(weight, untrained[name]) for name, weight in models[0].branch.state_dict().items())

    shutil.copytree(recipe.model / "vae", broken.folder / "distilled" / "vae")
    assert load_networks(broken.folder / "distilled", preset=PRESET).preset.schedule == FEW_STEPS
    assert load_networks(recipe.model, preset=PRESET).preset.schedule == PRESET.schedule
    asked = ScheduleConfig("euler", steps=2, shift=3.0)
    assert load_networks(broken.folder / "distilled", preset=PRESET, schedule=asked).preset.schedule == asked


def test_what_cannot_be_distilled_is_refused(recipe, new_task):
    shutil.rmtree(recipe.model / "branch")
    with pytest.raises(FileNotFoundError, match=r"branch: .*run/model has none to distil"):
        the_task(recipe)
    # Without a source either, what would be taught is noise.
    shutil.rmtree(recipe.model / "transformer")
    with pytest.raises(FileNotFoundError, match=r"transformer: .*run/model has none to distil"):
        the_task(recipe)
    with pytest.raises(ValueError, match="preset: expected one of several steps to distil, 'default' takes one"):
        new_task("distil")
