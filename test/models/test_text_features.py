"""Text features in a file: what the encoder gives, without it; and files that are not for a model."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mirage_ros.models import text_features
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError
from mirage_ros.models.presets import TEST
from mirage_ros.models.text import TextEncoder
from mirage_ros.models.text_features import FILE, SavedText, save_features, text_of
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import save_transformer
from mirage_ros.training.prompts import Prompts
from mirage_ros.world import loading
from mirage_ros.world.loading import load_networks

PRESET = replace(TEST, text=True, text_tokens=6)
PROMPTS = ["a red room", "a chair  and a\nroom"]


@pytest.fixture(scope="module")
def saved(text_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("features") / FILE
    assert save_features(text_folder, PRESET, PROMPTS, path) == ["a red room", "a chair and a room", ""]
    return path


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A folder of weights without tokenizer and text encoder."""
    torch.manual_seed(0)
    save_transformer(MirageTransformer.from_preset(PRESET), tmp_path / "weights")
    PRESET.new_autoencoder().save_pretrained(tmp_path / "weights" / "vae")
    return tmp_path / "weights"


def test_features_of_a_file_are_those_of_the_encoder(saved, weights, text_folder):
    live = TextEncoder.from_pretrained(text_folder, tokens=6)
    asked = [*PROMPTS, ""]
    assert torch.equal(SavedText(saved, PRESET, text_folder).encode(asked), live.encode(asked))
    networks = load_networks(weights, preset=PRESET, prompts=["a red room"], text_features=saved)
    for part in ("tokenizer", "text_encoder"):
        shutil.copytree(text_folder / part, weights / part)
    with_encoder = load_networks(weights, preset=PRESET)
    for prompt in asked:
        assert torch.equal(networks.context(prompt), with_encoder.context(prompt))
    with pytest.raises(ValueError, match=r"prompt: expected one of those in .*, got 'a chair'"):
        networks.check_prompt("a chair")


def test_a_folder_without_an_encoder_may_hold_the_file(saved, weights, text_folder):
    with pytest.raises(MissingWeightsError, match="expected a subfolder tokenizer/"):
        load_networks(weights, preset=PRESET)
    shutil.copy(saved, weights)
    assert isinstance(load_networks(weights, preset=PRESET).text, SavedText)
    # Training takes it as well.
    prompts = Prompts(PRESET, text_of(weights, PRESET))
    assert torch.equal(prompts.features(PROMPTS), Prompts(PRESET, text_of(text_folder, PRESET)).features(PROMPTS))
    with pytest.raises(ValueError, match="prompt: expected one of those"):
        prompts.features(["a chair"])


def test_a_hub_repositorys_encoder_is_told_by_its_own_configuration(saved, text_folder, tmp_path, monkeypatch, offline):
    # As huggingface_hub keeps what it has downloaded, and what it has found missing.
    home, revision = tmp_path / "hub" / "models--a--b", 40 * "0"
    shutil.copytree(text_folder, home / "snapshots" / revision)
    for file, content in (("refs/main", revision), (f".no_exist/{revision}/tokenizer/config.json", "")):
        (home / file).parent.mkdir(parents=True)
        (home / file).write_text(content)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    save_features("a/b", PRESET, PROMPTS, tmp_path / FILE)
    assert torch.equal(
        SavedText(tmp_path / FILE, PRESET, text_folder).encode(PROMPTS), SavedText(saved, PRESET).encode(PROMPTS)
    )
    with safe_open(tmp_path / FILE, "pt") as file, safe_open(saved, "pt") as other:
        assert file.metadata()["encoder"] == other.metadata()["encoder"]
    # What does not say its encoder is not compared.
    unknown = changed(saved, tmp_path / "unknown.safetensors", {"encoder": ""}, None)
    assert SavedText(unknown, PRESET, text_folder).encode(PROMPTS).any()


def test_a_file_holds_own_tokens_and_is_padded_where_it_is_asked(saved):
    text = SavedText(saved, PRESET).to("meta")
    assert text.encode(["a red room"]).device.type == "meta"
    assert {features.device.type for features in text._features.values()} == {"cpu"}
    assert [len(text._features[prompt]) for prompt in ("a red room", "")] == [4, 1]
    assert text.to("cpu").encode(["a red room", ""]).shape == (2, 6, 16)


def test_a_refusal_names_five_of_the_known_prompts(text_folder, tmp_path):
    known = ["a chair", "a room", "a red room", "red", "chair", "room"]
    save_features(text_folder, PRESET, known, tmp_path / FILE)
    with pytest.raises(
        ValueError, match="'a chair', 'a room', 'a red room', 'red', 'chair' and 2 more, got 'the moon'"
    ):
        SavedText(tmp_path / FILE, PRESET).check("the moon")


def test_a_missing_folder_is_found_before_the_encoder_is_looked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match="out: expected a file in a folder that exists, got .*none"):
        save_features(tmp_path / "no weights", PRESET, PROMPTS, tmp_path / "none" / FILE)


def changed(saved: Path, path: Path, facts: dict[str, str], tensor: torch.Tensor | None) -> Path:
    with safe_open(saved, "pt") as file:
        names, metadata = list(file.keys()), file.metadata()
        tensors = {name: file.get_tensor(name) for name in names}
    if tensor is not None:
        tensors["1"] = tensor
    save_file(tensors, path, {**metadata, **facts})
    return path


OTHER = json.dumps({"model_type": "t5"})


@pytest.mark.parametrize(
    ("facts", "tensor", "message"),
    [
        ({"preset": "wan2.2-ti2v-5b"}, None, "preset: got wan2.2-ti2v-5b, expected test"),
        ({"tokens": "512"}, None, "tokens: got 512, expected 6"),
        ({"encoder": OTHER}, None, "encoder: got .*t5.*, expected .*umt5"),
        ({"prompts": '["a red room"]'}, None, "expected features of 1 prompts, got 3"),
        ({"format": "other"}, None, "expected text features of `mirage text`, got format 'other'"),
        ({}, torch.ones(3, 32), r"'a chair and a room': shape: got \(3, 32\), expected \(1 to 6, 16\)"),
        ({}, torch.ones(7, 16), r"'a chair and a room': shape: got \(7, 16\), expected \(1 to 6, 16\)"),
        ({}, torch.ones(3, 16, dtype=torch.int32), "'a chair and a room': got torch.int32, expected floating-point"),
        ({}, torch.full((3, 16), torch.nan), "'a chair and a room': expected finite features"),
    ],
)
def test_a_wrong_file_is_refused_before_weights_are_read(
    saved, weights, text_folder, tmp_path, monkeypatch, facts, tensor, message
):
    shutil.copytree(text_folder / "text_encoder", weights / "text_encoder")
    path = changed(saved, tmp_path / "other.safetensors", facts, tensor)
    monkeypatch.setattr(loading, "load_transformer", None)
    monkeypatch.setattr(loading, "load_autoencoder", None)
    with pytest.raises(ValueError, match=rf"other\.safetensors: .*{message}") as found:
        load_networks(weights, preset=PRESET, text_features=path)
    assert isinstance(found.value, WeightsMismatchError) or "format" in message


def test_what_is_no_such_file_is_said(weights, tmp_path):
    with pytest.raises(MissingWeightsError, match="expected text features, found no file"):
        load_networks(weights, preset=PRESET, text_features=tmp_path / "none")
    (tmp_path / "text").write_text("a red room")
    with pytest.raises(ValueError, match="no safetensors"):
        load_networks(weights, preset=PRESET, text_features=tmp_path / "text")
    with pytest.raises(ValueError, match="text_features: expected none, preset 'test' takes no text"):
        load_networks(weights, preset=TEST, text_features=tmp_path / "text")


def test_the_command_writes_what_is_read(text_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(text_features, "preset", lambda name: PRESET)
    out = tmp_path / FILE
    arguments = ["--weights", str(text_folder), "--prompt", "a room", "--prompt", "a chair"]
    monkeypatch.setattr(sys, "argv", ["mirage text", str(out), *arguments])
    text_features.main()
    assert "3 prompts" in capsys.readouterr().out
    assert SavedText(out, PRESET, text_folder).encode(["a chair"]).any()
    with pytest.raises(ValueError, match="preset: expected one that takes text, got 'test'"):
        save_features(text_folder, TEST, [], out)
