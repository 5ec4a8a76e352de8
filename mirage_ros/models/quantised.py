"""Weights of one byte through torchao: half the memory of bfloat16, products still in the type of their input."""

from __future__ import annotations

from typing import Literal

from torch import nn

Quantisation = Literal["int8"]


def quantise(block: nn.Module, to: Quantisation = "int8") -> None:
    """Keep the matrices of all linear layers in whole numbers, with a scale for each row, in place.

    For inference: what is rounded here is not trained. LoRA must be in the weights already.

    Args:
        block: a transformer's block, or any network.
        to: int8, whose rounding changes a layer's output by about half a percent.

    Raises:
        ImportError: torchao is not installed.
        ValueError: no such kind.
    """
    if to != "int8":
        raise ValueError(f"quantised: expected 'int8', got {to!r}")
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ImportError("quantised: needs torchao: pip install 'mirage_ros[quantised]'") from error
    quantize_(block, Int8WeightOnlyConfig())
