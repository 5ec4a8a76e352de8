"""What each stage trains, what its memories hold, and that its loss can be learned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.lora import has_lora
from mirage_ros.models.presets import DEFAULT, TEST, WAN22
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.training.chunk_samples import StageSettings, chunk_sample
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import ClipLatents
from mirage_ros.training.measure_chunks import measure_imagination
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.rollout_memory import OWN_SOURCES, own_memory
from mirage_ros.training.shards import write_shard
from mirage_ros.training.stage_losses import moving_cells, picture_error, true_losses
from mirage_ros.training.stages import StageTask


def batch_of(task, count: int = 2, shared: int = 0) -> dict[str, torch.Tensor]:
    samples = [task.sample(np.random.default_rng(i), np.random.default_rng(shared)) for i in range(count)]
    return default_collate(samples)


def unbatched(batch: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    return [{name: value[i] for name, value in batch.items()} for i in range(len(batch["targets"]))]


def trained_parts(task) -> set[str]:
    return {part_of(name) for name, parameter in task.named_parameters() if parameter.requires_grad}


def part_of(name: str) -> str:
    return "lora" if "lora_" in name else "decoder" if name.startswith("decoder.") else name.split(".")[1]


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        ("backbone", {"backbone"}),
        ("branch", {"branch"}),
        ("lora", {"branch", "lora"}),
        ("all", {"backbone", "branch", "decoder"}),
    ],
)
def test_a_stage_trains_its_parts_only(new_task, stage, parts):
    task = new_task(stage)
    assert trained_parts(task) == parts
    assert has_lora(task.model) == (stage == "lora")
    before = {name: value.clone() for name, value in task.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in task.parameters() if p.requires_grad], lr=1e-2)
    losses = task(batch_of(task), 0, torch.Generator().manual_seed(0))
    losses["loss"].backward()
    optimiser.step()
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert {part_of(name) for name in changed} <= parts


def test_networks_that_are_not_trained_follow_the_task(new_task):
    task = new_task("all")
    held = list(task.held())
    assert len(held) == 2
    names = set(task.state_dict())
    task.to(torch.float64)
    assert all(value.dtype == torch.float64 for part in held for value in part.state_dict().values())
    assert held[0]._mean.dtype == torch.float64
    assert set(task.state_dict()) == names
    assert all(name.startswith(("model.", "decoder.")) for name in names)


def test_what_moves_and_the_sky_are_not_lifted(new_task):
    task = new_task()
    batch = batch_of(task)
    moving = moving_cells(batch)
    assert moving.any()
    reading = task.chunks.read(batch)
    # The ball is red at 1 m; the wall at 2 m is all that a memory may show.
    shown = reading.depth[torch.isfinite(reading.depth)]
    assert len(shown)
    assert shown.min() > 1.5
    assert torch.isnan(batch["source_depth"][:, :, :2]).all()


def test_the_known_frame_is_written_in_any_place(new_task):
    task = new_task(sources=(2,), own_outputs=0.0)
    places = set()
    for seed in range(12):
        sample = task.sample(np.random.default_rng(seed), np.random.default_rng(0))
        same = [torch.equal(pose, sample["cam2world"][0]) for pose in sample["source_cam2world"]]
        assert sum(same) == 1
        places.add(same.index(True))
        # What was written before holds what both show.
        assert sample["source_held"][0].sum() >= sample["source_held"][1].sum()
    assert places == {0, 1}


def test_the_known_frame_is_no_reference(new_task):
    task = new_task(sources=(3,), own_outputs=0.0, latent_noise=0.0)
    references = 0
    for seed in range(8):
        sample = task.sample(np.random.default_rng(seed), np.random.default_rng(seed))
        references += len(sample["references"])
        assert not any(torch.equal(frame, sample["targets"][0]) for frame in sample["references"])
    assert references


def test_an_untrained_branch_imagines_the_readout_where_there_is_one(new_task):
    task = new_task(memory_dropout=0.0)
    batch = default_collate([chunk_sample(task._data, 0, 3, task.chunks.preset)])
    reading = task.chunks.read(batch)
    latents = task.chunks.imagine(batch, steps=2)
    seen = reading.visible.transpose(1, 2).expand(-1, 8, -1, -1, -1)[:, :, 1:] > 0
    assert 0.5 < seen.float().mean() < 1
    assert torch.allclose(latents[:, :8, 1:][seen], reading.latents.transpose(1, 2)[:, :, 1:][seen], atol=1e-4)
    assert torch.equal(latents[:, :, :1], task.chunks.clean(batch)[0][:, :, :1])


def test_a_forgotten_memory_shows_nothing(new_task):
    task = new_task(memory_dropout=1.0, picture_weight=0.0)
    batch = batch_of(task)
    assert batch["forget"].all()
    losses = task(batch, 0, torch.Generator().manual_seed(0))
    assert losses["seen"] == 0
    assert torch.allclose(losses["hidden"], losses["loss"])


def test_pictures_of_some_targets_are_part_of_the_loss(new_task):
    task = new_task(picture_weight=3.0, pictures=1)
    batch = batch_of(task, 8)
    assert sorted({place for places in batch["drawn"].tolist() for place in places}) == [1, 2]
    losses = task(batch, 0, torch.Generator().manual_seed(0))
    without = new_task(picture_weight=0.0, pictures=1)(batch, 0, torch.Generator().manual_seed(0))
    assert losses["picture"] > 0
    assert torch.allclose(losses["loss"], without["loss"] + 3 * losses["picture"])
    # True latents would be drawn as the autoencoder draws them.
    truth = task.chunks.clean(batch)[0]
    drawn = torch.stack([task.chunks.autoencoder.decode_images(b["targets"])[0] for b in unbatched(batch)])
    drawn = torch.stack([pictures[places] for pictures, places in zip(drawn, batch["drawn"], strict=True)])
    difference, static = drawn - batch["images"], batch["static"]
    nothing = torch.zeros_like(truth[:, :1])
    # Where something is seen the square counts; elsewhere about the absolute error, in tenths.
    for seen, error in ((nothing + 1, difference.square()), (nothing, 0.1 * difference.abs())):
        mean = (error * static).sum() / (3 * static.sum())
        found = picture_error(task._images, truth, seen, batch)
        assert torch.allclose(found, mean, atol=2e-3)


def test_what_follows_the_readout_anyway_is_left_out_of_the_loss(new_task):
    task = new_task(memory_dropout=0.0, picture_weight=0.0, latent_noise=0.0)
    batch = batch_of(task)
    reading = task.chunks.read(batch)
    _, fixed = task.chunks.known(reading, batch["targets"].shape[1])
    assert fixed[:, :, 1:].any()
    # Other true latents under sharp cells change nothing but the noisy input elsewhere: there is no sigma but one.
    wrong = {**batch, "targets": torch.where(fixed[:, :8].transpose(1, 2), 5.0, batch["targets"])}
    wrong["targets"][:, 0] = batch["targets"][:, 0]
    losses = [task(b, 0, torch.Generator().manual_seed(0))["loss"] for b in (batch, wrong)]
    assert torch.allclose(*losses, rtol=1e-4)


def test_a_chunk_may_follow_one_that_the_model_imagined(new_task):
    task = new_task("all", own_outputs=1.0, memory_dropout=0.0, sources=(1,), picture_weight=0.0)
    batch = batch_of(task)
    assert torch.equal(batch["earlier"][:, -1], batch["targets"][:, 0])
    remembered, frames = own_memory(task.chunks, batch, torch.Generator().manual_seed(0))
    assert torch.equal(frames[:, :8, 0], batch["earlier"][:, 0])
    assert not torch.allclose(frames[:, :8, -1], batch["earlier"][:, -1], atol=1e-3)
    # One true frame, and two imagined ones that add only what the true one does not show.
    assert remembered["source_latents"].shape[1] == 3
    assert remembered["source_depth"].shape[-2:] == batch["source_depth"].shape[-2:] == (32, 48)
    assert torch.equal(remembered["source_latents"][:, 0], batch["source_latents"][:, 0])
    seen, more = task.chunks.read(batch).visible, task.chunks.read(remembered, OWN_SOURCES).visible
    assert (more >= seen).all()
    assert more.sum() > seen.sum()
    added = remembered["source_held"][:, 1:]
    assert torch.equal(remembered["source_held"][:, :1], batch["source_held"])
    assert 0 < added.float().mean() < 0.5


def test_imagining_before_a_step_leaves_its_gradient_alone(new_task):
    task = new_task("all", own_outputs=1.0, memory_dropout=0.0)
    batch = batch_of(task)
    with torch.autocast("cpu", torch.bfloat16):
        task(batch, 0, torch.Generator().manual_seed(0))["loss"].backward()
    with_gradient = {name for name, p in task.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    plain = new_task("all", own_outputs=0.0, memory_dropout=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        plain(batch_of(plain), 0, torch.Generator().manual_seed(0))["loss"].backward()
    assert with_gradient == {n for n, p in plain.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_settings_fit_the_preset_that_is_trained():
    full, small = StageSettings().fitting(WAN22), StageSettings().fitting(DEFAULT)
    assert full.chunks == (3, 5, 9)
    assert StageSettings().fitting(replace(WAN22, chunk_frames=17)).chunks == (3, 5, 5)
    # One sampling step begins and ends with pure noise.
    assert small.pure_noise > full.pure_noise


def test_prompts_reach_the_network_unless_they_are_dropped(new_clip, text_folder, tmp_path):
    torch.manual_seed(0)
    write_shard(tmp_path / "00000.tar", [replace(new_clip(frames=14), prompt="a red room")])
    preset = replace(TEST, height=32, width=48, text=True, text_tokens=6)
    autoencoder = preset.new_autoencoder().eval()
    clips = ClipLatents(ClipCache(tmp_path), autoencoder)
    model = MirageTransformer.from_preset(preset)
    encoder = TextEncoder.from_pretrained(text_folder, dtype=torch.float32, tokens=6)
    losses = {}
    for dropout in (0.0, 1.0):
        settings = StageSettings(chunks=(2,), sources=(1,), prompt_dropout=dropout)
        prompts = Prompts(preset, encoder)
        task = StageTask("branch", model, preset, clips, clips, None, autoencoder, settings, prompts)
        batch = batch_of(task)
        assert (batch["clip"] >= 0).tolist() == [dropout == 0.0] * 2
        losses[dropout] = float(task(batch, 0, torch.Generator().manual_seed(0))["loss"].detach())
        assert not torch.equal(task.chunks.context([""]), task.chunks.context(["a red room"]))
    assert losses[0.0] != losses[1.0]


def test_recomputing_blocks_changes_no_gradient(new_task):
    gradients = []
    for checkpointing in (False, True):
        task = new_task("branch", gradient_checkpointing=checkpointing)
        task(batch_of(task), 0, torch.Generator().manual_seed(0))["loss"].backward()
        gradients.append(task.model.branch.patch_embedding.weight.grad)
        assert task.model.backbone.gradient_checkpointing == checkpointing
    assert torch.allclose(gradients[0], gradients[1], atol=1e-6)


@pytest.mark.slow
def test_the_loss_falls(new_task):
    # An untrained decoder draws the same whatever it is given.
    task = new_task("all", sources=(1,), picture_weight=0.0)
    optimiser = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=3e-3)
    batch = batch_of(task, 4)
    losses = []
    for _ in range(30):
        loss = task(batch, 0, torch.Generator().manual_seed(0))["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_samples_follow_from_their_generators(new_task):
    task = new_task()
    first, again = batch_of(task), batch_of(task)
    assert all(torch.equal(first[name].nan_to_num(), again[name].nan_to_num()) for name in first)


def test_figures_and_rows_of_held_out_chunks(new_task):
    task = new_task()
    figures, rows = measure_imagination(task.chunks, task._held_out, clips=2, steps=1)
    assert figures["bound"] > 0
    assert 0 < figures["hidden_share"] < 1
    assert {"whole", "visible", "hidden", "readout", "copied", "depth_visible"} <= figures.keys()
    assert rows[0][0] == "truth"


def test_the_joint_stage_trains_the_decoder_on_true_latents_too(new_task, tmp_path):
    task = new_task("all", sources=(1,))
    batch = batch_of(task)
    losses = task(batch, 0, torch.Generator().manual_seed(0))
    truth = task.chunks.clean(batch)[0]
    drawn = torch.stack([task._images.decode_images(b["targets"])[0] for b in unbatched(batch)])
    drawn = torch.stack([pictures[places] for pictures, places in zip(drawn, batch["drawn"], strict=True)])
    alone = true_losses(task._images, truth, batch)
    assert torch.allclose(alone["true"], (drawn - batch["images"]).square().mean(), rtol=1e-4)
    assert alone["depth"] > 0
    own = task.settings
    parts = losses["picture"] * own.picture_weight + losses["true"] * own.picture_weight
    without = new_task("all", sources=(1,), decoder=False)(batch, 0, torch.Generator().manual_seed(0))
    assert "true" not in without
    expected = without["loss"] - without["picture"] * own.picture_weight + parts + own.depth_weight * losses["depth"]
    assert torch.allclose(losses["loss"], expected, rtol=1e-3)
    encoder = {name: value.clone() for name, value in task._images.encoder.state_dict().items()}
    task.save(tmp_path)
    saved = FrameAutoencoder.from_pretrained(tmp_path / "vae")
    # What latents mean stays.
    assert all(torch.equal(value, encoder[name]) for name, value in saved.encoder.state_dict().items())
    assert not new_task("branch").settings.decoder
