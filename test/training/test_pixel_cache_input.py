"""Samples whose memory is a cache of pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mirage_ros.evaluation.baselines.pixel_cache import RgbMemory
from mirage_ros.geometry import Camera
from mirage_ros.training.pixel_cache_input import pixel_sources, read_pixels


def batch_of(task, count: int = 2) -> dict[str, torch.Tensor]:
    return default_collate([task.sample(np.random.default_rng(i), np.random.default_rng(0)) for i in range(count)])


def sources_of(batch: dict[str, torch.Tensor]) -> Camera:
    return Camera(batch["source_intrinsics"], batch["source_cam2world"], *batch["targets"].shape[-2:])


def test_a_view_that_was_seen_is_read_as_its_picture_encoded(new_task):
    task = new_task(cache="rgb", sources=(1,), depth_noise=0.0)
    batch = batch_of(task)
    reading = read_pixels(batch, sources_of(batch), task._encode_images)
    images = batch["source_images"][:, 0].permute(0, 3, 1, 2).float() / 255
    latents = task._encode_images(images).unsqueeze(1)
    seen = reading.visible[:, 0, 0] > 0
    # The sky has no depth, and what moves is left out.
    assert 0.6 < seen.float().mean() < 0.95
    assert not seen[:, 0].any()
    # The encoder looks around a cell: away from holes it sees the same picture.
    inner = 1 - torch.nn.functional.max_pool2d(1 - seen.float(), 5, stride=1, padding=2) > 0
    assert inner.any()
    error = (reading.latents - latents)[:, 0].abs().amax(dim=1)
    assert error[inner].max() < 0.02


def test_it_is_what_a_rollout_reads_of_each_clip(new_task):
    task = new_task(cache="rgb", sources=(2,))
    batch = batch_of(task)
    views = Camera(batch["intrinsics"], batch["cam2world"], *batch["targets"].shape[-2:])
    reading = task.read(batch)
    for i in range(2):
        memory = RgbMemory(task._encode_images, task.preset.width // views.width)
        memory.write(None, batch["source_metres"][i], sources_of(batch)[i], colour=batch["source_images"][i])
        readout = memory.read(views[i])
        assert torch.equal(reading.latents[i], readout.latents.float())
        assert torch.equal(reading.visible[i], readout.visible)
        # Finer than the cells, and nothing where nothing is shown.
        shown = readout.visible[:, 0].repeat_interleave(2, -2).repeat_interleave(2, -1) > 0
        assert torch.equal(reading.fine_depth[i].isfinite(), shown)


@pytest.mark.parametrize("own", [0.0, 1.0])
def test_the_joint_stage_learns_from_it(new_task, own):
    task = new_task("all", cache="rgb", memory_dropout=0.0, own_outputs=own)
    batch = batch_of(task)
    assert ("earlier" in batch) == bool(own)
    losses = task(batch, 0, torch.Generator().manual_seed(0))
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in task.model.branch.parameters())


def test_both_caches_draw_the_same_samples(new_task):
    pixels, latent = batch_of(new_task(cache="rgb")), batch_of(new_task(cache="latent"))
    assert set(latent) < set(pixels)
    for name in set(latent) - {"source_held"}:
        torch.testing.assert_close(pixels[name], latent[name], rtol=0, atol=0, equal_nan=True)


def test_error_of_depth_is_that_of_the_latent_sources(new_task):
    task = new_task(cache="rgb")
    exact = pixel_sources(task._data, 0, np.array([0]))["source_metres"]
    wrong = pixel_sources(task._data, 0, np.array([0]), 0.05, np.random.default_rng(0))["source_metres"]
    assert torch.equal(exact.isnan(), wrong.isnan())
    relative = (wrong / exact - 1)[exact.isfinite()]
    assert 0.01 < relative.std() < 0.1


def test_figures_are_measured_with_it(new_task):
    figures, rows = new_task(cache="rgb").validate()
    assert {"whole", "visible", "hidden"} <= set(figures)
    assert len(rows) == 3
