"""Weights in every published layout, written at minute width, and refused before they are read if they are wrong."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mirage_ros.models import checkpoints
from mirage_ros.models.checkpoints import Checkpoint
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError
from mirage_ros.models.presets import TEST
from mirage_ros.models.public_weights import original_name
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import check_source, load_transformer, save_transformer

Build = Callable[..., MirageTransformer]


def originals(model: MirageTransformer) -> dict[str, Tensor]:
    return {original_name(name): tensor.clone() for name, tensor in model.backbone.state_dict().items()}


def in_comfy_names(model: MirageTransformer, folder: Path) -> Path:
    weights = {f"model.diffusion_model.{name}": tensor for name, tensor in originals(model).items()}
    save_file(weights, folder / "comfy.safetensors")
    return folder / "comfy.safetensors"


def in_shards_of_wan(model: MirageTransformer, folder: Path) -> Path:
    """As Wan-AI/Wan2.2-TI2V-5B has it: shards of diffusers' names, weights of Wan's."""
    weights, home = originals(model), folder / "wan"
    home.mkdir()
    names = sorted(weights)
    shards = [f"diffusion_pytorch_model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    files = {name: shards[index % 2] for index, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: weights[name] for name in names if files[name] == file}, home / file)
    index = {"metadata": {"total_size": 1}, "weight_map": files}
    (home / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    return home


def in_scaled_float8(model: MirageTransformer, folder: Path) -> Path:
    weights = originals(model)
    for name in [name for name in weights if ".self_attn.q.weight" in name or "ffn.0.weight" in name]:
        scale = weights[name].abs().max() / 448
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
        weights[name.replace(".weight", ".scale_weight")] = scale
    weights["scaled_fp8"] = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file(weights, folder / "fp8.safetensors")
    return folder / "fp8.safetensors"


def in_comfys_float8(model: MirageTransformer, folder: Path) -> Path:
    """As ComfyUI writes it now: what each layer is stands beside its weights, and in the metadata."""
    weights, layers = originals(model), {}
    for name in [name for name in weights if ".cross_attn.k.weight" in name or "ffn.2.weight" in name]:
        scale, layer = weights[name].abs().max() / 448, name.removesuffix(".weight")
        weights[name] = (weights[name] / scale).to(torch.float8_e4m3fn)
        layers[layer] = {"format": "float8_e4m3fn"}
        weights[f"{layer}.weight_scale"], weights[f"{layer}.input_scale"] = scale, torch.ones(())
        weights[f"{layer}.comfy_quant"] = told(layers[layer])
    save_file(weights, folder / "comfy8.safetensors", {"_quantization_metadata": json.dumps({"layers": layers})})
    return folder / "comfy8.safetensors"


def told(content: dict[str, object]) -> Tensor:
    return torch.tensor(list(json.dumps(content).encode()), dtype=torch.uint8)


def in_gguf(model: MirageTransformer, folder: Path) -> Path:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(folder / "q8.gguf", "wan")
    for name, tensor in originals(model).items():
        array = tensor.float().numpy()
        if array.ndim > 4:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(size) for size in array.shape])
            array = array.reshape(array.shape[0], -1)
        if array.ndim == 2 and array.shape[1] % 32 == 0:
            kind = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return folder / "q8.gguf"


LAYOUTS = [
    *((in_comfy_names, 0.0), (in_shards_of_wan, 0.0)),
    *((in_scaled_float8, 0.05), (in_comfys_float8, 0.05), (in_gguf, 0.05)),
]


@pytest.mark.parametrize(("write", "share"), LAYOUTS, ids=lambda value: getattr(value, "__name__", ""))
def test_every_layout_gives_the_network_that_was_saved(
    new_model: Build, flow: Callable, tmp_path: Path, write: Callable, share: float
) -> None:
    model = new_model(hints=True)
    expected = flow(model)
    save_transformer(model, tmp_path)
    file = write(model, tmp_path)
    for parameter in model.backbone.parameters():
        parameter.data.zero_()
    model.backbone.save_pretrained(tmp_path / "transformer")
    loaded = load_transformer(tmp_path, transformer_file=file, backbone_config=model.backbone.config)
    assert (flow(loaded) - expected).std() <= share * expected.std()


def test_a_wrong_file_is_refused_by_its_names_before_a_weight_is_read(
    new_model: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    save_transformer(model, tmp_path)
    file = in_comfy_names(new_model(ffn_dim=40), tmp_path)

    class Listing:
        """Names and shapes alone."""

        def __init__(self, *given: object) -> None:
            opened = safe_open(*given)
            self.keys, self.get_slice, self.metadata = opened.keys, opened.get_slice, opened.metadata

    monkeypatch.setattr(checkpoints, "safe_open", Listing)
    wrong = "blocks.0.ffn.0.bias: got (40,), expected (48,)"
    with pytest.raises(WeightsMismatchError, match=re.escape(wrong)):
        load_transformer(tmp_path, transformer_file=file, backbone_config=model.backbone.config)


@pytest.mark.parametrize(
    ("kind", "said", "metadata", "message"),
    [
        (torch.int8, None, {}, "ffn.0.weight: expected float8 weights beside .*ffn.0.weight_scale, got I8"),
        (torch.int8, {"format": "int8_tensorwise"}, {}, "expected float8 weights, got .*int8_tensorwise"),
        (torch.uint8, {"format": "nvfp4"}, {}, "expected float8 weights, got .*nvfp4"),
        (torch.float8_e4m3fn, {"format": "float8_e4m3fn", "convrot": True}, {}, "expected float8 .*convrot"),
        (torch.float8_e4m3fn, None, {"blocks.0.ffn.0": {"format": "mxfp8"}}, "expected float8 weights, got .*mxfp8"),
    ],
)
def test_weights_that_a_factor_does_not_undo_are_refused(
    new_model: Build, tmp_path: Path, kind: torch.dtype, said: dict, metadata: dict, message: str
) -> None:
    weights = originals(new_model())
    weights["blocks.0.ffn.0.weight"] = weights["blocks.0.ffn.0.weight"].to(kind)
    weights["blocks.0.ffn.0.weight_scale"] = torch.ones(())
    if said is not None:
        weights["blocks.0.ffn.0.comfy_quant"] = told(said)
    save_file(weights, tmp_path / "q.safetensors", {"_quantization_metadata": json.dumps({"layers": metadata})})
    with pytest.raises(WeightsMismatchError, match=message):
        Checkpoint.open(tmp_path / "q.safetensors")


def test_a_folder_is_compared_with_the_preset_by_name_and_shape(new_model: Build, tmp_path: Path) -> None:
    model = new_model()
    save_transformer(model, tmp_path)
    own = {name: model.backbone.config[name] for name in ("num_layers", "ffn_dim", "patch_size")}
    check_source(tmp_path, own)
    with pytest.raises(WeightsMismatchError, match="num_layers: got 3, expected 30"):
        check_source(tmp_path, {**own, "num_layers": 30})
    # Wan 2.1's autoencoder beside Wan 2.2's transformer.
    TEST.new_autoencoder().save_pretrained(tmp_path / "vae")
    check_source(tmp_path, own, 6)
    with pytest.raises(WeightsMismatchError, match="vae: z_dim: got 6, expected 48 latent channels"):
        check_source(tmp_path, own, 48)
    shutil.rmtree(tmp_path / "branch")
    with pytest.raises(MissingWeightsError, match="has no memory branch"):
        check_source(tmp_path, own)
    check_source(tmp_path, own, branch=False)
    # Another backbone is used, so this one may be anything.
    check_source(tmp_path, {**own, "num_layers": 30}, transformer=False, branch=False)
    other = new_model(ffn_dim=40).backbone.state_dict()
    save_file(other, tmp_path / "transformer" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsMismatchError, match=r"blocks.0.ffn.net.0.proj.bias: got \(40,\), expected \(48,\)"):
        check_source(tmp_path, own, branch=False)


def test_a_missing_shard_is_named(new_model: Build, tmp_path: Path) -> None:
    home = in_shards_of_wan(new_model(), tmp_path)
    (home / "diffusion_pytorch_model-00002-of-00002.safetensors").unlink()
    with pytest.raises(MissingWeightsError, match="expected the shards of .*diffusion_pytorch_model-00002-of-00002"):
        Checkpoint.open(home)
    with pytest.raises(MissingWeightsError, match="found neither"):
        Checkpoint.open(tmp_path)


def test_float32_norms_are_read_as_they_are(new_model: Build, tmp_path: Path) -> None:
    model = new_model()
    with torch.no_grad():
        model.backbone.blocks[0].scale_shift_table.fill_(1 + 2**-12)
    save_transformer(model, tmp_path)
    loaded = load_transformer(tmp_path, dtype=torch.bfloat16)
    assert loaded.backbone.blocks[0].scale_shift_table.dtype == torch.float32
    assert torch.equal(loaded.backbone.blocks[0].scale_shift_table, model.backbone.blocks[0].scale_shift_table)
    assert loaded.backbone.blocks[0].ffn.net[2].weight.dtype == torch.bfloat16
    # Diffusers itself reads what it is given alike.
    theirs = WanTransformer3DModel.from_pretrained(tmp_path / "transformer", torch_dtype=torch.bfloat16)
    assert {name: tensor.dtype for name, tensor in theirs.state_dict().items()} == {
        name: tensor.dtype for name, tensor in loaded.backbone.state_dict().items()
    }
    assert all(torch.equal(tensor, loaded.backbone.state_dict()[name]) for name, tensor in theirs.state_dict().items())
