"""Keyframes with what is estimated of them, and which of them become exemplars."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.training.chunk_model import ChunkModel
from mirage_ros.training.exemplars import MOVING, chosen, gather
from mirage_ros.training.keyframe_means import PER_CLIP, KeyframeMeans
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.prompts import Prompts


@pytest.fixture
def keyframes(new_clips, tiny_preset, tmp_path) -> KeyframeMeans:
    torch.manual_seed(0)
    autoencoder = tiny_preset.new_autoencoder().eval()
    data = LatentCache(new_clips(count=2, frames=12), autoencoder, tmp_path / "latents")
    chunks = ChunkModel(
        MirageTransformer.from_preset(tiny_preset).eval(),
        tiny_preset,
        tiny_preset.new_reader(),
        autoencoder,
        Prompts(tiny_preset),
    )
    return KeyframeMeans(data, chunks, tmp_path / "means")


def test_a_keyframe_has_its_true_latents_its_mean_and_what_of_it_is_hidden(keyframes, tmp_path):
    assert len(keyframes) == 2 * PER_CLIP == len(keyframes.hidden)
    assert len(list((tmp_path / "means").iterdir())) == 2
    preset = keyframes.chunks.preset
    for place in range(len(keyframes)):
        sample, (clip, frame) = keyframes.sample(place), keyframes.frame(place)
        truth = keyframes.data.latents(clip, np.array([frame]))[0]
        assert torch.allclose(sample["truth"][: len(truth)], truth, atol=2e-3)
        assert sample["mean"].shape == sample["truth"].shape
        assert len(sample["mean"]) == len(truth) + preset.depth_channels
        assert keyframes.hidden[place] == pytest.approx(1 - float(sample["visible"].float().mean()), abs=1e-6)
    assert 0 < keyframes.hidden.max() < 1


def test_the_same_clip_gives_the_same_keyframes(keyframes, tmp_path):
    again = KeyframeMeans(keyframes.data, keyframes.chunks, tmp_path / "again")
    for name, value in keyframes.sample(0).items():
        assert torch.equal(value, again.sample(0)[name]), name


def test_of_each_clip_the_most_hidden_keyframes_are_chosen_one_of_a_frame(keyframes, monkeypatch):
    monkeypatch.setattr(keyframes, "still", lambda place: 1.0)
    places = chosen(keyframes, 6)
    assert len(places) == 6
    for clip in range(2):
        own = [place for place in places if place // PER_CLIP == clip]
        frames = [keyframes.frame(place)[1] for place in own]
        assert len(own) == 3
        assert len(set(frames)) == 3
        left = [
            place for place in range(clip * PER_CLIP, (clip + 1) * PER_CLIP) if keyframes.frame(place)[1] not in frames
        ]
        assert min(keyframes.hidden[own]) >= max(keyframes.hidden[left], default=0)
    # All frames there are, once each.
    everything = chosen(keyframes, 1000)
    assert len({keyframes.frame(place) for place in everything}) == len(everything) < 1000


def test_what_moves_is_no_exemplar(keyframes, monkeypatch):
    moving = chosen(keyframes, 1)[0]
    assert keyframes.still(moving) == float(keyframes.sample(moving)["still"].float().mean())
    monkeypatch.setattr(keyframes, "still", lambda place: 1 - 2 * MOVING if place == moving else 1.0)
    assert moving not in chosen(keyframes, 1000)
    monkeypatch.setattr(keyframes, "still", lambda place: 0.0)
    with pytest.raises(ValueError, match="data: expected keyframes of which at most 1% moves, got none of 24"):
        gather(keyframes, 10)


def test_exemplars_hold_the_truth_and_its_means(keyframes):
    places, exemplars = chosen(keyframes, 3), gather(keyframes, 3)
    samples = [keyframes.sample(place) for place in places]
    assert len(exemplars) == len(places) == 3
    for index, sample in enumerate(samples):
        drawn = exemplars.view(index)
        assert torch.allclose(drawn, sample["truth"], atol=float(exemplars.step.max()))
    assert exemplars.config["latent_channels"] == keyframes.chunks.preset.latent_channels
