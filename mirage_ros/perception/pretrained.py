"""Loading of networks that others published: from a folder or the hub, whole or not at all, with errors that help."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mirage_ros.machine import multiplies_bfloat16
from mirage_ros.models.network_files import MissingWeightsError, hub_file, hub_options, not_found


class PerceptionUnavailableError(RuntimeError):
    """A part of perception cannot be used here; the message says why and what to do."""


class MissingExtraError(PerceptionUnavailableError):
    """A package is not installed; the message names the command that installs it."""


def inference_dtype(device: torch.device | str) -> torch.dtype:
    """bfloat16 on CUDA devices that have it, float16 on older ones, float32 elsewhere."""
    if torch.device(device).type != "cuda":
        return torch.float32
    return torch.bfloat16 if multiplies_bfloat16(device) else torch.float16


def load_network(kind: Any, source: str | Path, device: torch.device | str, *, may_lack: tuple[str, ...] = ()) -> Any:
    """Load a network of transformers for inference; in half precision on CUDA.

    Args:
        kind: class with `from_pretrained`.
        source: folder or hub repository.
        device: where it runs.
        may_lack: parts of names of weights that a checkpoint may leave out.

    Raises:
        MissingWeightsError: it is not there.
        PerceptionUnavailableError: what is there is another network, weights are missing, or the device has no room.
    """
    try:
        network, report = kind.from_pretrained(
            str(source), dtype=inference_dtype(device), output_loading_info=True, **hub_options(source)
        )
    except (OSError, ValueError, KeyError) as error:
        raise explained(source, error) from error
    missing = [name for name in report["missing_keys"] if not any(part in name for part in may_lack)]
    if missing or report["mismatched_keys"]:
        names = ", ".join([*sorted(missing), *(str(key[0]) for key in report["mismatched_keys"])][:5])
        raise PerceptionUnavailableError(f"{source}: weights do not fit {type(network).__name__}: {names}")
    return placed(network, source, device)


def load_settings(source: str | Path, names: Sequence[str]) -> dict[str, Any]:
    """Settings of the first of these JSON files that a folder or hub repository has; empty if it has none."""
    for name in names:
        if (found := hub_file(source, name)) is not None:
            settings: dict[str, Any] = json.loads(found.read_text())
            return settings
    return {}


def load_tokenizer(source: str | Path) -> Any:
    """The tokenizer of a folder or hub repository.

    Raises:
        MissingWeightsError: it is not there.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source), **hub_options(source))
    except (OSError, ValueError) as error:
        raise explained(source, error) from error


def colour_statistics(
    settings: dict[str, Any], device: torch.device | str, mean: Sequence[float], deviation: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """(1, 3, 1, 1) mean and deviation of colours in an image processor's settings, by default these."""
    given = settings.get("image_mean", mean), settings.get("image_std", deviation)
    centre, scale = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in given)
    return centre, scale


def placed(network: Any, source: str | Path, device: torch.device | str) -> Any:
    """The network for inference, on its device."""
    try:
        return network.eval().requires_grad_(False).to(device)
    except torch.OutOfMemoryError as error:
        raise PerceptionUnavailableError(
            f"{source}: out of memory, {device} has no room for {type(network).__name__}. Choose a smaller checkpoint, "
            "another device, or an estimator or filter without a network"
        ) from error


def explained(source: str | Path, error: Exception) -> MissingWeightsError | PerceptionUnavailableError:
    """What went wrong, in words that help."""
    reason = str(error).splitlines()[0]
    missing = isinstance(error, OSError)
    if Path(source).is_dir():
        what = "is empty" if not any(Path(source).iterdir()) else "does not hold it"
        message = f"{source}: the folder {what}: {reason}"
        return MissingWeightsError(message) if missing else PerceptionUnavailableError(message)
    return not_found(str(source), source) if missing else PerceptionUnavailableError(f"{source}: {reason}")
