"""Text features of the clips' prompts for training: encoded once, with the encoder gone before the first step."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from mirage_ros.models.presets import Preset
from mirage_ros.models.text import TextEncoder, no_text, own_tokens


class Prompts:
    """Features by prompt, for the transformer of a preset; with an encoder, if the preset has text.

    Raises:
        ValueError: a preset with text and no encoder, or the other way round.
    """

    def __init__(self, preset: Preset, encoder: TextEncoder | None = None) -> None:
        if preset.text != (encoder is not None):
            wanted = "a text encoder" if preset.text else "no text encoder"
            raise ValueError(f"encoder: expected {wanted} for preset {preset.name!r}")
        self._preset, self._encoder = preset, encoder
        # Without the zeros beyond a prompt's own tokens, which would be most of it.
        self._features: dict[str, Tensor] = {}
        self._warned = False

    def takes(self, prompt: str) -> bool:
        """Whether a clip with this prompt can be learnt from; the first that cannot brings a warning."""
        try:
            if self._encoder is not None:
                self._encoder.check(prompt)
        except ValueError as error:
            if not self._warned:
                warnings.warn(f"new clips are left out for their prompts, such as: {error}", stacklevel=2)
            self._warned = True
            return False
        return True

    def learn(self, prompts: Iterable[str]) -> None:
        """Encode the prompts that are new, and free the encoder; nothing for presets without text."""
        if self._encoder is None:
            return
        new = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._features]
        for prompt in new:
            self._features[prompt] = own_tokens(self._encoder.encode([prompt])[0].cpu())
        if new:
            self._encoder.release()

    def features(self, prompts: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
        """(B, L, text_dim) features, float32, zero beyond each prompt's own tokens; all zero without text."""
        features = no_text(len(prompts), self._preset.text_dim, self._preset.text_tokens, device)
        if self._encoder is not None:
            self.learn(prompts)
            for row, prompt in zip(features, prompts, strict=True):
                own = self._features[prompt]
                row[: len(own)] = own.to(row)
        return features
