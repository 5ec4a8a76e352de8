"""Weights trained with the public Mirage code (github.com/microsoft/LatentSpatialMemory), imported by their key names.

Its stages save vace.safetensors (vace_blocks.*, vace_patch_embedding.*) and lora.safetensors
(pipe.dit.blocks.N.self_attn.q.lora_A.weight ...). Its own loader skips what does not fit; here that is an error.
Use them with the preset's `with_conventions("public")`, which sets everything else that they expect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.checkpoints import Checkpoint
from mirage_ros.models.lora import add_lora, remove_lora, set_lora_state
from mirage_ros.models.network_files import WeightsMismatchError, check_names
from mirage_ros.models.transformer import MirageTransformer

# What the public side branch is given.
BRANCH_INPUTS = ("latents", "ones")
# Prefixes that training wrappers leave in front of names.
_WRAPPERS = ("module.", "model.", "_fsdp_wrapped_module.", "pipe.", "base_model.model.", "base_model.", "vace.", "dit.")
# diffusers' names of a block's weights and modules, and those of the original Wan code.
_IN_BLOCK = {
    **{f"attn1.to_{letter}": f"self_attn.{letter}" for letter in "qkv"},
    "attn1.to_out.0": "self_attn.o",
    "attn1.norm_q": "self_attn.norm_q",
    "attn1.norm_k": "self_attn.norm_k",
    **{f"attn2.to_{letter}": f"cross_attn.{letter}" for letter in "qkv"},
    "attn2.to_out.0": "cross_attn.o",
    "attn2.norm_q": "cross_attn.norm_q",
    "attn2.norm_k": "cross_attn.norm_k",
    # The only norm with weights stands before cross-attention: third in Wan's numbering, second in diffusers'.
    "norm2": "norm3",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
    "scale_shift_table": "modulation",
}
_OUTSIDE = {
    "patch_embedding": "patch_embedding",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "scale_shift_table": "head.modulation",
    "proj_out": "head.head",
}
_BLOCK = re.compile(r"blocks\.(\d+)\.(.+)")
_LORA = re.compile(r"(.+)\.(lora_[AB])(?:\.default)?\.weight")


def original_name(name: str) -> str:
    """The original Wan name of one of diffusers' weights or modules of a Wan transformer.

    blocks.3.attn1.to_q.weight -> blocks.3.self_attn.q.weight, proj_out.bias -> head.head.bias.

    Raises:
        KeyError: it is none of them.
    """
    block = _BLOCK.fullmatch(name)
    inside, table = (block[2], _IN_BLOCK) if block else (name, _OUTSIDE)
    for own, original in table.items():
        if inside == own or inside.startswith(f"{own}."):
            return (f"blocks.{block[1]}." if block else "") + original + inside[len(own) :]
    raise KeyError(name)


def public_branch_name(name: str) -> str:
    """The public code's name of one of this project's branch weights.

    proj_out.3.weight -> vace_blocks.3.after_proj.weight, proj_in.bias -> vace_blocks.0.before_proj.bias.
    """
    if name.startswith("proj_in."):
        return f"vace_blocks.0.before_proj.{name.removeprefix('proj_in.')}"
    if name.startswith("proj_out."):
        _, number, rest = name.split(".", 2)
        return f"vace_blocks.{number}.after_proj.{rest}"
    return f"vace_{original_name(name)}"


def import_branch(model: MirageTransformer, file: str | Path) -> None:
    """Load a public side branch into the model's memory branch.

    Args:
        model: its branch must take `BRANCH_INPUTS` (96 channels at full size).
        file: safetensors.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: a weight is missing, left over or misshapen; the message has the file's names.
        ValueError: the branch has other inputs, or the file is not safetensors.
    """
    branch = model.branch
    inputs = None if branch is None else tuple(branch.config["inputs"])
    if branch is None or inputs != BRANCH_INPUTS:
        raise ValueError(
            f"model: expected a branch with inputs {BRANCH_INPUTS} for public weights, got {inputs}; build it from "
            "preset.with_conventions('public')"
        )
    own, checkpoint = branch.state_dict(), Checkpoint.open(file)
    given = {_unwrapped(name): name for name in checkpoint.shapes}
    unwrapped = Checkpoint(str(file), {name: checkpoint.shapes[given[name]] for name in given}, checkpoint.read)
    # Compared in the names of the file, so that a user finds them there.
    unwrapped.check({public_branch_name(name): tensor for name, tensor in own.items()})
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(checkpoint.read(given[public_branch_name(name)]))


def import_lora(model: MirageTransformer, file: str | Path) -> None:
    """Load public LoRA, unmerged.

    Args:
        file: safetensors. The public code saves no alpha and fuses at scale one.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: a matrix has no partner, a block lacks a layer that other blocks have, a name is not one
            of the backbone's, or a shape is wrong.
        ValueError: the file is not safetensors, or the model has LoRA already.
    """
    linear = {
        original_name(name): name for name, module in model.backbone.named_modules() if isinstance(module, nn.Linear)
    }
    state, unexpected = {}, []
    checkpoint = Checkpoint.open(file)
    for name in checkpoint.shapes:
        match = _LORA.fullmatch(_unwrapped(name))
        if match is None or match[1] not in linear:
            unexpected.append(name)
        else:
            state[f"{match[1]}.{match[2]}.weight"] = checkpoint.read(name)
    layers = {name for name, _ in _split(state)}
    kinds = {match[2] for name in layers if (match := _BLOCK.fullmatch(name))}
    layers |= {f"blocks.{block}.{kind}" for block in range(len(model.backbone.blocks)) for kind in kinds}
    missing = {f"{name}.lora_{letter}.weight" for name in layers for letter in "AB"} - state.keys()
    ranks = {tensor.shape[0] for name, tensor in state.items() if "lora_A" in name}
    misshapen = [f"rank: got {sorted(ranks)}, expected one for all layers"] if len(ranks) != 1 else []
    check_names(str(file), missing if state else ["*.lora_A.weight"], unexpected, misshapen)
    add_lora(model, ranks.pop(), targets=sorted(linear[name] for name in layers))
    own = {f"{linear[name]}.lora_{rest}": state[f"{name}.lora_{rest}"] for name, rest in _split(state)}
    try:
        set_lora_state(model, own, str(file))
    except WeightsMismatchError:
        remove_lora(model)
        raise


class OnesLatents:
    """The constant half of the public branch's input: the latents of an all-ones video.

    The public code encodes them again on every call; here once for each shape.

    Args:
        autoencoder: the preset's.
        encode: in place of the autoencoder's own, for one that is brought to the device for its work.
    """

    def __init__(self, autoencoder: Autoencoder, encode: Callable[[Tensor], Tensor] | None = None) -> None:
        self._autoencoder, self._encode = autoencoder, encode
        self._kept: dict[tuple[int, int, int, torch.device], Tensor] = {}

    def __call__(self, latent_frames: int, height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
        """(F, C, h, w) float32 latents for this many latent frames of h x w cells."""
        key = (latent_frames, height, width, torch.device(device))
        if key not in self._kept:
            _, rows, columns = self._autoencoder.strides
            frames = self._autoencoder.video_frames(latent_frames)
            # In the autoencoder's range of -1..1 the public code feeds 1: white.
            white = torch.ones(1, frames, 3, height * rows, width * columns, device=device)
            encode = self._encode or self._autoencoder.encode
            with torch.no_grad():
                self._kept[key] = encode(white)[0].transpose(0, 1).contiguous()
        return self._kept[key]


def _split(state: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Layer and matrix of each name of LoRA."""
    return [(layer, rest) for layer, _, rest in (name.partition(".lora_") for name in state)]


def _unwrapped(name: str) -> str:
    """A name without the prefixes of training wrappers, repeated or not."""
    while prefix := next((prefix for prefix in _WRAPPERS if name.startswith(prefix)), None):
        name = name[len(prefix) :]
    return name
