"""Losses and the warps of the equivariance loss."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.training.correspondence import correspond, shared_by
from mirage_ros.training.losses import (
    gradient_l1,
    masked_mean,
    picture_loss,
    psnr,
    sample_cells,
    shift_latents,
)
from mirage_ros.training.stage_losses import square_where_seen


def test_a_shift_by_whole_cells_moves_the_latents():
    latents = torch.randn(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    moved = shift_latents(latents, torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
    assert torch.allclose(moved[0, :, :, :-1], latents[0, :, :, 1:], atol=1e-5)
    assert torch.allclose(moved[1, :, :-2], latents[1, :, 2:], atol=1e-5)


def test_a_shift_by_half_a_cell_is_the_mean_of_neighbours():
    latents = torch.randn(1, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    moved = shift_latents(latents, torch.tensor([[0.5, 0.0]]))
    assert torch.allclose(moved[..., :-1], (latents[..., 1:] + latents[..., :-1]) / 2, atol=1e-5)


def test_true_depth_takes_each_cell_to_what_it_shows(new_clip):
    clip = new_clip(moving=False)
    depth = torch.from_numpy(clip.depth)
    places, covisible = correspond(clip.camera[1:2], depth[1:2], clip.camera[:1], depth[:1])
    images = torch.from_numpy(clip.rgb).permute(0, 3, 1, 2).float() / 255
    warped = sample_cells(images[:1], places)
    # The camera slid to the right: the last columns were not seen before.
    assert 0.85 < covisible.float().mean() < 1
    assert psnr(warped, images[1:2], covisible.unsqueeze(1).float()) > 35
    assert psnr(images[:1], images[1:2]) < 25


def test_pixels_that_one_of_several_frames_sees_are_shared(new_clip):
    clip = new_clip(frames=6)
    shared = shared_by(clip, [3], [0, 5])
    apart = [shared_by(clip, [3], [source]) for source in (0, 5)]
    assert shared.shape == (1, *clip.rgb.shape[1:3])
    assert torch.equal(shared, apart[0] | apart[1])
    assert not torch.equal(apart[0], apart[1])
    assert not shared[0][torch.from_numpy(clip.labels[3] != 0)].any()


def test_what_is_hidden_behind_something_is_not_covisible(new_clip):
    clip = new_clip(moving=False)
    depth = torch.from_numpy(clip.depth)
    nearer = depth[:1].clone()
    nearer[:, 10:20, 10:20] = 0.5
    _, covisible = correspond(clip.camera[1:2], depth[1:2], clip.camera[:1], nearer)
    assert not covisible[0, 12:18, 10:16].any()
    assert covisible[0, 25, 20]


def test_masks_leave_out_what_they_cover():
    image, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    target[..., :2] = 1
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., 2:] = 1
    assert picture_loss(image, target, mask) == 0
    assert gradient_l1(image, target, mask) == 0
    assert picture_loss(image, target) > 0
    assert masked_mean(target, torch.zeros_like(mask)) == 0
    assert psnr(image, target) == pytest.approx(3.01, abs=0.01)


@pytest.mark.parametrize(("seen", "best"), [(1.0, 0.3), (0.0, 0.0)])
def test_what_is_hidden_is_best_guessed_by_the_median(seen, best):
    """An edge that is here in three of ten cases and there in seven: a ramp, or one of the two."""
    truth = torch.tensor([1.0] * 3 + [0.0] * 7)
    guesses = torch.linspace(0, 1, 101).unsqueeze(1)
    losses = square_where_seen(guesses - truth, torch.tensor(seen), 0.1).mean(dim=1)
    assert abs(float(guesses[losses.argmin()]) - best) < 0.03


def test_squared_and_absolute_errors_are_alike_at_the_unit():
    error = torch.tensor([-2.0, 0.0, 0.1, 2.0], requires_grad=True)
    for unit in (0.1, 1.0, 2.0):
        hidden = square_where_seen(error, torch.tensor(0.0), unit)
        assert hidden[1] == 0
        assert torch.allclose(hidden[[0, 3]], unit * error[[0, 3]].abs(), rtol=0.1)
        assert torch.autograd.grad(hidden.sum(), error)[0].isfinite().all()
    assert torch.equal(square_where_seen(error, torch.ones(4), 1.0), error.square())
