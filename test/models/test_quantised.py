"""Weights of one byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mirage_ros.models.presets import TEST
from mirage_ros.models.quantised import quantise
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_transformer, save_transformer

pytest.importorskip("torchao")


def held(model: MirageTransformer) -> int:
    """Bytes of the blocks' matrices: whole numbers and scales where they are quantised."""
    total = 0
    for name, tensor in model.named_parameters():
        if "blocks." in name and tensor.ndim == 2:
            parts = [getattr(tensor, part) for part in ("qdata", "scale")] if hasattr(tensor, "qdata") else [tensor]
            total += sum(part.numel() * part.element_size() for part in parts)
    return total


def test_a_model_is_loaded_at_half_the_size_and_computes_nearly_the_same(
    new_model: Callable[..., MirageTransformer], flow: Callable, tmp_path: Path
) -> None:
    model = new_model(hints=True)
    save_transformer(model, tmp_path)
    whole = load_transformer(tmp_path, dtype=torch.bfloat16)
    small = load_transformer(tmp_path, dtype=torch.bfloat16, quantised="int8")
    assert held(small) < 0.6 * held(whole)
    expected = flow(model)
    assert 0 < (flow(small) - expected).std() < 0.05 * expected.std()


def test_random_weights_are_drawn_in_it(flow: Callable) -> None:
    torch.manual_seed(0)
    model = MirageTransformer.from_preset(TEST, torch.bfloat16, "int8")
    whole = MirageTransformer.from_preset(TEST, torch.bfloat16)
    assert len(model.backbone.blocks) == model.backbone.config["num_layers"] == TEST.backbone["num_layers"]
    assert held(model) < 0.6 * held(whole)
    assert model.backbone.state_dict().keys() == whole.backbone.state_dict().keys()


def test_other_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match="quantised: expected 'int8', got 'int3'"):
        quantise(torch.nn.Linear(2, 2), "int3")
