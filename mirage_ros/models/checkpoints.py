"""Checkpoints read tensor by tensor: names and shapes are compared before a single weight is read.

Published weights come as diffusers' folders (one file or shards with an index), as single safetensors files in the
names of diffusers or of Wan's own code, with the prefix of ComfyUI or without, in float8 with or without scales, and as
GGUF.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError, check_shapes

# The file or index of a folder that diffusers or Wan's authors saved.
_STEM = "diffusion_pytorch_model"
# ComfyUI's prefixes of a whole network, and its names beside those of weights: scales of float8 weights, those of their
# inputs, which only float8 products need, and an empty mark. What it says of a layer is beside its weights or in the
# file's metadata.
_PREFIXES = ("model.diffusion_model.", "diffusion_model.")
_SCALES, _UNUSED = (".scale_weight", ".weight_scale"), (".scale_input", ".input_scale", "scaled_fp8")
_LAYER, _LAYERS = ".comfy_quant", "_quantization_metadata"


class Checkpoint:
    """Named weights on the disk.

    Args:
        what: names it in errors.
        shapes: of every weight.
        read: gives the weight of a name.
    """

    def __init__(self, what: str, shapes: Mapping[str, torch.Size], read: Callable[[str], Tensor]) -> None:
        self.what, self.shapes, self.read = what, dict(shapes), read

    @classmethod
    def open(cls, path: str | Path) -> Checkpoint:
        """One file (safetensors or GGUF), or a folder with one or with shards and their index.

        Raises:
            MissingWeightsError: there is no such file, or a shard is missing.
            WeightsMismatchError: weights are quantised in another way than to float8.
            ValueError: the file is neither.
        """
        path = Path(path)
        if path.suffix == ".gguf" and path.is_file():
            return _gguf(path)
        places: dict[str, Any] = {}
        for file in _files(path):
            try:
                opened = safe_open(file, "pt")
            except SafetensorError as error:
                raise ValueError(
                    f"{file}: expected safetensors ({error}); pickled checkpoints are not opened, as they can run code"
                ) from error
            places |= dict.fromkeys(opened.keys(), opened)
        prefix = next((prefix for prefix in _PREFIXES if any(name.startswith(prefix) for name in places)), "")
        own = {name.removeprefix(prefix): (opened, name) for name, opened in places.items()}
        scales = {name: own.pop(name) for name in list(own) if name.endswith(_SCALES)}
        layers = {name: own.pop(name) for name in list(own) if name.endswith(_LAYER)}
        own = {name: place for name, place in own.items() if not name.endswith(_UNUSED)}
        _check_quantised(str(path), own, scales, layers)

        def read(name: str) -> Tensor:
            opened, stored = own[name]
            weight: Tensor = opened.get_tensor(stored)
            for scale in (name.removesuffix(".weight") + suffix for suffix in _SCALES):
                if name.endswith(".weight") and scale in scales:
                    opened, stored = scales[scale]
                    factor = opened.get_tensor(stored).float()
                    # One for all, or one for each row.
                    if factor.numel() not in (1, len(weight)):
                        raise WeightsMismatchError(
                            f"{stored}: expected 1 or {len(weight)} scales of float8 weights, got {tuple(factor.shape)}"
                        )
                    weight = weight.float() * factor.reshape(-1, *[1] * (weight.ndim - 1))
            return weight

        shapes = {name: torch.Size(opened.get_slice(stored).get_shape()) for name, (opened, stored) in own.items()}
        return cls(str(path), shapes, read)

    def check(self, expected: Mapping[str, Tensor]) -> None:
        """Refuse other names or shapes than these, in the names of the file.

        Raises:
            WeightsMismatchError: they differ.
        """
        check_shapes(
            self.what, {name: torch.empty(shape, device="meta") for name, shape in self.shapes.items()}, expected
        )


def _check_quantised(what: str, own: Mapping[str, Any], scales: Mapping[str, Any], layers: Mapping[str, Any]) -> None:
    """Refuse what a factor does not undo: weights of four bits or eight whole ones, perhaps rotated, or of blocks."""
    said = {name: json.loads(bytes(opened.get_tensor(stored).tolist())) for name, (opened, stored) in layers.items()}
    for opened in {id(opened): opened for opened, _ in own.values()}.values():
        said |= json.loads((opened.metadata() or {}).get(_LAYERS, "{}")).get("layers", {})
    for name, content in said.items():
        if not str(content.get("format")).startswith("float8") or content.get("convrot"):
            raise WeightsMismatchError(f"{what}: {name}: expected float8 weights, got {content}")
    for name in scales:
        weight = f"{name.rpartition('.')[0]}.weight"
        if weight in own and not (kind := own[weight][0].get_slice(own[weight][1]).get_dtype()).startswith("F8"):
            raise WeightsMismatchError(f"{what}: {weight}: expected float8 weights beside {name}, got {kind}")


def final_dtype(part: ModelMixin, name: str, dtype: torch.dtype) -> torch.dtype:
    """The type of one weight of a network that is used in `dtype`: norms and tables may stay float32."""
    return torch.float32 if set(part._keep_in_fp32_modules or ()) & set(name.split(".")) else dtype


def empty_part(kind: Any, config: str | Path | Mapping[str, Any]) -> Any:
    """A network on the meta device.

    Args:
        kind: its class, one of diffusers' or like them.
        config: its configuration, or a folder that has it.
    """
    given = kind.load_config(str(config)) if isinstance(config, str | Path) else dict(config)
    with torch.device("meta"):
        return kind.from_config(given)


def fill(
    model: ModelMixin,
    checkpoint: Checkpoint,
    dtype: torch.dtype,
    *,
    stored_name: Callable[[str], str] = str,
    finish: Callable[[nn.Module], object] | None = None,
) -> None:
    """Fill a network that is on the meta device, with no more than one weight held twice.

    Args:
        model: from `empty_part`.
        checkpoint: its weights.
        dtype: of the weights in the network.
        stored_name: the checkpoint's name of a weight of the network.
        finish: called for each of the network's blocks once it is filled, to make it smaller.

    Raises:
        WeightsMismatchError: names or shapes differ; nothing was read.
    """
    names = {name: stored_name(name) for name in model.state_dict()}
    checkpoint.check({names[name]: tensor for name, tensor in model.state_dict().items()})
    blocks = {f"blocks.{index}": block for index, block in enumerate(getattr(model, "blocks", ()))}
    left = {prefix: sum(name.startswith(f"{prefix}.") for name in names) for prefix in blocks}
    for name, stored in names.items():
        parent, _, last = name.rpartition(".")
        weight = checkpoint.read(stored).to(final_dtype(model, name, dtype), copy=True)
        setattr(model.get_submodule(parent), last, nn.Parameter(weight, requires_grad=False))
        prefix = ".".join(name.split(".")[:2])
        if prefix in left:
            left[prefix] -= 1
            if finish is not None and not left[prefix]:
                finish(blocks[prefix])
    if isinstance(rope := getattr(model, "rope", None), WanRotaryPosEmbed):
        # Its tables are computed, not stored.
        model.rope = WanRotaryPosEmbed(rope.attention_head_dim, rope.patch_size, rope.max_seq_len)


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise MissingWeightsError(f"{path}: expected a safetensors file, found none")
    single, index = path / f"{_STEM}.safetensors", path / f"{_STEM}.safetensors.index.json"
    if single.is_file():
        return [single]
    if not index.is_file():
        raise MissingWeightsError(f"{path}: expected {single.name} or {index.name}, found neither")
    shards = [path / name for name in sorted(set(json.loads(index.read_text())["weight_map"].values()))]
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise MissingWeightsError(f"{path}: expected the shards of {index.name}, {', '.join(missing)} missing")
    return shards


def _gguf(path: Path) -> Checkpoint:
    """GGUF through its authors' package; weights are dequantised as they are read."""
    try:
        from gguf import GGUFReader
        from gguf.quants import dequantize
    except ImportError as error:
        raise ImportError(f"{path}: GGUF files need the package gguf: pip install 'mirage_ros[quantised]'") from error
    reader = GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}

    def shape(name: str) -> torch.Size:
        # GGUF's dimensions run the other way round; of more than four the true ones stand beside the weights.
        kept = reader.get_field(f"comfy.gguf.orig_shape.{name}")
        sizes = tensors[name].shape[::-1] if kept is None else [kept.parts[place][0] for place in kept.data]
        return torch.Size(int(size) for size in sizes)

    shapes = {name: shape(name) for name in tensors}

    def read(name: str) -> Tensor:
        tensor = tensors[name]
        return torch.from_numpy(dequantize(tensor.data, tensor.tensor_type)).reshape(shapes[name])

    return Checkpoint(str(path), shapes, read)
