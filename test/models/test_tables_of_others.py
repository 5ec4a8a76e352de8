"""Names and layouts against those of others: the tables and readers that diffusers and gguf bring."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.loaders.lora_conversion_utils import (
    _convert_musubi_wan_lora_to_diffusers,
    _convert_non_diffusers_wan_lora_to_diffusers,
)
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors.torch import save_file
from torch import Tensor

from mirage_ros.models.checkpoints import Checkpoint
from mirage_ros.models.fused_lora import fuse_lora
from mirage_ros.models.presets import WAN22
from mirage_ros.models.public_weights import original_name
from mirage_ros.models.transformer import MirageTransformer

Build = Callable[..., MirageTransformer]
# What the published LoRA change; both converters of diffusers know these.
LAYERS = (*(f"{kind}_attn.{letter}" for kind in ("self", "cross") for letter in "qkvo"), "ffn.0", "ffn.2")


def test_diffusers_gives_the_names_of_the_full_size_network_back() -> None:
    with torch.device("meta"):
        backbone = WanTransformer3DModel(**WAN22.backbone)
    names = list(backbone.state_dict())
    for prefix in ("", "model.diffusion_model."):
        theirs = convert_wan_transformer_to_diffusers({prefix + original_name(name): name for name in names})
        assert theirs == {name: name for name in names}


def test_diffusers_reads_the_single_file_alike(new_model: Build, tmp_path: Path) -> None:
    model = new_model()
    model.backbone.save_pretrained(tmp_path / "transformer")
    weights = {f"model.diffusion_model.{original_name(k)}": v.clone() for k, v in model.backbone.state_dict().items()}
    save_file(weights, tmp_path / "comfy.safetensors")
    theirs = WanTransformer3DModel.from_single_file(
        str(tmp_path / "comfy.safetensors"), config=str(tmp_path), subfolder="transformer"
    ).state_dict()
    ours = Checkpoint.open(tmp_path / "comfy.safetensors")
    assert {original_name(name) for name in theirs} == set(ours.shapes)
    assert all(torch.equal(ours.read(original_name(name)), weight) for name, weight in theirs.items())


def lora(model: MirageTransformer, place: Callable[[str], str], alpha: float) -> dict[str, Tensor]:
    """LoRA of all blocks, under the names that others give them."""
    own = {
        original_name(name): module
        for name, module in model.backbone.named_modules()
        if name.startswith("blocks.") and isinstance(module, torch.nn.Linear)
    }
    file: dict[str, Tensor] = {}
    for index in range(len(model.backbone.blocks)):
        for layer in LAYERS:
            name = f"blocks.{index}.{layer}"
            rows, columns = own[name].weight.shape
            generator = torch.Generator().manual_seed(len(file))
            file[f"{place(name)}.lora_down.weight"] = torch.randn(4, columns, generator=generator)
            file[f"{place(name)}.lora_up.weight"] = torch.randn(rows, 4, generator=generator)
            file[f"{place(name)}.alpha"] = torch.tensor(alpha)
    return file


@pytest.mark.parametrize(
    ("place", "convert"),
    [
        (lambda name: f"diffusion_model.{name}", _convert_non_diffusers_wan_lora_to_diffusers),
        (lambda name: f"lora_unet_{name.replace('.', '_')}", _convert_musubi_wan_lora_to_diffusers),
    ],
    ids=["comfy", "kohya"],
)
def test_diffusers_reads_lora_alike(new_model: Build, tmp_path: Path, place: Callable, convert: Callable) -> None:
    given = lora(new_model(), place, alpha=8.0)
    # It scales in place.
    cloned = {name: tensor.clone() for name, tensor in given.items()}
    converted = {name: tensor.contiguous() for name, tensor in convert(cloned).items()}
    assert len(converted) == len(given) * 2 // 3
    fused = []
    for name, content in (("given", given), ("converted", converted)):
        save_file(content, tmp_path / f"{name}.safetensors")
        model = new_model()
        assert fuse_lora(model, tmp_path / f"{name}.safetensors") == 3 * len(LAYERS)
        fused.append(model.backbone.state_dict())
    untouched = new_model().backbone.state_dict()
    changed = {name for name in untouched if not torch.equal(fused[0][name], untouched[name])}
    assert len(changed) == 3 * len(LAYERS)
    for name in untouched:
        torch.testing.assert_close(fused[0][name], fused[1][name])


def test_gguf_is_dequantised_as_diffusers_does_and_five_dimensions_are_read(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    from diffusers.models.model_loading_utils import load_gguf_checkpoint
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    rng = np.random.default_rng(0)
    # In all kinds that the community's files of Wan have and this package can write.
    kinds = {name: gguf.GGMLQuantizationType[name] for name in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "BF16", "F16")}
    writer = gguf.GGUFWriter(tmp_path / "wan.gguf", "wan")
    for name, kind in kinds.items():
        values = rng.standard_normal((6, 64), np.float32)
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    # ComfyUI-GGUF adds the patch embedding so once all else is quantised.
    patches = rng.standard_normal((8, 6, 1, 2, 2), np.float32)
    writer.add_tensor("patch_embedding.weight", patches, raw_dtype=gguf.GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ours, theirs = Checkpoint.open(tmp_path / "wan.gguf"), load_gguf_checkpoint(tmp_path / "wan.gguf")
    for name in kinds:
        stored = theirs[name]
        expected = dequantize_gguf_tensor(stored) if hasattr(stored, "quant_type") else stored
        torch.testing.assert_close(ours.read(name).float(), expected.float(), rtol=1e-3, atol=1e-3)
        assert ours.shapes[name] == (6, 64)
    assert ours.shapes["patch_embedding.weight"] == (8, 6, 1, 2, 2)
    assert torch.equal(ours.read("patch_embedding.weight"), torch.from_numpy(patches))
