"""Loading and saving of the model's parts, in diffusers' folder layout.

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
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from mirage_ros.models.memory_branch import MemoryBranch

if TYPE_CHECKING:
    from mirage_ros.models.autoencoder import Autoencoder
    from mirage_ros.models.transformer import MirageTransformer

Model = TypeVar("Model", bound=ModelMixin)
# Bytes: saved weights are split into files below this, which every host of repositories takes.
MAX_FILE = 15 << 20


class MissingWeightsError(FileNotFoundError):
    """Weights are not where they were asked for; the message says what to do."""


class WeightsMismatchError(ValueError):
    """A file's tensors are not the model's.

    Attributes:
        missing: names that the model needs and the file lacks.
        unexpected: names in the file that the model does not know.
        misshapen: 'name: got (…), expected (…)'.
    """

    def __init__(
        self, what: str, missing: Iterable[str] = (), unexpected: Iterable[str] = (), misshapen: Iterable[str] = ()
    ) -> None:
        self.missing, self.unexpected, self.misshapen = sorted(missing), sorted(unexpected), sorted(misshapen)
        parts = [
            f"{len(names)} {kind} ({_some(names)})"
            for kind, names in (
                ("missing", self.missing),
                ("unexpected", self.unexpected),
                ("misshapen", self.misshapen),
            )
            if names
        ]
        super().__init__(f"{what}: weights do not fit the model: {'; '.join(parts)}")

    def __bool__(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.missing or self.unexpected or self.misshapen)


def compare_shapes(what: str, given: dict[str, Any], expected: dict[str, Any]) -> WeightsMismatchError:
    """The difference between two sets of named tensors; false if there is none."""
    return WeightsMismatchError(
        what,
        missing=expected.keys() - given.keys(),
        unexpected=given.keys() - expected.keys(),
        misshapen=(
            f"{name}: got {tuple(given[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in given.keys() & expected.keys()
            if given[name].shape != expected[name].shape
        ),
    )


def load_transformer(
    source: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    new_branch: bool = False,
    branch_layers: Sequence[int] | None = None,
    branch_inputs: Sequence[str] = ("latents", "visible"),
    latent_channels: int | None = None,
    branch_file: str | Path | None = None,
    lora_file: str | Path | None = None,
    local_files_only: bool | None = None,
) -> MirageTransformer:
    """Load backbone, branch and, where the source has it, LoRA.

    Args:
        source: folder or hub repository.
        dtype: type of the weights; norms and tables stay float32.
        new_branch: where the source has no branch/, start one from copies of the backbone's blocks, for training.
        branch_layers, branch_inputs, latent_channels: shape of a new branch; every second layer, and the backbone's
            channels, by default.
        branch_file, lora_file: safetensors trained with the public Mirage code, see `public_weights`; a branch file
            implies a new branch with inputs 'latents' and 'ones'.
        local_files_only: do not ask the hub; by default as HF_HUB_OFFLINE says.

    Raises:
        MissingWeightsError: the backbone or the branch is not there.
        WeightsMismatchError: a file does not fit.
    """
    from mirage_ros.models.lora import load_lora
    from mirage_ros.models.public_weights import import_branch, import_lora
    from mirage_ros.models.transformer import MirageTransformer

    backbone = load_part(WanTransformer3DModel, source, "transformer", dtype, local_files_only)
    if branch_file is not None or new_branch:
        layers = branch_layers or range(0, len(backbone.blocks), 2)
        inputs = ("latents", "ones") if branch_file is not None else branch_inputs
        channels = latent_channels or int(backbone.config["in_channels"])
        branch = MemoryBranch.for_backbone(backbone, tuple(layers), tuple(inputs), channels)
        branch.copy_blocks_from(backbone)
    else:
        try:
            branch = load_part(MemoryBranch, source, "branch", dtype, local_files_only)
        except MissingWeightsError as error:
            raise MissingWeightsError(
                f"{source}: has no memory branch (subfolder branch/). Give a folder saved by this project, "
                "branch_file=… with weights trained with the public Mirage code, or new_branch=True to train one"
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
        ValueError: LoRA is merged; unmerge it first, or it would be saved twice.
    """
    from mirage_ros.models.lora import has_lora, save_lora, without_lora

    folder = Path(folder)
    # Checks first: nothing is written when LoRA cannot be saved.
    if has_lora(model):
        save_lora(model, folder / "lora")
    with without_lora(model) as backbone:
        save_part(backbone, folder / "transformer")
    if model.branch is not None:
        save_part(model.branch, folder / "branch")


def save_part(part: ModelMixin, folder: Path) -> None:
    """Save into a folder of its own: what was there in other shards would stay beside it, and be loaded first."""
    new = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(new, ignore_errors=True)
    part.save_pretrained(new, max_shard_size=MAX_FILE)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_part(
    kind: type[Model],
    source: str | Path,
    subfolder: str | None,
    dtype: torch.dtype = torch.float32,
    local_files_only: bool | None = None,
) -> Model:
    """Load one diffusers model, whole or not at all.

    Args:
        kind: its class.
        source: folder or hub repository.
        subfolder: where in the source it lies.
        dtype: type of the weights.
        local_files_only: do not ask the hub; by default as HF_HUB_OFFLINE says.

    Raises:
        MissingWeightsError: it is not there, or cannot be fetched.
        WeightsMismatchError: weights are missing, left over or misshapen.
    """
    what = f"{source}/{subfolder}" if subfolder else str(source)
    if Path(source).exists() and not (Path(source) / (subfolder or "") / "config.json").is_file():
        raise MissingWeightsError(f"{what}: expected a {kind.__name__} saved by diffusers (config.json, *.safetensors)")
    options: dict[str, Any] = {} if local_files_only is None else {"local_files_only": local_files_only}
    try:
        loaded: Any = kind.from_pretrained(
            str(source),
            subfolder=subfolder,
            torch_dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            **options,
        )
    except OSError as error:
        raise MissingWeightsError(_advice(what, str(source))) from error
    model: Model
    model, report = loaded
    wrong = WeightsMismatchError(
        what,
        missing=report["missing_keys"],
        unexpected=report["unexpected_keys"],
        misshapen=(f"{name}: got {tuple(got)}, expected {tuple(own)}" for name, got, own in report["mismatched_keys"]),
    )
    if wrong:
        raise wrong
    return model


def load_autoencoder(
    source: str | Path,
    dtype: torch.dtype = torch.float32,
    *,
    tile: int | None = None,
    local_files_only: bool | None = None,
) -> Autoencoder:
    """Load the autoencoder of a source, of whichever kind its subfolder vae/ holds.

    Raises:
        MissingWeightsError: it is not there.
        WeightsMismatchError: weights are missing, left over or misshapen.
        ValueError: the folder holds something else.
    """
    from mirage_ros.models.frame_autoencoder import FrameAutoencoder, channels_last
    from mirage_ros.models.wan_autoencoder import WanAutoencoder

    configuration = Path(source) / "vae" / "config.json"
    kind = json.loads(configuration.read_text()).get("_class_name") if configuration.is_file() else "AutoencoderKLWan"
    if kind == "FrameAutoencoder":
        autoencoder = load_part(FrameAutoencoder, source, "vae", dtype, local_files_only)
        channels_last(autoencoder)
        return autoencoder
    if kind == "AutoencoderKLWan":
        return WanAutoencoder.from_pretrained(source, dtype=dtype, tile=tile, local_files_only=local_files_only)
    raise ValueError(f"{configuration}: expected a FrameAutoencoder or an AutoencoderKLWan, got {kind}")


def has_part(source: str | Path, subfolder: str) -> bool:
    """Whether a local folder has this subfolder."""
    return (Path(source) / subfolder).is_dir()


def _advice(what: str, source: str) -> str:
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        cause = "it is neither a folder nor in the local cache, and HF_HUB_OFFLINE forbids asking the hub"
    else:
        cause = "it is neither a folder nor in the local cache, and the hub could not give it"
    return (
        f"{what}: weights not found: {cause}. On a machine with network access run "
        f"`hf download {source} --local-dir FOLDER` and give FOLDER"
    )


def _some(names: Sequence[str], count: int = 5) -> str:
    shown = ", ".join(names[:count])
    return shown if len(names) <= count else f"{shown}, and {len(names) - count} more"
