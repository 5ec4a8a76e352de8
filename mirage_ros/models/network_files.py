"""One network in a folder of its own or in a subfolder of a hub repository, loaded and saved whole or not at all."""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from diffusers.models.modeling_utils import ModelMixin
from huggingface_hub import constants
from huggingface_hub.utils import get_session
from torch import Tensor

Model = TypeVar("Model", bound=ModelMixin)
# Bytes: saved weights are split into files below this, which every host of repositories takes.
MAX_FILE = 15 << 20
# Seconds within which the hub must answer, and for which is remembered whether it did: a model has up to six parts.
PATIENCE, REMEMBERED = 5.0, 60.0
# Of hubs by their address: whether they answered, and when, by the steady clock.
_answered: dict[str, tuple[bool, float]] = {}


class MissingWeightsError(FileNotFoundError):
    """Weights are not where they were asked for; the message says what to do."""


class WeightsMismatchError(ValueError):
    """A file's tensors are not the model's; the message names those that are missing, left over or misshapen."""


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New networks get weights of this type, never float32 ones first."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def check_names(
    what: str, missing: Iterable[str] = (), unexpected: Iterable[str] = (), misshapen: Iterable[str] = ()
) -> None:
    """Raise a WeightsMismatchError if there is any such name; misshapen ones say what they are and should be."""
    lists = {"missing": sorted(missing), "unexpected": sorted(unexpected), "misshapen": sorted(misshapen)}
    wrong = "; ".join(f"{len(names)} {kind} ({_some(names)})" for kind, names in lists.items() if names)
    if wrong:
        raise WeightsMismatchError(f"{what}: weights do not fit the model: {wrong}")


def check_shapes(what: str, given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse named tensors that are not those expected.

    Raises:
        WeightsMismatchError: names or shapes differ.
    """
    check_names(
        what,
        missing=expected.keys() - given.keys(),
        unexpected=given.keys() - expected.keys(),
        misshapen=(
            f"{name}: got {tuple(given[name].shape)}, expected {tuple(expected[name].shape)}"
            for name in given.keys() & expected.keys()
            if given[name].shape != expected[name].shape
        ),
    )


def save_part(part: ModelMixin, folder: Path) -> None:
    """Save into a folder of its own: what was there in other shards would stay beside it, and be loaded first."""
    new, old = (folder.with_name(f".{folder.name}.{suffix}") for suffix in ("part", "old"))
    shutil.rmtree(new, ignore_errors=True)
    part.save_pretrained(new, max_shard_size=MAX_FILE)
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(new, folder)
    shutil.rmtree(old, ignore_errors=True)


def load_part(
    kind: type[Model], source: str | Path, subfolder: str | None, dtype: torch.dtype = torch.float32
) -> Model:
    """Load one diffusers model from a folder or hub repository, out of a subfolder if one is named.

    Raises:
        MissingWeightsError: it is not there, or cannot be fetched.
        WeightsMismatchError: weights are missing, left over or misshapen.
    """
    what = f"{source}/{subfolder}" if subfolder else str(source)
    if Path(source).exists() and not (Path(source) / (subfolder or "") / "config.json").is_file():
        raise MissingWeightsError(f"{what}: expected a {kind.__name__} saved by diffusers (config.json, *.safetensors)")
    try:
        loaded: Any = kind.from_pretrained(
            str(source),
            subfolder=subfolder,
            torch_dtype=dtype,
            output_loading_info=True,
            use_safetensors=True,
            **hub_options(source),
        )
    except OSError as error:
        raise not_found(what, source) from error
    model: Model
    model, report = loaded
    check_names(
        what,
        missing=report["missing_keys"],
        unexpected=report["unexpected_keys"],
        misshapen=(f"{name}: got {tuple(got)}, expected {tuple(own)}" for name, got, own in report["mismatched_keys"]),
    )
    return model


def hub_options(source: str | Path) -> dict[str, Any]:
    """What `from_pretrained` is told besides: to look into the local cache alone where the hub does not answer.

    Hugging Face's libraries would try again and again, for a minute. A hub is asked once a minute.
    """
    if Path(source).exists() or constants.HF_HUB_OFFLINE:
        return {}
    answered, since = _answered.get(constants.ENDPOINT, (False, -math.inf))
    if time.monotonic() - since > REMEMBERED:
        try:
            get_session().head(constants.ENDPOINT, timeout=PATIENCE)
            answered = True
        except Exception:  # those of an HTTP library, of which huggingface_hub has had several
            answered = False
        _answered[constants.ENDPOINT] = answered, time.monotonic()
    return {} if answered else {"local_files_only": True}


def hub_file(source: str | Path, name: str) -> Path | None:
    """A file of a folder or hub repository; None if it has no such file, as far as the hub or the local cache tells.

    Raises:
        MissingWeightsError: there is no such repository, or it could not be asked.
    """
    if Path(source).exists():
        path = Path(source) / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    try:
        found = cached_file(str(source), name, _raise_exceptions_for_missing_entries=False, **hub_options(source))
    except (OSError, ValueError) as error:
        raise not_found(str(source), source) from error
    return None if found is None else Path(found)


def not_found(what: str, source: str | Path) -> MissingWeightsError:
    """The error of weights that neither the disk nor the hub has; `what` names them."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        why = "HF_HUB_OFFLINE forbids asking the hub"
    else:
        why = "the hub could not be reached, or does not have it"
    return MissingWeightsError(
        f"{what}: weights not found: it is neither a folder nor in the local cache, and {why}. On a machine with "
        f"network access run `hf download {source} --local-dir FOLDER` and give FOLDER"
    )


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown}, and {len(names) - 5} more"
