"""Prompts of clips on their way into training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mirage_ros.models.presets import TEST
from mirage_ros.models.text import TextEncoder
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.shards import read_shard, shard_paths, write_shard

PRESET = replace(TEST, text=True, text_tokens=6)


@pytest.fixture
def encoder(text_folder) -> TextEncoder:
    return TextEncoder.from_pretrained(text_folder, dtype=torch.float32, tokens=6)


def test_features_are_the_encoders_and_it_is_freed(encoder, text_folder):
    prompts = Prompts(PRESET, encoder)
    prompts.learn(["", "a red room", "a red room", "a chair"])
    assert encoder._encoder is None
    again = TextEncoder.from_pretrained(text_folder, dtype=torch.float32, tokens=6)
    wanted = ["a chair", "", "a red room"]
    assert torch.equal(prompts.features(wanted), again.encode(wanted))
    # One that came later is encoded when it is asked for.
    assert torch.equal(prompts.features(["a room"]), again.encode(["a room"]))


def test_presets_without_text_get_zeros_and_mismatches_are_refused(encoder):
    assert torch.equal(Prompts(TEST).features(["a room", ""]), torch.zeros(2, 1, 16))
    with pytest.raises(ValueError, match="encoder: expected a text encoder for preset 'test'"):
        Prompts(PRESET)
    with pytest.raises(ValueError, match="encoder: expected no text encoder for preset 'test'"):
        Prompts(TEST, encoder)


def test_a_clips_prompt_goes_through_shard_and_cache_and_every_change_of_the_clip(new_clip, tmp_path):
    clip = replace(new_clip(), prompt="a red room")
    write_shard(tmp_path / "00000.tar", [clip, new_clip("bare")])
    assert [read.prompt for path in shard_paths(tmp_path) for read in read_shard(path)] == ["a red room", ""]
    cache = ClipCache(tmp_path)
    assert [cache.prompt(0), cache.prompt(1)] == ["a red room", ""]
    assert cache.clip(0).mirrored().cropped(0, 0, 8, 8).prompt == "a red room"
