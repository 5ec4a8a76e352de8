"""Text features with a minute UMT5 and tokenizer in the published folder layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import UMT5EncoderModel

from mirage_ros.models.network_files import MissingWeightsError
from mirage_ros.models.text import TextEncoder, clean, no_text


def load(text_folder: Path, tokens: int = 12) -> TextEncoder:
    return TextEncoder.from_pretrained(text_folder, dtype=torch.float32, tokens=tokens)


def test_features_are_the_encoders_and_zero_beyond_the_prompt(text_folder: Path) -> None:
    features = load(text_folder).encode(["a red room", "a red chair and a room"])
    assert features.shape == (2, 12, 16)
    # Three and six words, each with an end token.
    assert (features.abs().sum(dim=-1) > 0).sum(dim=1).tolist() == [4, 7]
    encoder = UMT5EncoderModel.from_pretrained(text_folder / "text_encoder").eval()
    with torch.no_grad():
        alone = encoder(torch.tensor([[3, 4, 5, 1]])).last_hidden_state
    torch.testing.assert_close(features[0, :4], alone[0], atol=1e-5, rtol=1e-4)


def test_long_prompts_are_cut_and_white_space_does_not_matter(text_folder: Path) -> None:
    encoder = load(text_folder, tokens=4)
    assert encoder.encode(["a red room " * 9]).shape == (1, 4, 16)
    spaced, plain = encoder.encode(["  a \n red\troom", "a red room"])
    assert torch.equal(spaced, plain)
    assert clean("fish &amp;amp; chips") == "fish & chips"


def test_released_encoders_remember_what_they_encoded(text_folder: Path) -> None:
    encoder = load(text_folder)
    before = encoder.encode(["a room", ""])
    encoder.release()
    assert torch.equal(encoder.encode(["", "a room"]), before.flip(0))
    # A new prompt brings it back.
    assert torch.equal(encoder.encode(["a chair"]), load(text_folder).encode(["a chair"]))


def test_missing_parts_and_wrong_prompts_are_refused(text_folder: Path, tmp_path: Path, offline: None) -> None:
    with pytest.raises(MissingWeightsError, match="expected a subfolder tokenizer/"):
        TextEncoder.from_pretrained(tmp_path)
    with pytest.raises(MissingWeightsError, match="hf download nobody/nothing"):
        TextEncoder.from_pretrained("nobody/nothing")
    with pytest.raises(TypeError, match="prompt: expected a string, got NoneType"):
        load(text_folder).encode([None])


def test_no_text_is_zero() -> None:
    assert torch.equal(no_text(2, 5), torch.zeros(2, 1, 5))
