"""Text features with a minute UMT5 and tokenizer in the published folder layout."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast, UMT5Config, UMT5EncoderModel

from mirage_ros.models.loading import MissingWeightsError
from mirage_ros.models.text import TextEncoder, clean, no_text

WORDS = ["<pad>", "</s>", "<unk>", "▁a", "▁red", "▁room", "▁chair", "▁and"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """text_encoder/ and tokenizer/ as in a diffusers repository."""
    folder = tmp_path_factory.mktemp("model")
    pieces = Tokenizer(models.Unigram([(word, -float(index)) for index, word in enumerate(WORDS)], unk_id=2))
    pieces.pre_tokenizer = pre_tokenizers.Metaspace()
    pieces.decoder = decoders.Metaspace()
    pieces.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=pieces, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    configuration = UMT5Config(
        vocab_size=len(WORDS), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2, tie_word_embeddings=False
    )
    UMT5EncoderModel(configuration).save_pretrained(folder / "text_encoder")
    return folder


def load(folder: Path, tokens: int = 12) -> TextEncoder:
    return TextEncoder.from_pretrained(folder, dtype=torch.float32, tokens=tokens)


def test_features_are_the_encoders_and_zero_beyond_the_prompt(folder: Path) -> None:
    features = load(folder).encode(["a red room", "a red chair and a room"])
    assert features.shape == (2, 12, 16)
    # Three and six words, each with an end token.
    assert (features.abs().sum(dim=-1) > 0).sum(dim=1).tolist() == [4, 7]
    encoder = UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        alone = encoder(torch.tensor([[3, 4, 5, 1]])).last_hidden_state
    torch.testing.assert_close(features[0, :4], alone[0], atol=1e-5, rtol=1e-4)


def test_long_prompts_are_cut_and_white_space_does_not_matter(folder: Path) -> None:
    encoder = load(folder, tokens=4)
    assert encoder.encode(["a red room " * 9]).shape == (1, 4, 16)
    spaced, plain = encoder.encode(["  a \n red\troom", "a red room"])
    assert torch.equal(spaced, plain)
    assert clean("fish &amp;amp; chips") == "fish & chips"


def test_released_encoders_remember_what_they_encoded(folder: Path) -> None:
    encoder = load(folder)
    before = encoder.encode(["a room", ""])
    encoder.release()
    assert torch.equal(encoder.encode(["", "a room"]), before.flip(0))
    with pytest.raises(RuntimeError, match="text encoder: released, and 'a chair' was not encoded before"):
        encoder.encode(["a chair"])


def test_missing_parts_and_wrong_prompts_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingWeightsError, match="expected a subfolder tokenizer/"):
        TextEncoder.from_pretrained(tmp_path)
    with pytest.raises(MissingWeightsError, match="hf download nobody/nothing"):
        TextEncoder.from_pretrained("nobody/nothing", local_files_only=True)
    with pytest.raises(TypeError, match="prompt: expected a string, got NoneType"):
        load(folder).encode([None])


def test_no_text_is_zero() -> None:
    assert torch.equal(no_text(2, 5), torch.zeros(2, 1, 5))
