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
    unmerge_lora,
)
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import MissingWeightsError, WeightsMismatchError

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
def test_unmerging_restores_the_base_bit_for_bit(new_model: Build, flow: Callable, dtype: torch.dtype) -> None:
    model = new_model()
    model.cast(dtype)
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    add_lora(model, rank=4)
    train(model)
    unmerged = flow(model)
    merge_lora(model)
    merged = flow(model)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(merged, unmerged, atol=tolerance, rtol=tolerance)
    assert not torch.equal(
        model.backbone.blocks[0].attn1.to_q.get_base_layer().weight, before["blocks.0.attn1.to_q.weight"]
    )
    unmerge_lora(model)
    assert torch.equal(flow(model), unmerged)
    remove_lora(model)
    after = model.backbone.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


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
    with pytest.raises(ValueError, match="lora: expected merged LoRA"):
        unmerge_lora(model)
    add_lora(model, rank=2)
    with pytest.raises(ValueError, match="has LoRA already"):
        add_lora(model)
    merge_lora(model, keep_base=False)
    for forbidden in (
        lambda: save_lora(model, tmp_path),
        lambda: remove_lora(model),
        lambda: model.save_pretrained(tmp_path),
    ):
        with pytest.raises(ValueError, match="lora: merged into the base weights"):
            forbidden()
    assert not any(tmp_path.iterdir())
    with pytest.raises(ValueError, match="merged with keep_base=False"):
        unmerge_lora(model)


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
    assert caught.value.missing == ["blocks.1.attn1.to_k.lora_A.weight"]
    assert not has_lora(other)
    (tmp_path / "adapter_config.json").unlink()
    with pytest.raises(MissingWeightsError, match="expected adapter_config.json"):
        load_lora(other, tmp_path)
