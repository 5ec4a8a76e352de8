"""The generator's samples and that its loss can be learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mirage_ros.models.generator import OpenView
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.generator import GeneratorTask, opened
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.residuals import EACH, SOURCES, ResidualCache


@pytest.fixture
def task(request, new_clips, tiny_preset, tmp_path) -> GeneratorTask:
    torch.manual_seed(0)
    clips = new_clips(count=1, frames=12)
    autoencoder = tiny_preset.new_autoencoder().eval()
    data = LatentCache(clips, autoencoder, tmp_path / "latents")
    chunks = ChunkModel(
        MirageTransformer.from_preset(tiny_preset).eval(),
        tiny_preset,
        tiny_preset.new_reader(),
        autoencoder,
        Prompts(tiny_preset),
    )
    cache = ResidualCache(data, chunks, tmp_path / "means")
    return GeneratorTask(tiny_preset.new_generator(), getattr(request, "param", "coarse"), cache, cache, autoencoder)


def test_samples_are_keyframes_whose_mean_is_the_readout_where_that_is_sharp(task, tmp_path):
    data = task._held_out
    assert len(data) == len(SOURCES) * EACH
    assert len(list((tmp_path / "means").iterdir())) == 1
    preset = data.chunks.preset
    for place in range(len(data)):
        sample, (clip, frame) = data.sample(place), data.frame(place)
        truth = data.data.latents(clip, np.array([frame]))[0]
        channels = len(truth)
        assert torch.allclose(sample["truth"][:channels], truth, atol=2e-3)
        sharp = sample["sharp"].expand(channels, -1, -1)
        readout = sample["memory"][:channels]
        assert torch.allclose(sample["mean"][:channels][sharp], readout[sharp], atol=2e-3)
        assert len(sample["mean"]) == channels + preset.depth_channels
        assert data.hidden[place] == pytest.approx(1 - float(sample["visible"].float().mean()), abs=1e-6)
    assert 0 < data.hidden.max() < 1
    # The more is hidden, the more often it is drawn.
    drawn = [data.draw(np.random.default_rng(seed)) for seed in range(500)]
    assert data.hidden[drawn].mean() > data.hidden.mean()


def test_the_same_clip_gives_the_same_samples(task, tmp_path):
    data = task._held_out
    again = ResidualCache(data.data, data.chunks, tmp_path / "again")
    for name, value in data.sample(0).items():
        assert torch.equal(value, again.sample(0)[name]), name


def test_what_is_visible_but_not_sharp_is_open_or_not(task):
    sample = task._held_out.sample(int(task._held_out.hidden.argmax()))
    sharp, visible = (opened(sample, keep_visible=keep)["is_open"] for keep in (False, True))
    assert torch.equal(~visible[0], sample["visible"][0])
    assert torch.equal(~sharp[0], sample["sharp"][0])
    assert (sharp | ~visible).all()


@pytest.mark.parametrize("task", ["coarse", "fine"], indirect=True)
def test_the_loss_of_either_part_can_be_learned_and_leaves_the_other(task):
    generator = task.generator
    samples = [task.sample(np.random.default_rng(i), np.random.default_rng(0)) for i in range(4)]
    batch = default_collate(samples)
    assert batch["mean"].shape[-1] == batch["is_open"].shape[-1]
    learnt = [parameter for parameter in task.parameters() if parameter.requires_grad]
    own = (generator.stem, generator.coarse) if task._part == "coarse" else (generator.fine, generator.scale)
    assert {*map(id, learnt)} == {id(parameter) for network in own for parameter in network.parameters()}
    optimiser = torch.optim.Adam(learnt, lr=3e-3)
    losses = []
    for step in range(40):
        figures = task(batch, step, torch.Generator().manual_seed(step % 3))
        optimiser.zero_grad()
        figures["loss"].backward()
        optimiser.step()
        losses.append(float((figures["latents"] + figures["depth"]).detach()))
    assert np.mean(losses[-5:]) < 0.75 * np.mean(losses[:5])


@pytest.mark.parametrize("task", ["fine"], indirect=True)
def test_the_scale_tells_where_residuals_are_strong(task):
    generator = task.generator
    batch = default_collate([task.sample(np.random.default_rng(i), np.random.default_rng(0)) for i in range(4)])
    # Half of each view is as the mean says, the other is not.
    quiet = batch["mean"].shape[-1] // 2
    strength = torch.full(batch["mean"].shape[-1:], 2.0)
    strength[:quiet] = 0.02
    batch["truth"] = batch["mean"] + strength * torch.randn(batch["mean"].shape)
    optimiser = torch.optim.Adam(generator.scale.parameters(), lr=3e-3)
    for step in range(40):
        loss = task(batch, step, torch.Generator().manual_seed(step))["scale"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        scales = generator.log_scales(OpenView(batch["mean"], batch["memory"], batch["is_open"]))
    is_open = generator.opened(batch["is_open"])
    left, right = (scales[..., part][is_open[..., part]].mean() for part in (slice(quiet), slice(quiet, None)))
    assert left < right - 0.5


def test_validation_draws_and_says_how_well(task):
    with torch.no_grad():
        figures, rows = task.validate()
    assert set(figures) == {"mean", "mean_low16", "sample", "sample_low16"}
    assert all(np.isfinite(value) for value in figures.values())
    assert [caption for caption, _ in rows] == ["truth", "known", "mean", "sample"]
