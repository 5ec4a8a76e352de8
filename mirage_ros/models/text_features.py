"""`mirage text`: prompts encoded once, on a machine with room for the text encoder, for others that never load it.

The file is safetensors: of each prompt its own tokens, numbered as the prompts in the metadata, which also says for
which preset and encoder they are. In a folder of weights without text_encoder/ it is found by its name.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import pad
from transformers import UMT5Config

from mirage_ros.atomic_files import write_atomically
from mirage_ros.models.network_files import MissingWeightsError, WeightsMismatchError
from mirage_ros.models.presets import PRESETS, Preset, preset
from mirage_ros.models.text import TextEncoder, clean, own_tokens

FILE = "text_features.safetensors"
FORMAT = "mirage text features, 1"
# Known prompts that a refusal names.
NAMED = 5
# What is compared of an encoder: its sizes, so that another of the same sizes passes.
_SIZES = ("model_type", "vocab_size", "d_model", "d_kv", "d_ff", "num_layers", "num_heads")


class SavedText(TextEncoder):
    """Prompts to features out of a file; there is no encoder, so that other prompts are refused.

    Args:
        path: from `save_features`.
        preset: that the features are for.
        source: of the other weights; if it is a folder with an encoder, the file's must have the same sizes.

    Raises:
        MissingWeightsError: there is no such file.
        WeightsMismatchError: the features are another model's, or misshapen, of another type, or not finite.
        ValueError: the file is something else.
    """

    def __init__(self, path: str | Path, preset: Preset, source: str | Path | None = None) -> None:
        self._path, self._tokens, self._encoder = path, preset.text_tokens, None
        self._device = torch.device("cpu")
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
        if source is not None and facts.get("encoder") and (encoder := _encoder(source)) is not None:
            wanted["encoder"] = encoder
        for name, value in wanted.items():
            if facts.get(name) != value:
                raise WeightsMismatchError(f"{path}: {name}: got {facts.get(name)}, expected {value}")
        prompts: list[str] = json.loads(facts.get("prompts", "[]"))
        if len(tensors) != len(prompts):
            raise WeightsMismatchError(f"{path}: expected features of {len(prompts)} prompts, got {len(tensors)}")
        # Own tokens alone, and on the CPU: most of what is as long as the preset's context would be zeros.
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
            self._features[prompt] = features

    def check(self, prompt: str) -> None:
        """Refuse a prompt that the file does not hold, with a ValueError."""
        if clean(prompt) not in self._features:
            known, more = ", ".join(map(repr, list(self._features)[:NAMED])), len(self._features) - NAMED
            known += f" and {more} more" if more > 0 else ""
            raise ValueError(f"prompt: expected one of those in {self._path}, which are {known}, got {prompt!r}")

    def encode(self, prompts: Sequence[str]) -> Tensor:
        """See `TextEncoder.encode`.

        Raises:
            ValueError: the file does not hold a prompt.
        """
        for prompt in prompts:
            self.check(prompt)
        features = [self._features[clean(prompt)] for prompt in prompts]
        return torch.stack([pad(own, (0, 0, 0, self._tokens - len(own))) for own in features]).to(self._device)

    def to(self, device: torch.device | str) -> TextEncoder:
        """Where `encode` puts what it gives."""
        self._device = torch.device(device)
        return self

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
        FileNotFoundError: the file's folder is not there.
        ValueError: the preset takes no text.
    """
    if not preset.text:
        raise ValueError(f"preset: expected one that takes text, got {preset.name!r}")
    if not path.parent.is_dir():
        # Encoding takes minutes at full size.
        raise FileNotFoundError(f"out: expected a file in a folder that exists, got {path}")
    encoder = TextEncoder.from_pretrained(source, tokens=preset.text_tokens)
    known = list(dict.fromkeys(clean(prompt) for prompt in (*prompts, "")))
    features = {str(index): own_tokens(encoder.encode([prompt])[0]) for index, prompt in enumerate(known)}
    assert encoder.config is not None
    facts = {
        "format": FORMAT,
        "preset": preset.name,
        "tokens": str(preset.text_tokens),
        "encoder": _sizes(encoder.config),
        "prompts": json.dumps(known),
    }
    write_atomically(path, save(features, facts))
    return known


def _encoder(source: str | Path) -> str | None:
    """Sizes of a folder's encoder; None where the source is no folder with one."""
    folder = Path(source) / "text_encoder"
    return _sizes(UMT5Config.from_pretrained(str(folder))) if (folder / "config.json").is_file() else None


def _sizes(config: UMT5Config) -> str:
    return json.dumps({name: getattr(config, name) for name in _SIZES})


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
