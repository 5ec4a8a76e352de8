"""LoRA on the backbone through peft (Hu et al., arXiv 2106.09685); the memory branch is never touched.

Files are peft's: adapter_config.json, which holds rank and alpha, and adapter_model.safetensors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model, set_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file, save_file
from torch import Tensor

from mirage_ros.models.weights_io import MissingWeightsError, compare_shapes

if TYPE_CHECKING:
    from mirage_ros.models.transformer import MirageTransformer

ADAPTER = "default"
# A full expression over names in the backbone: the bare suffix to_q would also match cross-attention.
SELF_ATTENTION = r"blocks\.\d+\.attn1\.(to_q|to_k|to_v|to_out\.0)"
RANK = 64
CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"


def add_lora(
    model: MirageTransformer,
    rank: int = RANK,
    alpha: float | None = None,
    targets: str | Sequence[str] = SELF_ATTENTION,
    dropout: float = 0.0,
) -> list[torch.nn.Parameter]:
    """Add LoRA that changes nothing yet.

    Args:
        model: its backbone gets the layers; everything else about it stays as it is, trainable or not.
        rank: of the update.
        alpha: the update is scaled by alpha / rank; alpha = rank by default.
        targets: regular expression over full names of the backbone's linear layers, or a list of names.
        dropout: in training, on the layers' input.

    Returns:
        The new weights, for an optimiser.

    Raises:
        ValueError: there is LoRA already, or nothing matches.
    """
    backbone = model.backbone
    if has_lora(model):
        raise ValueError("lora: the backbone has LoRA already; remove_lora first")
    if rank < 1:
        raise ValueError(f"rank: expected a positive whole number, got {rank}")
    trainable = {name: parameter.requires_grad for name, parameter in backbone.named_parameters()}
    config = LoraConfig(
        r=rank,
        # peft declares a whole number and takes any.
        lora_alpha=rank if alpha is None else alpha,  # type: ignore[arg-type]
        target_modules=targets if isinstance(targets, str) else list(targets),
        lora_dropout=dropout,
    )
    inject_adapter_in_model(config, backbone, ADAPTER)
    # peft freezes the rest and renames what it wraps; freezing is the caller's to decide.
    for name, parameter in backbone.named_parameters():
        if "lora_" not in name:
            parameter.requires_grad_(trainable[name.replace(".base_layer.", ".")])
    backbone.peft_config = {ADAPTER: config}  # type: ignore[assignment]
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


def merge_lora(model: MirageTransformer, keep_base: bool = True) -> None:
    """Add the update to the base weights, so that it costs nothing at run time.

    Args:
        model: with LoRA.
        keep_base: keep a copy of the base weights on the CPU, so that `unmerge_lora` restores them bit for bit.
            Without, merging is for good: subtracting again would leave rounding errors.

    Raises:
        ValueError: there is no LoRA, or it is merged already.
    """
    _refuse_merged(model)
    layers = _layers(model.backbone)
    if not layers:
        raise ValueError("lora: the backbone has none to merge")
    for layer in layers.values():
        weight = layer.get_base_layer().weight
        layer.kept_base_weight = weight.detach().to("cpu", copy=True) if keep_base else None
        layer.merge()


def unmerge_lora(model: MirageTransformer) -> None:
    """Restore the base weights bit for bit.

    Raises:
        ValueError: LoRA is not merged, or was merged without keeping the base weights.
    """
    layers = _layers(model.backbone)
    if not layers or not all(layer.merged for layer in layers.values()):
        raise ValueError("lora: expected merged LoRA")
    if any(getattr(layer, "kept_base_weight", None) is None for layer in layers.values()):
        raise ValueError("lora: merged with keep_base=False, so the base weights are gone; load the model again")
    for layer in layers.values():
        layer.unmerge()
        layer.get_base_layer().weight.data.copy_(layer.kept_base_weight)
        layer.kept_base_weight = None


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
    config = model.backbone.peft_config[ADAPTER]
    config.save_pretrained(str(folder))
    save_file(_state(model.backbone), folder / WEIGHTS_FILE, metadata={"format": "pt"})


def load_lora(model: MirageTransformer, folder: str | Path) -> None:
    """Load what `save_lora` saved, with its own rank and alpha.

    Raises:
        MissingWeightsError: a file is missing.
        WeightsMismatchError: a weight is missing, left over or misshapen.
        ValueError: the model has LoRA already.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise MissingWeightsError(f"{folder}: expected {name}, as saved by save_lora or peft")
    config = LoraConfig.from_pretrained(str(folder))
    targets = config.target_modules
    if targets is None:
        raise ValueError(f"{folder / CONFIG_FILE}: expected target_modules, got none")
    add_lora(
        model, config.r, config.lora_alpha, targets if isinstance(targets, str) else list(targets), config.lora_dropout
    )
    try:
        set_lora_state(model, load_file(folder / WEIGHTS_FILE), str(folder / WEIGHTS_FILE))
    except ValueError:
        remove_lora(model)
        raise


def set_lora_state(model: MirageTransformer, state: dict[str, Tensor], what: str) -> None:
    """Set the weights of LoRA that was added before.

    Args:
        model: with LoRA.
        state: names such as blocks.0.attn1.to_q.lora_A.weight.
        what: the source, for messages.

    Raises:
        WeightsMismatchError: a weight is missing, left over or misshapen.
    """
    wrong = compare_shapes(what, state, _state(model.backbone))
    if wrong:
        raise wrong
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


def _layers(backbone: WanTransformer3DModel) -> dict[str, Any]:
    return {name: module for name, module in backbone.named_modules() if isinstance(module, LoraLayer)}


def _state(backbone: WanTransformer3DModel) -> dict[str, Tensor]:
    state: dict[str, Tensor] = get_peft_model_state_dict(backbone, adapter_name=ADAPTER)
    return {name: tensor.contiguous() for name, tensor in state.items()}


def _refuse_merged(model: MirageTransformer) -> None:
    if any(layer.merged for layer in _layers(model.backbone).values()):
        raise ValueError("lora: merged into the base weights; unmerge_lora first")
