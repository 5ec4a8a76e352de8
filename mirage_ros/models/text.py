"""Text conditioning: UMT5 features of a prompt, encoded once, and the empty context of models without text."""

from __future__ import annotations

import gc
import html
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase, UMT5Config, UMT5EncoderModel

from mirage_ros.models.network_files import MissingWeightsError, check_names, hub_options, not_found

# Tokens of a prompt in Wan; features beyond the prompt's own are zero.
TOKENS = 512
# Prompts whose features are kept: 4 MB each at full size.
KEPT = 64


def no_text(batch: int, text_dim: int, tokens: int = 1, device: torch.device | str = "cpu") -> Tensor:
    """Features of no text: (B, tokens, text_dim) zeros, which the text embedding turns into a learned token."""
    return torch.zeros(batch, tokens, text_dim, device=device)


def own_tokens(features: Tensor) -> Tensor:
    """A prompt's features (L, D) without the zeros beyond its own tokens."""
    used = int(features.any(dim=-1).nonzero().max()) + 1 if features.any() else 0
    return features[:used].clone()


class TextEncoder:
    """Prompts to features, each prompt once.

    Args:
        tokenizer: of UMT5, as in Wan.
        load: gives the encoder, for the first prompt and again for a new one after it was released.
        tokens: length of the features.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, load: Callable[[], UMT5EncoderModel], tokens: int = TOKENS
    ) -> None:
        self._tokenizer, self._load, self._tokens = tokenizer, load, tokens
        self._encoder: UMT5EncoderModel | None = None
        self._device = torch.device("cpu")
        self._features: dict[str, Tensor] = {}

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, dtype: torch.dtype = torch.bfloat16, tokens: int = TOKENS
    ) -> TextEncoder:
        """Of subfolders tokenizer/ and text_encoder/ of a folder or hub repository; the latter is loaded when needed.

        Raises:
            MissingWeightsError: one is not there.
        """
        if Path(source).exists():
            for part in ("tokenizer", "text_encoder"):
                if not (Path(source) / part).is_dir():
                    raise MissingWeightsError(f"{source}: expected a subfolder {part}/ as saved by transformers")
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(source), subfolder="tokenizer", **hub_options(source))
            return cls(tokenizer, partial(_load_encoder, source, dtype), tokens)
        except OSError as error:
            raise not_found(f"{source}: text encoder", source) from error

    @property
    def config(self) -> UMT5Config | None:
        """The encoder's own configuration; None while it is not loaded."""
        return None if self._encoder is None else self._encoder.config

    @torch.no_grad()
    def encode(self, prompts: Sequence[str]) -> Tensor:
        """Features of prompts.

        Args:
            prompts: any text; an empty one is allowed.

        Returns:
            (B, tokens, text_dim) in the encoder's type and on its device, zero beyond each prompt's own tokens.

        Raises:
            TypeError: a prompt is not a string.
            MissingWeightsError: the encoder's weights are not there.
            WeightsMismatchError: they are incomplete.
        """
        cleaned = []
        for prompt in prompts:
            if not isinstance(prompt, str):
                raise TypeError(f"prompt: expected a string, got {type(prompt).__name__}")
            cleaned.append(clean(prompt))
        fresh = [prompt for prompt in dict.fromkeys(cleaned) if prompt not in self._features]
        if fresh:
            self._features.update(zip(fresh, self._encode(fresh).unbind(0), strict=True))
        features = torch.stack([self._features[prompt] for prompt in cleaned])
        for prompt in list(self._features)[:-KEPT]:
            del self._features[prompt]
        return features

    def check(self, prompt: str) -> None:
        """Refuse a prompt that cannot be encoded; an encoder takes all."""

    def release(self) -> None:
        """Free the encoder, at full size 11 GB; the last prompts that were encoded stay available."""
        self._encoder = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the encoder, and what it has encoded, to a device; one that was released goes there once it is back."""
        self._device = torch.device(device)
        if self._encoder is not None:
            self._encoder.to(device)  # type: ignore[arg-type]
        self._features = {prompt: features.to(device) for prompt, features in self._features.items()}
        return self

    def _encode(self, prompts: list[str]) -> Tensor:
        if self._encoder is None:
            self._encoder = self._load()
            self._encoder.to(self._device)  # type: ignore[arg-type]
        batch = self._tokenizer(
            prompts,
            padding="max_length",
            max_length=self._tokens,
            truncation=True,
            add_special_tokens=True,
            return_attention_mask=True,
            return_tensors="pt",
        ).to(self._encoder.device)
        features: Tensor = self._encoder(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        return features * batch["attention_mask"].unsqueeze(-1)


def _load_encoder(source: str | Path, dtype: torch.dtype) -> UMT5EncoderModel:
    try:
        loaded: Any = UMT5EncoderModel.from_pretrained(
            str(source), subfolder="text_encoder", dtype=dtype, output_loading_info=True, **hub_options(source)
        )
    except OSError as error:
        raise not_found(f"{source}: text encoder", source) from error
    encoder, report = loaded
    # Tied copies of the token embedding are stored once.
    missing = [name for name in report["missing_keys"] if "embed_tokens" not in name]
    check_names(f"{source}/text_encoder", missing)
    ready: UMT5EncoderModel = encoder.eval().requires_grad_(False)
    return ready


def clean(prompt: str) -> str:
    """A prompt as Wan's tokenizer expects it: HTML entities resolved, white space single."""
    return " ".join(html.unescape(html.unescape(prompt)).split())
