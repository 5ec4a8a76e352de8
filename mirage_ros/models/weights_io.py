"""Loading and saving of whole models, in diffusers' folder layout.

    transformer/    the backbone, WanTransformer3DModel
    branch/         the memory branch
    lora/           LoRA on the backbone, with rank and alpha (optional)
    vae/            AutoencoderKLWan or FrameAutoencoder
    reader/         the unfolding reader (optional)
    text_encoder/, tokenizer/    as transformers saves them (optional)

A source is a folder or a hub repository such as 'Wan-AI/Wan2.2-TI2V-5B-Diffusers'. Nothing is loaded by halves: weights
that are missing, left over or of another shape are an error that names them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from torch import nn

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.checkpoints import Checkpoint, empty_part, fill
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
from mirage_ros.models.fused_lora import fuse_lora
from mirage_ros.models.lora import has_lora, load_lora, merge_lora, save_lora, without_lora
from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.network_files import (
    MissingWeightsError,
    Model,
    WeightsMismatchError,
    default_dtype,
    load_part,
    save_part,
)
from mirage_ros.models.public_weights import BRANCH_INPUTS, import_branch, import_lora, original_name
from mirage_ros.models.quantised import Quantisation, quantise
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.wan_autoencoder import WanAutoencoder

NO_BRANCH = (
    "{}: has no memory branch (subfolder branch/). Give a folder saved by this project, or branch_file=… with weights "
    "trained with the public Mirage code; `mirage train` makes one"
)


def load_transformer(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    transformer_file: str | Path | None = None,
    backbone_config: Mapping[str, Any] | None = None,
    branch_file: str | Path | None = None,
    branch_layers: Sequence[int] | None = None,
    lora_file: str | Path | None = None,
    distilled_lora: str | Path | None = None,
    quantised: Quantisation | None = None,
) -> MirageTransformer:
    """Load backbone, branch and, where the source has it, LoRA.

    Args:
        source: folder or hub repository.
        dtype: type of the weights; norms and tables stay float32.
        transformer_file: the backbone as Wan's authors or others publish it, in place of the source's: a file or a
            folder that `checkpoints` reads.
        backbone_config: arguments of WanTransformer3DModel that belong to it.
        branch_file, lora_file: safetensors trained with the public Mirage code, in place of the source's own; see
            `public_weights`.
        branch_layers: backbone blocks that the branch in `branch_file` hints to; every second one by default.
        distilled_lora: safetensors of a few-step distillation of the backbone, see `fused_lora`.
        quantised: make the blocks' matrices smaller, and all LoRA part of them.

    Raises:
        MissingWeightsError: the backbone or the branch is not there.
        WeightsMismatchError: a file does not fit.
    """
    # What is added to weights comes before they are rounded: then every block is held whole until the end.
    late = lora_file is not None or distilled_lora is not None or has_part(source, "lora")
    finish = None if quantised is None or late else partial(quantise, to=quantised)
    if transformer_file is not None:
        checkpoint, config = Checkpoint.open(transformer_file), dict(backbone_config or {})
        backbone = empty_part(WanTransformer3DModel, config)
        own = any(".self_attn." in name for name in checkpoint.shapes)
        fill(backbone, checkpoint, dtype, stored_name=original_name if own else str, finish=finish)
    else:
        backbone = _part(WanTransformer3DModel, source, "transformer", dtype, finish)
    if branch_file is not None:
        layers = tuple(branch_layers or range(0, len(backbone.blocks), 2))
        with default_dtype(dtype):
            branch = MemoryBranch.for_backbone(backbone, layers, BRANCH_INPUTS, int(backbone.config["in_channels"]))
    else:
        try:
            branch = _part(MemoryBranch, source, "branch", dtype, finish)
        except MissingWeightsError as error:
            raise MissingWeightsError(NO_BRANCH.format(source)) from error
    model = MirageTransformer(backbone, branch)
    model.cast(dtype)
    model.eval()
    if branch_file is not None:
        import_branch(model, branch_file)
        if finish is not None:
            for block in branch.blocks:
                finish(block)
    if distilled_lora is not None:
        fuse_lora(model, distilled_lora)
    if lora_file is not None:
        import_lora(model, lora_file)
    elif has_part(source, "lora"):
        load_lora(model, Path(source) / "lora")
    if quantised is not None and late:
        if has_lora(model):
            merge_lora(model)
        for block in (*model.backbone.blocks, *branch.blocks):
            quantise(block, quantised)
    return model


def check_source(
    source: str | Path,
    backbone_config: Mapping[str, Any],
    latent_channels: int | None = None,
    *,
    transformer: bool = True,
    branch: bool = True,
) -> None:
    """Compare a local folder's networks with what they should be, by their configurations and lists of weights.

    Takes a moment where loading takes minutes. What a hub would have to be asked for is left to the loading.

    Args:
        source: folder.
        backbone_config: arguments of WanTransformer3DModel.
        latent_channels: of the autoencoder; any by default.
        transformer, branch: whether these are the source's.

    Raises:
        MissingWeightsError: a shard is missing, or the branch.
        WeightsMismatchError: the backbone is another one than the preset's, or weights are missing, left over or
            misshapen.
    """
    if transformer and Path(source).is_dir() and not has_part(source, "transformer"):
        raise MissingWeightsError(
            f"{source}/transformer: expected a WanTransformer3DModel saved by diffusers (config.json, *.safetensors)"
        )
    if branch and Path(source).is_dir() and not has_part(source, "branch"):
        raise MissingWeightsError(NO_BRANCH.format(source))
    kinds: dict[str, Any] = {"transformer": WanTransformer3DModel, "branch": MemoryBranch, "vae": AutoencoderKLWan}
    for subfolder, kind in kinds.items():
        folder = Path(source) / subfolder
        used = {"transformer": transformer, "branch": branch}.get(subfolder, True)
        if not used or not (folder / "config.json").is_file():
            continue
        config = json.loads((folder / "config.json").read_text())
        if config.get("_class_name", kind.__name__) != kind.__name__:
            continue
        if subfolder == "transformer":
            other = [
                f"{name}: got {config.get(name)!r}, expected {wanted!r}"
                for name, wanted in backbone_config.items()
                if name in config and config[name] != (list(wanted) if isinstance(wanted, tuple) else wanted)
            ]
            if other:
                raise WeightsMismatchError(f"{folder}: another network than the preset's: {'; '.join(other)}")
        part = empty_part(kind, folder)
        channels = latent_channels if subfolder == "vae" else None
        if channels is not None and part.config["z_dim"] != channels:
            raise WeightsMismatchError(
                f"{folder}: z_dim: got {part.config['z_dim']}, expected {channels} latent channels"
            )
        Checkpoint.open(folder).check(part.state_dict())


def _part(
    kind: type[Model],
    source: str | Path,
    subfolder: str,
    dtype: torch.dtype,
    finish: Callable[[nn.Module], object] | None,
) -> Model:
    """A network of a folder, read block by block; of the hub, as diffusers loads it."""
    folder = Path(source) / subfolder
    if not folder.is_dir():
        model = load_part(kind, source, subfolder, dtype)
        if finish is not None:
            for block in model.blocks:
                finish(block)
        return model
    if not (folder / "config.json").is_file():
        raise MissingWeightsError(
            f"{folder}: expected a {kind.__name__} saved by diffusers (config.json, *.safetensors)"
        )
    model = empty_part(kind, folder)
    fill(model, Checkpoint.open(folder), dtype, finish=finish)
    return model


def save_transformer(model: MirageTransformer, folder: str | Path) -> None:
    """Save backbone, branch and LoRA into subfolders of a folder.

    Raises:
        ValueError: LoRA is merged, so that it would be saved twice.
    """
    folder = Path(folder)
    # Checks first: nothing is written when LoRA cannot be saved.
    if has_lora(model):
        save_lora(model, folder / "lora")
    with without_lora(model) as backbone:
        save_part(backbone, folder / "transformer")
    if model.branch is not None:
        save_part(model.branch, folder / "branch")


def load_autoencoder(source: str | Path, dtype: torch.dtype = torch.float32, *, tile: int | None = None) -> Autoencoder:
    """Load the autoencoder of a source, of whichever kind its subfolder vae/ holds; `tile` as in `WanAutoencoder`.

    Raises:
        MissingWeightsError: it is not there.
        WeightsMismatchError: weights are missing, left over or misshapen.
        ValueError: the folder holds something else.
    """
    configuration = Path(source) / "vae" / "config.json"
    kind = json.loads(configuration.read_text()).get("_class_name") if configuration.is_file() else "AutoencoderKLWan"
    if kind == "FrameAutoencoder":
        autoencoder = load_part(FrameAutoencoder, source, "vae", dtype)
        channels_last(autoencoder)
        return autoencoder
    if kind == "AutoencoderKLWan":
        return WanAutoencoder.from_pretrained(source, dtype=dtype, tile=tile)
    raise ValueError(f"{configuration}: expected a FrameAutoencoder or an AutoencoderKLWan, got {kind}")


def has_part(source: str | Path, subfolder: str) -> bool:
    """Whether a local folder has this subfolder."""
    return (Path(source) / subfolder).is_dir()
