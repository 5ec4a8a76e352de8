"""What a training step of the transformer is drawn from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch.utils.data import default_collate

from mirage_ros.models.presets import DEFAULT, WAN22
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.rollout_memory import own_memory


def test_the_known_frame_is_no_reference(new_task):
    task = new_task(sources=(3,), own_outputs=0.0, latent_noise=0.0)
    references = 0
    for seed in range(8):
        sample = task.sample(np.random.default_rng(seed), np.random.default_rng(seed))
        references += len(sample["references"])
        assert not any(torch.equal(frame, sample["targets"][0]) for frame in sample["references"])
    assert references


def test_settings_fit_the_preset_that_is_trained():
    full, small = StageSettings().fitting(WAN22), StageSettings().fitting(DEFAULT)
    assert full.chunks == (3, 5, 9)
    # With keyframes: one that is known, and the one after it.
    assert small.chunks == (2,)
    assert StageSettings().fitting(replace(WAN22, chunk_frames=17)).chunks == (3, 5, 5)
    # One sampling step begins and ends with pure noise.
    assert small.pure_noise > full.pure_noise


def test_with_keyframes_a_chunk_is_a_known_frame_and_one_as_far_on_as_in_a_rollout(new_task):
    task = new_task("all", 2, chunks=(2,), sources=(1,), own_outputs=0.5, memory_dropout=0.0, picture_weight=0.0)
    apart, imagined = set(), 0
    for seed in range(24):
        sample = task.sample(np.random.default_rng(seed), np.random.default_rng(seed))
        assert len(sample["targets"]) == 2
        # A rollout with keyframes has no context but the memory.
        assert not len(sample["preceding"])
        index = int(sample["clip"])
        if index >= 0:
            poses = task._data.camera(index, np.arange(task._data.frames(index))).cam2world
            places = [int((poses - pose).abs().amax((-1, -2)).argmin()) for pose in sample["cam2world"]]
            apart.add(abs(places[1] - places[0]))
        if "earlier" in sample:
            batch = default_collate([sample])
            remembered, _ = own_memory(task.chunks, batch, torch.Generator().manual_seed(0))
            # The known frame and the one imagined keyframe.
            assert remembered["source_latents"].shape[1] == 2
            imagined += 1
    assert imagined
    assert apart <= {1, 2, 3, 4, 5}
    assert len(apart) > 2
