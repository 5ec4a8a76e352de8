"""What is drawn in a rollout where nothing was seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirage_ros.models.exemplars import Exemplars
from mirage_ros.world.denoise import CRACK, _wide


@pytest.fixture
def world(frame_world, monkeypatch):
    networks = frame_world.networks
    channels, shape = networks.preset.latent_channels, (24, networks.transformer.in_channels, 8, 12)
    truths, means = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    everywhere = torch.ones(24, 1, 8, 12, dtype=torch.bool)
    monkeypatch.setattr(networks, "exemplars", Exemplars.of(truths, means, everywhere, channels).eval())
    return frame_world


@pytest.fixture
def imagine(world, walk):
    scene = walk(9)
    memory, _ = scene.begin(world)
    turned = scene.camera.cam2world.clone()
    turned[4:, 0, 3] += 0.8
    trajectory = scene.camera.at(turned)

    def one(**options):
        return next(iter(world.imagine(memory, trajectory, first=scene.frame(), remember=False, **options)))

    return one


def test_a_sample_differs_by_its_seed_where_nothing_was_seen_and_a_mean_does_not(imagine):
    # The untrained transformer's one step is the filled readout.
    means = [imagine(seed=seed).rgb[-1] for seed in (0, 1)]
    np.testing.assert_array_equal(*means)
    first, second, again = (imagine(seed=seed, unseen="sample") for seed in (0, 1, 0))
    np.testing.assert_array_equal(first.rgb, again.rgb)
    hidden = first.visible[-1] == 0
    assert 0.1 < hidden.mean() < 0.9
    between = np.abs(first.rgb[-1].astype(int) - second.rgb[-1]).mean(axis=-1)
    from_mean = np.abs(first.rgb[-1].astype(int) - means[0]).mean(axis=-1)
    for change in (between, from_mean):
        # The decoder sees cells around a pixel.
        assert change[hidden].mean() > 3 * change[~hidden].mean()


def test_samples_of_one_trajectory_are_drawn_apart(imagine):
    alone, several = imagine(unseen="sample"), imagine(unseen="sample", samples=4)
    np.testing.assert_allclose(alone.rgb, several.rgb, atol=2)
    hidden = several.visible[-1] == 0
    known = several.uncertainty[-1][~hidden]
    assert np.nanmedian(several.uncertainty[-1][hidden]) > 3 * np.nanmedian(known)


def test_without_exemplars_a_sample_is_the_mean(imagine, world, monkeypatch):
    monkeypatch.setattr(world.networks, "exemplars", None)
    np.testing.assert_array_equal(imagine(unseen="sample").rgb, imagine().rgb)


def test_cracks_are_left_to_the_mean():
    hidden = torch.zeros(1, 1, 12, 16, dtype=torch.bool)
    hidden[..., 3, :] = True
    hidden[..., 3, 5] = True
    wide = hidden.clone()
    wide[..., 6:, 8:] = True
    assert not _wide(hidden).any()
    assert torch.equal(_wide(wide)[..., 6:, 8:], wide[..., 6:, 8:])
    assert not _wide(wide)[..., :5, :].any()
    assert CRACK == 1
