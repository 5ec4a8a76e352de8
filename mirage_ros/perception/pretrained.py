"""Loading of networks that others published: from a folder or the hub, whole or not at all, with errors that help."""

from __future__ import annotations

import importlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


class PerceptionUnavailableError(RuntimeError):
    """A part of perception cannot be used here; the message says why and what to do."""


class MissingExtraError(PerceptionUnavailableError):
    """A package is not installed; the message names the command that installs it."""


class MissingWeightsError(PerceptionUnavailableError):
    """Weights are neither in a folder nor in the cache, nor can the hub give them."""


@dataclass(frozen=True)
class Loading:
    """How a network is loaded.

    Attributes:
        device: where it runs.
        dtype: of the weights; half precision on CUDA by default.
        local_files_only: do not ask the hub. HF_HUB_OFFLINE=1 does the same for all.
    """

    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None
    local_files_only: bool = False


ON_CPU = Loading()


def import_extra(module: str, what: str, command: str) -> Any:
    """Import an optional package.

    Args:
        module: to import.
        what: that needs it, for the message.
        command: that installs it.

    Raises:
        MissingExtraError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what}: needs the Python package {module} ({error}). Install it: {command}"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        # Such as a torchvision that was built for another torch.
        raise MissingExtraError(
            f"{what}: the Python package {module} is installed but does not load ({error}). Install it anew: {command}"
        ) from error


def inference_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 on CUDA devices that have it, float16 on older ones, float32 elsewhere."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def load_network(kind: Any, source: str | Path, loading: Loading, *, may_lack: tuple[str, ...] = ()) -> Any:
    """Load a network of transformers for inference.

    Args:
        kind: class with `from_pretrained`.
        source: folder or hub repository.
        loading: where and how.
        may_lack: parts of names of weights that a checkpoint may leave out.

    Raises:
        MissingWeightsError: it is not there.
        PerceptionUnavailableError: what is there is another network, weights are missing, or the device has no room.
    """
    try:
        network, report = kind.from_pretrained(
            str(source),
            dtype=loading.dtype or inference_dtype(loading.device),
            local_files_only=loading.local_files_only,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError) as error:
        raise _explained(source, error, loading.local_files_only) from error
    missing = [name for name in report["missing_keys"] if not any(part in name for part in may_lack)]
    if missing or report["mismatched_keys"]:
        names = ", ".join([*sorted(missing), *(str(key[0]) for key in report["mismatched_keys"])][:5])
        raise PerceptionUnavailableError(f"{source}: weights do not fit {type(network).__name__}: {names}")
    return _placed(network, source, loading)


def load_hub_mixin(kind: Any, source: str | Path, loading: Loading) -> Any:
    """Load a network of another package, whose class mixes in huggingface_hub's PyTorchModelHubMixin.

    Args:
        kind: the class.
        source: folder or hub repository with config.json and model.safetensors.
        loading: where and how; the weights keep their own dtype, since such packages cast as they run.

    Raises:
        MissingWeightsError: it is not there.
        PerceptionUnavailableError: what is there is not such a network, or the device has no room.
    """
    try:
        if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
            # The mixin would go on without settings.
            raise FileNotFoundError(f"there is no config.json in {source}")
        network = kind.from_pretrained(str(source), local_files_only=loading.local_files_only)
    except (OSError, ValueError, KeyError) as error:
        raise _explained(source, error, loading.local_files_only) from error
    except (TypeError, RuntimeError) as error:
        raise PerceptionUnavailableError(
            f"{source}: settings or weights do not fit {kind.__name__}: {str(error).splitlines()[0]}"
        ) from error
    return _placed(network, source, loading)


def _placed(network: Any, source: str | Path, loading: Loading) -> Any:
    """The network for inference, on its device."""
    try:
        return network.eval().requires_grad_(False).to(loading.device)
    except torch.OutOfMemoryError as error:
        raise PerceptionUnavailableError(
            f"{source}: out of memory, {loading.device} has no room for {type(network).__name__}. Choose a smaller "
            "checkpoint, another device, or an estimator or filter without a network"
        ) from error


def load_settings(source: str | Path, names: tuple[str, ...], loading: Loading) -> dict[str, Any]:
    """Settings of the first of these JSON files that a folder or hub repository has; empty if it has none."""
    from transformers.utils import cached_file

    for name in names:
        try:
            found = cached_file(
                str(source),
                name,
                local_files_only=loading.local_files_only,
                _raise_exceptions_for_missing_entries=False,
            )
        except OSError as error:
            raise _explained(source, error, loading.local_files_only) from error
        if found is not None:
            settings: dict[str, Any] = json.loads(Path(found).read_text())
            return settings
    return {}


def load_tokenizer(source: str | Path, loading: Loading) -> Any:
    """The tokenizer of a folder or hub repository.

    Raises:
        MissingWeightsError: it is not there.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source), local_files_only=loading.local_files_only)
    except (OSError, ValueError) as error:
        raise _explained(source, error, loading.local_files_only) from error


def _explained(source: str | Path, error: Exception, local_files_only: bool) -> PerceptionUnavailableError:
    """What went wrong, in words that help."""
    folder = Path(source)
    if folder.is_dir():
        what = "is empty" if not any(folder.iterdir()) else "does not hold it"
        reason = str(error).splitlines()[0]
        kind = MissingWeightsError if isinstance(error, OSError) else PerceptionUnavailableError
        return kind(f"{source}: the folder {what}: {reason}")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    if offline or local_files_only:
        cause = "HF_HUB_OFFLINE" if offline else "local_files_only"
        why = f"it is neither a folder nor in the local cache, and {cause} forbids asking the hub"
    elif isinstance(error, OSError):
        why = "it is neither a folder nor in the local cache, and the hub could not give it"
    else:
        return PerceptionUnavailableError(f"{source}: {str(error).splitlines()[0]}")
    return MissingWeightsError(
        f"{source}: weights not found: {why}. On a machine with network access run "
        f"`hf download {source} --local-dir FOLDER` and give FOLDER"
    )
