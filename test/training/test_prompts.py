"""Prompts of clips on their way into training."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch

from mirage_ros.models.presets import TEST
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.text_features import SavedText, save_features
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.prompts import Prompts
from mirage_ros.training.shards import read_shard, shard_paths, write_shard
from mirage_ros.training.stages import StageTask

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


def test_new_clips_whose_prompt_is_in_no_file_are_left_out_with_one_warning(
    new_clip, new_clips, tiny_preset, text_folder, tmp_path
):
    preset = replace(tiny_preset, text=True, text_tokens=6, backbone={**tiny_preset.backbone, "text_dim": 16})
    save_features(text_folder, preset, ["a red room"], tmp_path / "text")
    clips, autoencoder = new_clips(), preset.new_autoencoder().eval()

    def task() -> StageTask:
        data = LatentCache(clips, autoencoder, tmp_path / "latents")
        model, prompts = MirageTransformer.from_preset(preset), Prompts(preset, SavedText(tmp_path / "text", preset))
        return StageTask("branch", model, preset, data, data, preset.new_reader(), autoencoder, prompts=prompts)

    ready = task()
    new = [replace(new_clip(f"new-{i}"), prompt=text) for i, text in enumerate(["a chair", "a red room", "a room"])]
    write_shard(clips._folder / "00001.tar", new)
    with pytest.warns(UserWarning, match="left out.*, got 'a chair'") as warned:
        ready.refresh()
    assert sum("left out" in str(warning.message) for warning in warned) == 1
    write_shard(clips._folder / "00002.tar", [replace(new_clip("late"), prompt="a room")])
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="new clips are left out")
        ready.refresh()
    data = ready._data
    assert [data.clips.name(index) for index in range(len(data))] == ["wall-0", "wall-1", "new-1"]
    # A run that begins with them is refused.
    clips = ClipCache(clips._folder)
    with pytest.raises(ValueError, match=r"prompt: expected one of those in .*text.*, got 'a chair'"):
        task()


def test_a_clips_prompt_goes_through_shard_and_cache_and_every_change_of_the_clip(new_clip, tmp_path):
    clip = replace(new_clip(), prompt="a red room")
    write_shard(tmp_path / "00000.tar", [clip, new_clip("bare")])
    assert [read.prompt for path in shard_paths(tmp_path) for read in read_shard(path)] == ["a red room", ""]
    cache = ClipCache(tmp_path)
    assert [cache.prompt(0), cache.prompt(1)] == ["a red room", ""]
    assert cache.clip(0).mirrored().cropped(0, 0, 8, 8).prompt == "a red room"
