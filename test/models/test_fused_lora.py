"""LoRA of others in the layouts that they are published in, against the sum written out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from mirage_ros.models.fused_lora import fuse_lora
from mirage_ros.models.network_files import WeightsMismatchError
from mirage_ros.models.public_weights import original_name
from mirage_ros.models.transformer import MirageTransformer

Build = Callable[..., MirageTransformer]
LAYERS = ("blocks.0.attn1.to_q", "blocks.2.attn2.to_out.0", "blocks.1.ffn.net.0.proj", "condition_embedder.time_proj")
RANK, ALPHA = 3, 6.0


def matrices(model: MirageTransformer) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(2)
    shapes = {name: model.backbone.get_submodule(name).weight.shape for name in LAYERS}
    return {
        name: (
            torch.randn(RANK, columns, generator=generator) * 0.1,
            torch.randn(rows, RANK, generator=generator) * 0.1,
        )
        for name, (rows, columns) in shapes.items()
    }


def diffusers(name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    return {f"transformer.{name}.lora_A.weight": down, f"transformer.{name}.lora_B.weight": up}


def comfy(name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    place = f"diffusion_model.{original_name(name)}"
    alpha = torch.tensor(ALPHA)
    return {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up, f"{place}.alpha": alpha}


def kohya(name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    place = f"lora_unet_{original_name(name).replace('.', '_')}"
    alpha = torch.tensor(ALPHA)
    return {f"{place}.lora_down.weight": down, f"{place}.lora_up.weight": up, f"{place}.alpha": alpha}


def peft(name: str, down: Tensor, up: Tensor) -> dict[str, Tensor]:
    place = f"base_model.model.{original_name(name)}"
    return {f"{place}.lora_A.default.weight": down, f"{place}.lora_B.default.weight": up}


@pytest.mark.parametrize(("layout", "scale"), [(diffusers, 1), (comfy, 2), (kohya, 2), (peft, 1)])
def test_each_layout_adds_its_update(new_model: Build, tmp_path: Path, layout: Callable, scale: float) -> None:
    model, given = new_model(), matrices(new_model())
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    file: dict[str, Tensor] = {}
    for name, (down, up) in given.items():
        file |= layout(name, down, up)
    save_file(file, tmp_path / "lora.safetensors")
    assert fuse_lora(model, tmp_path / "lora.safetensors") == len(LAYERS)
    for name, after in model.backbone.state_dict().items():
        layer = name.removesuffix(".weight")
        update = scale * given[layer][1] @ given[layer][0] if layer in given and name.endswith("weight") else 0
        torch.testing.assert_close(after, before[name] + update)


def test_whole_updates_of_biases_and_norms_count(new_model: Build, tmp_path: Path) -> None:
    model = new_model()
    norm, bias = model.backbone.blocks[0].norm2.weight.clone(), model.backbone.blocks[1].attn1.to_k.bias.clone()
    file = {
        "diffusion_model.blocks.0.norm3.diff": torch.full_like(norm, 0.5),
        "diffusion_model.blocks.1.self_attn.k.diff_b": torch.full_like(bias, 0.25),
    }
    save_file(file, tmp_path / "lora.safetensors")
    fuse_lora(model, tmp_path / "lora.safetensors")
    torch.testing.assert_close(model.backbone.blocks[0].norm2.weight, norm + 0.5)
    torch.testing.assert_close(model.backbone.blocks[1].attn1.to_k.bias, bias + 0.25)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diffusion_model.blocks.9.self_attn.q.lora_A.weight": (3, 32)}, "1 unexpected .blocks.9"),
        ({"diffusion_model.img_emb.proj.1.diff_b": (32,)}, "1 unexpected .img_emb"),
        ({"transformer.blocks.1.attn1.to_q.lora_A.weight": (3, 32)}, "1 missing .blocks.1.attn1.to_q.up"),
        (
            {"transformer.blocks.0.attn1.to_q.lora_B.weight": (32, 4)},
            r"1 misshapen .blocks.0.attn1.to_q: got \(32, 4\)",
        ),
        ({"transformer.blocks.0.attn1.to_q.dora_scale": (32,)}, "1 unexpected .*dora_scale"),
    ],
)
def test_what_has_no_place_is_refused_and_nothing_changes(
    new_model: Build, tmp_path: Path, change: dict[str, tuple[int, ...]], message: str
) -> None:
    model, file = new_model(), {}
    before = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    for name, (down, up) in matrices(model).items():
        file |= diffusers(name, down, up)
    file |= {name: torch.zeros(shape) for name, shape in change.items()}
    save_file(file, tmp_path / "lora.safetensors")
    with pytest.raises(WeightsMismatchError, match=message):
        fuse_lora(model, tmp_path / "lora.safetensors")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.backbone.state_dict().items())
