"""LoRA on the backbone through peft (Hu et al., arXiv 2106.09685); the memory branch is never touched.

Files are peft's: adapter_config.json, which holds rank and alpha, and adapter_model.safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor

from mirage_ros.models.network_files import MissingWeightsError, check_shapes
from mirage_ros.models.transformer import MirageTransformer

ADAPTER = "default"
# A full expression over names in the backbone: the bare suffix to_q would also match cross-attention.
SELF_ATTENTION = r"blocks\.\d+\.attn1\.(to_q|to_k|to_v|to_out\.0)"
RANK = 64
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
# What peft puts before names when it wraps a whole model.
PREFIX = "base_model.model."
# Settings of a file that are followed, and those without effect on what it computes. Others must be peft's defaults.
_FOLLOWED = {
    *("r", "lora_alpha", "lora_dropout", "use_rslora", "rank_pattern", "alpha_pattern"),
    *("target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"),
}
_WITHOUT_EFFECT = {
    *("peft_version", "auto_mapping", "base_model_name_or_path", "revision", "task_type", "inference_mode"),
    *("runtime_config", "megatron_core", "qalora_group_size"),
}
# Ways to begin training that leave the base weights alone; others, such as PiSSA, belong to other base weights.
_BEGINNINGS = (True, False, None, "gaussian", "orthogonal", "eva")


def add_lora(
    model: MirageTransformer,
    rank: int = RANK,
    alpha: float | None = None,
    targets: str | Sequence[str] = SELF_ATTENTION,
) -> list[torch.nn.Parameter]:
    """Add LoRA that changes nothing yet.

    Args:
        model: its backbone gets the layers; everything else about it stays as it is, trainable or not.
        alpha: the update is scaled by alpha / rank; alpha = rank by default.
        targets: regular expression over full names of the backbone's linear layers, or a list of names.

    Returns:
        The new weights, for an optimiser.

    Raises:
        ValueError: there is LoRA already, or nothing matches.
    """
    if rank < 1:
        raise ValueError(f"rank: expected a positive whole number, got {rank}")
    config = LoraConfig(
        r=rank,
        # peft declares a whole number and takes any.
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    _inject(model, config)
    return lora_parameters(model)


def has_lora(model: MirageTransformer) -> bool:
    """Whether the backbone carries LoRA."""
    return bool(_layers(model.backbone))


def lora_parameters(model: MirageTransformer) -> list[torch.nn.Parameter]:
    """The weights of the LoRA."""
    return [parameter for name, parameter in model.backbone.named_parameters() if "lora_" in name]


def remove_lora(model: MirageTransformer) -> None:
    """Take LoRA off, leaving the base weights as they were.

    Raises:
        ValueError: it is merged.
    """
    _refuse_merged(model)
    for name, layer in _layers(model.backbone).items():
        parent, _, last = name.rpartition(".")
        setattr(model.backbone.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(model.backbone, "peft_config"):
        del model.backbone.peft_config


def merge_lora(model: MirageTransformer) -> None:
    """Add the update to the base weights for good, so that it costs nothing at run time.

    Raises:
        ValueError: there is no LoRA, or it is merged already.
    """
    _refuse_merged(model)
    if not has_lora(model):
        raise ValueError("lora: the backbone has none to merge")
    for layer in _layers(model.backbone).values():
        layer.merge()


def save_lora(model: MirageTransformer, folder: str | Path) -> None:
    """Save LoRA with its rank and alpha in peft's format.

    Raises:
        ValueError: there is none, or it is merged.
    """
    _refuse_merged(model)
    if not has_lora(model):
        raise ValueError("lora: the backbone has none to save")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model.backbone.peft_config[ADAPTER].save_pretrained(str(folder))
    save_file(_state(model.backbone), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_lora(model: MirageTransformer, folder: str | Path) -> None:
    """Load what `save_lora` or peft saved, with its own ranks and scales.

    Raises:
        MissingWeightsError: a file is missing.
        WeightsMismatchError: a weight is missing, left over or misshapen.
        ValueError: the file asks for something that is not done here, or the model has LoRA already.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise MissingWeightsError(f"{folder}: expected {name}, as saved by save_lora or peft")
    config = _read_config(folder / CONFIG_FILE)
    weights = load_file(folder / WEIGHTS_FILE)
    if all(name.startswith(PREFIX) for name in weights):
        weights = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    _inject(model, config)
    try:
        set_lora_state(model, weights, str(folder / WEIGHTS_FILE))
    except ValueError:
        remove_lora(model)
        raise


def set_lora_state(model: MirageTransformer, state: dict[str, Tensor], what: str) -> None:
    """Set the weights of LoRA that was added before.

    Args:
        state: names such as blocks.0.attn1.to_q.lora_A.weight.

    Raises:
        WeightsMismatchError: a weight is missing, left over or misshapen.
    """
    check_shapes(what, state, _state(model.backbone))
    set_peft_model_state_dict(model.backbone, state, ADAPTER)


@contextmanager
def without_lora(model: MirageTransformer) -> Iterator[WanTransformer3DModel]:
    """The bare backbone for a while, with its published names, for saving."""
    _refuse_merged(model)
    backbone = model.backbone
    layers = _layers(backbone)
    places = {name: (backbone.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]) for name in layers}
    for name, layer in layers.items():
        setattr(*places[name], layer.get_base_layer())
    try:
        yield backbone
    finally:
        for name, layer in layers.items():
            setattr(*places[name], layer)


def _read_config(file: Path) -> LoraConfig:
    """A file's settings.

    Raises:
        ValueError: names a setting that would be ignored here, though it changes what the weights mean.
    """
    given: dict[str, Any] = json.loads(file.read_text())
    defaults = {**LoraConfig().to_dict(), "peft_type": "LORA"}
    supported = {name: [defaults.get(name)] for name in given.keys() - _FOLLOWED - _WITHOUT_EFFECT}
    supported |= {"init_lora_weights": list(_BEGINNINGS)}
    for name, values in sorted(supported.items()):
        value = given.get(name)
        # Versions of peft differ in how they write what is not set: null, [] or {}.
        if value not in values and (value or any(values)):
            raise ValueError(f"{file}: {name}: expected {' or '.join(map(repr, values))}, got {value!r}")
    if not given.get("target_modules"):
        raise ValueError(f"{file}: target_modules: expected names of layers, got {given.get('target_modules')!r}")
    return LoraConfig(**{name: given[name] for name in _FOLLOWED & given.keys() if given[name] is not None})


def _inject(model: MirageTransformer, config: LoraConfig) -> None:
    """Put LoRA layers into the backbone as peft does; but peft also freezes the rest, which is the caller's to do."""
    backbone = model.backbone
    if has_lora(model):
        raise ValueError("lora: the backbone has LoRA already; remove_lora first")
    trainable = {name: parameter.requires_grad for name, parameter in backbone.named_parameters()}
    inject_adapter_in_model(config, backbone, ADAPTER)
    for name, parameter in backbone.named_parameters():
        if "lora_" not in name:
            parameter.requires_grad_(trainable[name.replace(".base_layer.", ".")])
    backbone.peft_config = {ADAPTER: config}  # type: ignore[assignment]


def _layers(backbone: WanTransformer3DModel) -> dict[str, Any]:
    return {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}


def _state(backbone: WanTransformer3DModel) -> dict[str, Tensor]:
    state: dict[str, Tensor] = get_peft_model_state_dict(backbone, adapter_name=ADAPTER)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _refuse_merged(model: MirageTransformer) -> None:
    if any(layer.merged for layer in _layers(model.backbone).values()):
        raise ValueError("lora: merged into the base weights; load the model again")
