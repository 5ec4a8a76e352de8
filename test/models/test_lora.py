"""LoRA on the backbone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mirage_ros.models.lora import (
    add_lora,
    has_lora,
    load_lora,
    lora_parameters,
    merge_lora,
    remove_lora,
    save_lora,
)
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import save_transformer

Build = Callable[..., MirageTransformer]


def train(model: MirageTransformer) -> None:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in lora_parameters(model):
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def test_only_self_attention_of_the_backbone_is_touched(new_model: Build) -> None:
    model = new_model()
    frozen = model.backbone.blocks[1].attn1.to_q.weight
    frozen.requires_grad_(False)
    parameters = add_lora(model, rank=4)
    names = {name for name, _ in model.named_parameters() if "lora_" in name}
    assert len(names) == len(parameters) == 3 * 4 * 2
    assert all(name.startswith("backbone.blocks.") and ".attn1.to_" in name for name in names)
    assert not frozen.requires_grad
    assert model.backbone.blocks[0].attn1.to_q.base_layer.weight.requires_grad
    assert model.branch.blocks[0].attn1.to_q.weight.requires_grad


def test_new_lora_changes_nothing_and_alpha_scales_it(new_model: Build, flow: Callable) -> None:
    plain = flow(new_model())
    model = new_model()
    add_lora(model, rank=4)
    assert torch.equal(flow(model), plain)
    train(model)
    once = flow(model)
    twice = new_model()
    add_lora(twice, rank=4, alpha=8.0)
    with torch.no_grad():
        for own, other in zip(lora_parameters(twice), lora_parameters(model), strict=True):
            own.copy_(other)
    assert (flow(twice) - once).abs().max() > 1e-3
    with torch.no_grad():
        for name, parameter in twice.named_parameters():
            if "lora_B" in name:
                parameter.mul_(0.5)
    torch.testing.assert_close(flow(twice), once, atol=1e-5, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_it_computes_the_same_and_removed_nothing(new_model: Build, flow: Callable, dtype: torch.dtype) -> None:
    model = new_model()
    model.cast(dtype)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    add_lora(model, rank=4)
    train(model)
    unmerged = flow(model)
    remove_lora(model)
    after = model.backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    add_lora(model, rank=4)
    train(model)
    merge_lora(model)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(flow(model), unmerged, atol=tolerance, rtol=tolerance)
    assert not torch.equal(
        model.backbone.blocks[0].attn1.to_q.get_base_layer().weight, before["blocks.0.attn1.to_q.weight"]
    )


def test_saved_lora_brings_its_rank_and_alpha(new_model: Build, flow: Callable, tmp_path: Path) -> None:
    model = new_model()
    add_lora(model, rank=3, alpha=5.5)
    train(model)
    save_lora(model, tmp_path)
    again = new_model()
    load_lora(again, tmp_path)
    assert torch.equal(flow(again), flow(model))
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_alpha"] == 5.5


def test_what_cannot_be_undone_or_done_twice_is_refused(new_model: Build, tmp_path: Path) -> None:
    model = new_model()
    with pytest.raises(ValueError, match="lora: the backbone has none to merge"):
        merge_lora(model)
    with pytest.raises(ValueError, match="lora: the backbone has none to save"):
        save_lora(model, tmp_path)
    add_lora(model, rank=2)
    with pytest.raises(ValueError, match="has LoRA already"):
        add_lora(model)
    merge_lora(model)
    for forbidden in (
        lambda: save_lora(model, tmp_path),
        lambda: remove_lora(model),
        lambda: save_transformer(model, tmp_path),
    ):
        with pytest.raises(ValueError, match="lora: merged into the base weights"):
            forbidden()
    assert not any(tmp_path.iterdir())


def test_incomplete_files_are_refused_and_leave_the_model_alone(new_model: Build, tmp_path: Path) -> None:
    model = new_model()
    add_lora(model, rank=2)
    save_lora(model, tmp_path)
    other = new_model()
    weights = load_file(tmp_path / "adapter_model.safetensors")
    weights.pop("blocks.1.attn1.to_k.lora_A.weight")
    weights["blocks.0.attn1.to_q.lora_B.weight"] = torch.zeros(32, 3)
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(
        WeightsMismatchError, match=r"1 missing \(blocks.1.attn1.to_k.lora_A.weight\); 1 misshapen"
    ) as caught:
        load_lora(other, tmp_path)
    assert "1 missing (blocks.1.attn1.to_k.lora_A.weight)" in str(caught.value)
    assert not has_lora(other)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(MissingWeightsError, match="expected adapter_config.json"):
        load_lora(other, tmp_path)


# Changes of a file as peft writes it, and by which factor they change the update of each layer of block 0 and 1.
SCALES = {
    "use_rslora": ({"use_rslora": True}, 4**0.5, 4**0.5),
    "alpha_pattern": ({"alpha_pattern": {"blocks.1.attn1.to_q": 12.0}}, 1.0, 3.0),
}


@pytest.mark.parametrize("change", SCALES)
def test_scales_of_a_file_are_followed(new_model: Build, tmp_path: Path, change: str) -> None:
    settings, first, second = SCALES[change]
    model, other = new_model(), new_model()
    add_lora(model, rank=4)
    train(model)
    save_lora(model, tmp_path)
    change_config(tmp_path, settings)
    load_lora(other, tmp_path)
    for block, factor in enumerate((first, second)):
        own, given = (each.backbone.blocks[block].attn1.to_q for each in (other, model))
        torch.testing.assert_close(own.get_delta_weight("default"), factor * given.get_delta_weight("default"))


def test_ranks_of_a_file_are_followed(new_model: Build, flow: Callable, tmp_path: Path) -> None:
    model, other = new_model(), new_model()
    add_lora(model, rank=4)
    train(model)
    save_lora(model, tmp_path)
    # A layer whose update has one of the ranks alone: written with rank 1, it is the same.
    weights = load_file(tmp_path / "adapter_model.safetensors")
    for letter, axis in (("A", 0), ("B", 1)):
        name = f"blocks.1.attn1.to_q.lora_{letter}.weight"
        parameter = dict(model.backbone.named_parameters())[name.replace(".weight", ".default.weight")]
        parameter.data.narrow(axis, 1, 3).zero_()
        weights[name] = parameter.detach().narrow(axis, 0, 1).clone()
    save_file(weights, tmp_path / "adapter_model.safetensors")
    with pytest.raises(WeightsMismatchError, match="2 misshapen"):
        load_lora(other, tmp_path)
    change_config(tmp_path, {"rank_pattern": {"blocks.1.attn1.to_q": 1}, "alpha_pattern": {"blocks.1.attn1.to_q": 1.0}})
    load_lora(other, tmp_path)
    torch.testing.assert_close(flow(other), flow(model), atol=1e-5, rtol=0)


def test_a_file_of_a_wrapped_model_is_understood(new_model: Build, flow: Callable, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    model, other = new_model(), new_model()
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["attn1.to_q", "ffn.net.2"], init_lora_weights=False)
    torch.manual_seed(3)
    get_peft_model(model.backbone, config).save_pretrained(tmp_path)
    assert next(iter(load_file(tmp_path / "adapter_model.safetensors"))).startswith("base_model.model.blocks.")
    load_lora(other, tmp_path)
    assert torch.equal(flow(other), flow(model))
    assert not torch.equal(flow(new_model()), flow(model))


@pytest.mark.parametrize(
    "change",
    [
        {"use_dora": True},
        {"bias": "all"},
        {"modules_to_save": ["proj_out"]},
        {"lora_bias": True},
        {"init_lora_weights": "pissa"},
        {"peft_type": "LOHA"},
        {"a_setting_of_tomorrow": 3},
        {"target_modules": None},
    ],
)
def test_settings_that_would_be_ignored_are_refused_by_name(new_model: Build, tmp_path: Path, change: dict) -> None:
    model, other = new_model(), new_model()
    add_lora(model, rank=2)
    save_lora(model, tmp_path)
    change_config(tmp_path, change)
    with pytest.raises(ValueError, match=rf"adapter_config.json: {next(iter(change))}: expected"):
        load_lora(other, tmp_path)
    assert not has_lora(other)


def change_config(folder: Path, change: dict) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
