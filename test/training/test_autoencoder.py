"""The autoencoder's samples, and what its losses ask for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from mirage_ros.training.autoencoder import AutoencoderTask, measure_statistics
from mirage_ros.training.losses import picture_loss, psnr, sample_cells


@pytest.fixture
def task(new_clips, tiny_preset) -> AutoencoderTask:
    torch.manual_seed(0)
    clips = new_clips(moving=False)
    return AutoencoderTask(tiny_preset.new_autoencoder(), clips, clips, crop=(16, 24), noise=0.0)


def batch_of(task: AutoencoderTask, count: int = 6) -> dict[str, torch.Tensor]:
    return default_collate([task.sample(np.random.default_rng(i), np.random.default_rng(0)) for i in range(count)])


def test_samples_correspond(task):
    batch = batch_of(task)
    pooled = torch.nn.functional.avg_pool2d(batch["first"], 4)
    target = torch.nn.functional.avg_pool2d(batch["second"], 4)
    mask = batch["covisible"].unsqueeze(1).float()
    assert mask.mean() > 0.5
    assert psnr(sample_cells(pooled, batch["places"]), target, mask) > 30
    for first, beside, shift in zip(batch["first"], batch["beside"], batch["shift"], strict=True):
        dx, dy = (round(float(value) * 4) for value in shift)
        if dx >= 0 and dy >= 0:
            assert torch.equal(first[:, dy:, dx:], beside[:, : 16 - dy, : 24 - dx])


def test_the_losses_fall_and_a_silent_channel_costs(task):
    batch = batch_of(task)
    optimiser = torch.optim.AdamW(task.parameters(), lr=3e-3)
    history = []
    for step in range(40):
        losses = task(batch, step, torch.Generator().manual_seed(0))
        optimiser.zero_grad()
        losses["loss"].backward()
        optimiser.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
    assert history[-1]["picture"] < 0.5 * history[0]["picture"]
    assert history[-1]["spread"] < history[0]["spread"]


def test_latents_that_need_no_moving_cost_no_more_than_reconstruction(task):
    batch = batch_of(task)
    still = {**batch, "beside": batch["first"], "shift": torch.zeros_like(batch["shift"])}
    latents = task.autoencoder.encode_images(batch["first"])
    interior = torch.zeros_like(batch["first"][:, :1])
    interior[..., 4:-4, 4:-4] = 1
    redrawn = task.autoencoder.decode_images(latents)[0]
    own = float(picture_loss(redrawn, batch["first"], interior))
    assert float(task(still, 0, torch.Generator())["equivariance"]) == pytest.approx(own, rel=1e-3)
    # Latents of neighbouring cells differ, so moving them by a cell is not free.
    moved = {**still, "shift": torch.ones_like(batch["shift"])}
    assert float(task(moved, 0, torch.Generator())["equivariance"]) > own


def test_statistics_normalise_the_latents(task):
    mean, deviation, log_mean, log_deviation = measure_statistics(task.autoencoder, task._data, frames=12)
    task.autoencoder.normalise_by(mean, deviation)
    again = measure_statistics(task.autoencoder, task._data, frames=12)
    assert np.allclose(again[0], 0, atol=1e-3)
    assert np.allclose(again[1], 1, atol=1e-3)
    assert log_mean == pytest.approx(np.log(2), abs=1e-3)
    assert log_deviation == pytest.approx(0, abs=1e-3)


def test_a_crop_larger_than_the_frames_is_refused(task):
    task.crop = (64, 24)
    with pytest.raises(ValueError, match="crop"):
        batch_of(task)
