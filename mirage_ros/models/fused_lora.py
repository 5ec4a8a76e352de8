"""LoRA of others, added to the weights for good: few-step distillations above all, in the layouts that are published.

Layers go by diffusers' names or Wan's own, with ComfyUI's, diffusers' and peft's prefixes or kohya's underscores;
matrices are lora_A and lora_B or lora_down and lora_up, with `alpha` or without (scale one), and `diff` and `diff_b`
are whole updates of weights and biases. Nothing is skipped: what has no place in the network is an error.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from mirage_ros.models.checkpoints import Checkpoint
from mirage_ros.models.network_files import check_names
from mirage_ros.models.public_weights import original_name
from mirage_ros.models.transformer import MirageTransformer

_PREFIXES = re.compile(r"^(base_model\.model\.|diffusion_model\.|transformer\.|pipe\.|dit\.|model\.|lora_unet_)+")
_PARTS = {
    **dict.fromkeys(("lora_A.weight", "lora_A.default.weight", "lora_down.weight", "lora.down.weight"), "down"),
    **dict.fromkeys(("lora_B.weight", "lora_B.default.weight", "lora_up.weight", "lora.up.weight"), "up"),
    **{"alpha": "alpha", "diff": "diff", "diff_b": "diff_b"},
}


@torch.no_grad()
def fuse_lora(model: MirageTransformer, file: str | Path, strength: float = 1.0) -> int:
    """Add a file's LoRA to the backbone's weights.

    Args:
        model: with weights that are not quantised.
        file: safetensors.
        strength: of the update.

    Returns:
        how many layers were changed.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: a name is not one of the backbone's, a matrix has no partner, or a shape is wrong. The
            weights are as they were.
        ValueError: the file is not safetensors.
    """
    checkpoint, modules = Checkpoint.open(file), dict(model.backbone.named_modules())
    layers = _names(model)
    found: dict[str, dict[str, str]] = {}
    unexpected = []
    for name in checkpoint.shapes:
        bare = _PREFIXES.sub("", name)
        ending = next((ending for ending in _PARTS if bare.endswith(f".{ending}")), None)
        layer = None if ending is None else layers.get(bare.removesuffix(f".{ending}"))
        if ending is None or layer is None:
            unexpected.append(name)
        else:
            found.setdefault(layer, {})[_PARTS[ending]] = name
    missing, misshapen = [], []
    for layer, parts in found.items():
        if ("down" in parts) != ("up" in parts) or set(parts) == {"alpha"}:
            missing.append(f"{layer}.{'up' if 'down' in parts else 'down'}")
            continue
        weight, bias = (getattr(modules[layer], name, None) for name in ("weight", "bias"))
        for part, tensor in (("diff", weight), ("diff_b", bias)):
            if part in parts and (tensor is None or checkpoint.shapes[parts[part]] != tensor.shape):
                expected = None if tensor is None else tuple(tensor.shape)
                misshapen.append(f"{parts[part]}: got {tuple(checkpoint.shapes[parts[part]])}, expected {expected}")
        if "down" in parts:
            down, up = (checkpoint.shapes[parts[part]] for part in ("down", "up"))
            assert weight is not None
            rows, columns = weight.shape[0], weight[0].numel()
            if down[0] != up[1] or up[0] != rows or down[1:].numel() != columns:
                misshapen.append(
                    f"{layer}: got {tuple(up)} x {tuple(down)}, expected ({rows}, rank) x (rank, {columns})"
                )
    check_names(str(file), missing if found else ["*.lora_A.weight"], unexpected, misshapen)
    for layer, parts in found.items():
        _add(modules[layer], {part: checkpoint.read(name) for part, name in parts.items()}, strength)
    return len(found)


def _names(model: MirageTransformer) -> dict[str, str]:
    """Layers of the backbone by each of the names that files give them."""
    layers: dict[str, str] = {}
    for name, module in model.backbone.named_modules():
        if getattr(module, "weight", None) is not None:
            original = original_name(name)
            layers |= dict.fromkeys((name, original, name.replace(".", "_"), original.replace(".", "_")), name)
    return layers


def _add(layer: nn.Module, parts: dict[str, Tensor], strength: float) -> None:
    """Sums in float32: an update is small beside its weight."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    if "down" in parts:
        down, up = (parts[part].float().flatten(1).to(weight.device) for part in ("down", "up"))
        scale = float(parts["alpha"]) / len(down) if "alpha" in parts else 1.0
        weight.copy_(weight.float() + strength * scale * (up @ down).view_as(weight))
    if "diff" in parts:
        weight.copy_(weight.float() + strength * parts["diff"].float().to(weight.device))
    if "diff_b" in parts:
        assert isinstance(bias, Tensor)
        bias.copy_(bias.float() + strength * parts["diff_b"].float().to(bias.device))
