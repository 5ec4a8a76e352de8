"""`mirage text`: prompts encoded once, on a machine with room for the text encoder, for others that never load it.

The file is safetensors: of each prompt its own tokens, numbered as the prompts in the metadata, which also says for
which preset and encoder they are. In a folder of weights without text_encoder/ it is found by its name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mirage_ros.atomic_files import write_atomically
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError
from mirage_ros.models.presets import PRESETS, Preset, preset
from mirage_ros.models.text import TextEncoder, clean, own_tokens

FILE = "text_features.safetensors"
FORMAT = "mirage text features, 1"
# What tells one encoder from another in its configuration.
_ENCODER = ("model_type", "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")


class SavedText(TextEncoder):
    """Prompts to features out of a file; there is no encoder, so that other prompts are refused.

    Args:
        path: from `save_features`.
        preset: that the features are for.
        source: of the other weights; if it is a folder with an encoder, the file must be that one's.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: the features are another model's, or misshapen, of another type, or not finite.
        ValueError: the file is something else.
    """

    def __init__(self, path: str | Path, preset: Preset, source: str | Path | None = None) -> None:
        self._path, self._encoder = path, None
        if not Path(path).is_file():
            raise MissingWeightsError(f"{path}: expected text features, found no file; `mirage text` makes one")
        try:
            with safe_open(path, "pt") as file:
                facts, names = file.metadata() or {}, list(file.keys())
                tensors = {name: file.get_tensor(name) for name in names}
        except SafetensorError as error:
            raise ValueError(f"{path}: expected text features of `mirage text`, no safetensors: {error}") from error
        if facts.get("format") != FORMAT:
            raise ValueError(f"{path}: expected text features of `mirage text`, got format {facts.get('format')!r}")
        wanted = {"preset": preset.name, "tokens": str(preset.text_tokens)}
        if source is not None and (encoder := _encoder(source)) is not None:
            wanted["encoder"] = encoder
        for name, value in wanted.items():
            if facts.get(name) != value:
                raise WeightsMismatchError(f"{path}: {name}: got {facts.get(name)}, expected {value}")
        prompts: list[str] = json.loads(facts.get("prompts", "[]"))
        if len(tensors) != len(prompts):
            raise WeightsMismatchError(f"{path}: expected features of {len(prompts)} prompts, got {len(tensors)}")
        self._features = {}
        for index, prompt in enumerate(prompts):
            features = tensors.get(str(index), torch.empty(0))
            what, shape = f"{path}: prompt {prompt!r}", tuple(features.shape)
            if len(shape) != 2 or not 1 <= shape[0] <= preset.text_tokens or shape[1] != preset.text_dim:
                limits = f"(1 to {preset.text_tokens}, {preset.text_dim})"
                raise WeightsMismatchError(f"{what}: shape: got {shape}, expected {limits}")
            if features.dtype not in (torch.bfloat16, torch.float16, torch.float32):
                raise WeightsMismatchError(f"{what}: got {features.dtype}, expected floating-point features")
            if not features.isfinite().all():
                raise WeightsMismatchError(f"{what}: expected finite features, some are not")
            whole = features.new_zeros(preset.text_tokens, preset.text_dim)
            whole[: len(features)] = features
            self._features[prompt] = whole

    def check(self, prompt: str) -> None:
        """Refuse a prompt that the file does not hold, with a ValueError."""
        if clean(prompt) not in self._features:
            known = ", ".join(map(repr, self._features))
            raise ValueError(f"prompt: expected one of those in {self._path}, which are {known}, got {prompt!r}")

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder.encode`.

        Raises:
            ValueError: the file does not hold a prompt.
        """
        for prompt in prompts:
            self.check(prompt)
        return torch.stack([self._features[clean(prompt)] for prompt in prompts])

    def release(self) -> None:
        """There is nothing to free."""


def text_of(source: str | Path, preset: Preset, file: str | Path | None = None) -> TextEncoder:
    """What gives features of prompts: a file, the encoder of a folder or hub repository, or the folder's file.

    Raises:
        MissingWeightsError, WeightsMismatchError, ValueError: see `SavedText` and `TextEncoder.from_pretrained`.
    """
    own = Path(source) / FILE
    if file is None and own.is_file() and not (Path(source) / "text_encoder").is_dir():
        file = own
    if file is not None:
        return SavedText(file, preset, source)
    return TextEncoder.from_pretrained(source, tokens=preset.text_tokens)


def save_features(source: str | Path, preset: Preset, prompts: Sequence[str], path: Path) -> list[str]:
    """Encode prompts, and the empty one that guidance and training take, and write them to a file.

    Args:
        source: folder or hub repository with text_encoder/ and tokenizer/.

    Returns:
        the prompts as they are encoded, which are those that may be asked for.

    Raises:
        MissingWeightsError: the encoder is not there.
        ValueError: the preset takes no text.
    """
    if not preset.text:
        raise ValueError(f"preset: expected one that takes text, got {preset.name!r}")
    encoder = TextEncoder.from_pretrained(source, tokens=preset.text_tokens)
    known = list(dict.fromkeys(clean(prompt) for prompt in (*prompts, "")))
    features = {str(index): own_tokens(encoder.encode([prompt])[0]) for index, prompt in enumerate(known)}
    facts = {
        "format": FORMAT,
        "preset": preset.name,
        "tokens": str(preset.text_tokens),
        "encoder": _encoder(source) or "",
        "prompts": json.dumps(known),
    }
    write_atomically(path, save(features, facts))
    return known


def _encoder(source: str | Path) -> str | None:
    """What an encoder is, by its configuration; None where the source is no folder with one."""
    config = Path(source) / "text_encoder" / "config.json"
    if not config.is_file():
        return None
    content: dict[str, Any] = json.loads(config.read_text())
    return json.dumps({name: content.get(name) for name in _ENCODER})


def main() -> None:
    """Encode prompts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help=f"file to write, such as {FILE}")
    parser.add_argument("--prompt", action="append", default=[], help="again for more; no prompt is always there")
    parser.add_argument("--preset", default="wan2.2-ti2v-5b", choices=[name for name in PRESETS if preset(name).text])
    parser.add_argument("--weights", help="folder or hub repository; the preset's own by default")
    options = parser.parse_args()
    chosen = preset(options.preset)
    known = save_features(options.weights or chosen.weights, chosen, options.prompt, options.out)
    print(f"{options.out}: {len(known)} prompts, {options.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
