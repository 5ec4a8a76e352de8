"""Saving and loading whole models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from mirage_ros.models.lora import add_lora, lora_parameters
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError, load_part
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_transformer, save_transformer

Build = Callable[..., MirageTransformer]
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize("lora", [False, True])
def test_a_saved_model_loads_with_everything_it_had(
    new_model: Build, flow: Callable, tmp_path: Path, lora: bool
) -> None:
    model = new_model(hints=True)
    if lora:
        add_lora(model, rank=2, alpha=6.0)
        with torch.no_grad():
            for parameter in lora_parameters(model):
                torch.nn.init.normal_(parameter, std=0.1)
    expected = flow(model)
    save_transformer(model, tmp_path)
    assert torch.equal(flow(load_transformer(tmp_path)), expected)
    # Saving left the model as it was, and the backbone is a plain diffusers model.
    assert torch.equal(flow(model), expected)
    assert isinstance(load_part(WanTransformer3DModel, tmp_path, "transformer"), WanTransformer3DModel)
    assert (tmp_path / "lora").is_dir() == lora


def test_saving_again_in_other_pieces_leaves_nothing_of_the_first_time(
    new_model: Build, flow: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_transformer(new_model(hints=True), tmp_path)
    assert (tmp_path / "transformer" / WEIGHTS).is_file()
    monkeypatch.setattr("mirage_ros.models.network_files.MAX_FILE", 40_000)
    other = new_model(hints=True)
    with torch.no_grad():
        other.backbone.proj_out.weight.add_(1)
    save_transformer(other, tmp_path)
    assert not (tmp_path / "transformer" / WEIGHTS).exists()
    assert torch.equal(flow(load_transformer(tmp_path)), flow(other))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["branch", "transformer"]


def test_bf16_loads_with_float32_norms(new_model: Build, flow: Callable, tmp_path: Path) -> None:
    save_transformer(new_model(hints=True), tmp_path)
    model = load_transformer(tmp_path, dtype=torch.bfloat16)
    assert model.branch.proj_in.weight.dtype == torch.bfloat16
    assert model.branch.blocks[0].scale_shift_table.dtype == torch.float32
    assert torch.isfinite(flow(model)).all()


def test_large_weights_are_split(new_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirage_ros.models.network_files.MAX_FILE", 40_000)
    model = new_model()
    save_transformer(model, tmp_path)
    assert len(list((tmp_path / "transformer").glob("*.safetensors"))) > 2
    again = load_transformer(tmp_path)
    assert torch.equal(again.backbone.proj_out.weight, model.backbone.proj_out.weight)


def test_a_published_backbone_needs_a_branch_from_somewhere(new_model: Build, tmp_path: Path) -> None:
    new_model().backbone.save_pretrained(tmp_path / "transformer")
    with pytest.raises(MissingWeightsError, match="has no memory branch .* branch_file=… .*; `mirage train` makes one"):
        load_transformer(tmp_path)


def test_weights_that_are_missing_left_over_or_misshapen_are_named(new_model: Build, tmp_path: Path) -> None:
    save_transformer(new_model(), tmp_path)
    file = tmp_path / "branch" / WEIGHTS
    weights = load_file(file)
    weights["proj_in.extra"] = weights.pop("proj_in.bias")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(WeightsMismatchError, match="branch: .*1 missing .proj_in.bias.; 1 unexpected .proj_in.extra."):
        load_transformer(tmp_path)
    weights["proj_in.bias"] = torch.zeros(7)
    weights.pop("proj_in.extra")
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises((WeightsMismatchError, ValueError), match=r"proj_in\.bias"):
        load_transformer(tmp_path)


def test_missing_weights_say_what_to_do_and_offline_is_honoured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: None
) -> None:
    import socket

    def refuse(*arguments: object) -> None:
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(MissingWeightsError, match="hf download Wan-AI/Nothing-Here --local-dir FOLDER"):
        load_transformer("Wan-AI/Nothing-Here")
    with pytest.raises(MissingWeightsError, match="expected a WanTransformer3DModel saved by diffusers"):
        load_transformer(tmp_path)
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer" / "config.json").write_text('{"_class_name": "WanTransformer3DModel", "num_layers": 1}')
    with pytest.raises(MissingWeightsError, match="transformer"):
        load_transformer(tmp_path)
