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
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
from mirage_ros.models.lora import has_lora, load_lora, save_lora, without_lora
from mirage_ros.models.memory_branch import MemoryBranch
from mirage_ros.models.network_files import MissingWeightsError, load_part, save_part
from mirage_ros.models.public_weights import BRANCH_INPUTS, import_branch, import_lora
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.wan_autoencoder import WanAutoencoder


def load_transformer(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    branch_file: str | Path | None = None,
    branch_layers: Sequence[int] | None = None,
    lora_file: str | Path | None = None,
) -> MirageTransformer:
    """Load backbone, branch and, where the source has it, LoRA.

    Args:
        source: folder or hub repository.
        dtype: type of the weights; norms and tables stay float32.
        branch_file, lora_file: safetensors trained with the public Mirage code, in place of the source's own; see
            `public_weights`.
        branch_layers: backbone blocks that the branch in `branch_file` hints to; every second one by default.

    Raises:
        MissingWeightsError: the backbone or the branch is not there.
        WeightsMismatchError: a file does not fit.
    """
    backbone = load_part(WanTransformer3DModel, source, "transformer", dtype)
    if branch_file is not None:
        layers = tuple(branch_layers or range(0, len(backbone.blocks), 2))
        branch = MemoryBranch.for_backbone(backbone, layers, BRANCH_INPUTS, int(backbone.config["in_channels"]))
    else:
        try:
            branch = load_part(MemoryBranch, source, "branch", dtype)
        except MissingWeightsError as error:
            raise MissingWeightsError(
                f"{source}: has no memory branch (subfolder branch/). Give a folder saved by this project, or "
                "branch_file=… with weights trained with the public Mirage code; `mirage train` makes one"
            ) from error
    model = MirageTransformer(backbone, branch)
    model.cast(dtype)
    model.eval()
    if branch_file is not None:
        import_branch(model, branch_file)
    if lora_file is not None:
        import_lora(model, lora_file)
    elif has_part(source, "lora"):
        load_lora(model, Path(source) / "lora")
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
