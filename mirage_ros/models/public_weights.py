"""Weights trained with the public Mirage code (github.com/microsoft/LatentSpatialMemory), imported by their key names.

Its stages save vace.safetensors (vace_blocks.*, vace_patch_embedding.*) and lora.safetensors
(pipe.dit.blocks.N.self_attn.q.lora_A.weight ...). Its own loader skips what does not fit; here that is an error.
Use them with the preset's `with_conventions("public")`, which sets everything else that they expect.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.lora import add_lora, has_lora, remove_lora, set_lora_state
from mirage_ros.models.wan_names import backbone_name, branch_name, original_name, public_branch_name, strip_wrappers
from mirage_ros.models.weights_io import MissingWeightsError, WeightsMismatchError, compare_shapes

if TYPE_CHECKING:
    from mirage_ros.models.transformer import MirageTransformer

_LORA = re.compile(r"(.+)\.(lora_[AB])(?:\.default)?\.weight")
_LAYER = re.compile(r"blocks\.(\d+)\.(.+)")


def import_branch(model: MirageTransformer, file: str | Path) -> None:
    """Load a public side branch into the model's memory branch.

    Args:
        model: its branch must take the groups 'latents' and 'ones' (96 channels at full size).
        file: safetensors.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: a weight is missing, left over or misshapen; the message has the file's names.
        ValueError: the model has no branch, its branch has other inputs, or the file is not safetensors.
    """
    branch = model.branch
    if branch is None:
        raise ValueError("model: expected one with a memory branch")
    if list(branch.config["inputs"]) != ["latents", "ones"]:
        raise ValueError(
            f"model: expected a branch with inputs ('latents', 'ones') for public weights, got "
            f"{tuple(branch.config['inputs'])}; build it from preset.with_conventions('public')"
        )
    _load(branch, _open(file), str(file), lambda name: branch_name(_branch_key(name)), public_branch_name, _branch_key)


def import_backbone(model: MirageTransformer, file: str | Path) -> None:
    """Load a backbone with the original Wan names (blocks.N.self_attn.q.weight ...).

    Args:
        model: its backbone gets the weights.
        file: safetensors; side-branch weights in it are left over and refused.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: a weight is missing, left over or misshapen.
        ValueError: the file is not safetensors, or the backbone carries LoRA.
    """
    if has_lora(model):
        raise ValueError("lora: the backbone carries LoRA; import the backbone first")
    _load(model.backbone, _open(file), str(file), lambda name: backbone_name(_dit_key(name)), original_name, _dit_key)


def import_lora(model: MirageTransformer, file: str | Path, alpha: float | None = None) -> None:
    """Load public LoRA, unmerged.

    Args:
        model: without LoRA.
        file: safetensors. The public code saves no alpha and fuses at scale one.
        alpha: the update is scaled by alpha / rank; rank by default, the public code's scale.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: a matrix has no partner, a block lacks a layer that other blocks have, a name is not one
            of the backbone's, or a shape is wrong.
        ValueError: the file is not safetensors, or the model has LoRA already.
    """
    state, originals, unexpected = {}, {}, []
    for name, tensor in _open(file).items():
        match = _LORA.fullmatch(_dit_key(name))
        target = backbone_name(match[1]) if match else None
        if match is None or target is None:
            unexpected.append(name)
            continue
        key = f"{target}.{match[2]}.weight"
        state[key], originals[key] = tensor, name
    modules = dict(model.backbone.named_modules())
    linear = {key.rpartition(".lora_")[0] for key in state}
    unexpected += [
        originals[key] for key in state if not isinstance(modules.get(key.rpartition(".lora_")[0]), nn.Linear)
    ]
    kinds = {match[2] for name in linear if (match := _LAYER.fullmatch(name))}
    complete = {f"blocks.{block}.{kind}" for block in range(len(model.backbone.blocks)) for kind in kinds}
    expected = {f"{name}.lora_{letter}.weight" for name in complete | linear for letter in "AB"}
    missing = [_original_lora(key) for key in expected - state.keys()]
    ranks = {tensor.shape[0] for key, tensor in state.items() if "lora_A" in key}
    misshapen = [f"rank: got {sorted(ranks)}, expected one for all layers"] if len(ranks) != 1 else []
    if not state or unexpected or missing or misshapen:
        raise WeightsMismatchError(str(file), missing or (() if state else ["*.lora_A.weight"]), unexpected, misshapen)
    add_lora(model, ranks.pop(), alpha, sorted(linear))
    try:
        set_lora_state(model, state, str(file))
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


def _load(
    module: nn.Module,
    given: dict[str, Tensor],
    what: str,
    translate: Callable[[str], str | None],
    untranslate: Callable[[str], str],
    strip: Callable[[str], str],
) -> None:
    """Load a state whose names are translated; what is wrong is reported in the file's names."""
    names = {name: translate(name) for name in given}
    own = module.state_dict()
    # Compared in the names of the file, so that a user finds them there.
    expected = {untranslate(name): tensor for name, tensor in own.items()}
    wrong = compare_shapes(what, {strip(name): tensor for name, tensor in given.items()}, expected)
    if wrong:
        raise wrong
    module.load_state_dict(
        {own_name: given[name].to(own[own_name].dtype) for name, own_name in names.items() if own_name is not None}
    )


def _open(file: str | Path) -> dict[str, Tensor]:
    if not Path(file).is_file():
        raise MissingWeightsError(f"{file}: expected a safetensors file, found none")
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file}: expected safetensors ({error}); pickled checkpoints are not opened, as they can run code"
        ) from error


def _branch_key(name: str) -> str:
    return strip_wrappers(name, ("vace.",))


def _dit_key(name: str) -> str:
    return strip_wrappers(name, ("dit.",))


def _original_lora(key: str) -> str:
    module, _, rest = key.partition(".lora_")
    return f"{original_name(module)}.lora_{rest}"
