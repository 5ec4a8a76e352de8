"""Weights from elsewhere and how they are held: options that the commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mirage_ros.models.schedule import FEW_STEPS


@dataclass(kw_only=True)
class WeightOptions:
    """What takes the place of parts of a preset's weights, and how much memory they take."""

    transformer_file: Path | None = None
    """the backbone in place of the weights' own: Wan's file or folder, ComfyUI's, float8 or GGUF"""
    branch_file: Path | None = None
    """memory branch that the public Mirage code saved"""
    lora_file: Path | None = None
    """LoRA that the public Mirage code saved"""
    distilled_lora: Path | None = None
    """LoRA of a few-step distillation; the schedule becomes 4 steps of Euler's method"""
    text_features: Path | None = None
    """file of `mirage text` in place of the text encoder, which is then never loaded"""
    quantised: Literal["int8"] | None = None
    """one byte for each weight of the transformer's blocks"""
    autoencoder_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the autoencoder alone"""
    tile: int | None = None
    """pixels of a tile of Wan's autoencoder: less memory, more time"""
    offload: bool = False
    """keep only the network at work on the device; on a CPU drop the transformer while frames are decoded"""

    def arguments(self) -> dict[str, Any]:
        """For `loading.load_networks`."""
        return {
            **{name: getattr(self, name) for name in WeightOptions.__dataclass_fields__},
            "autoencoder_dtype": None if self.autoencoder_dtype == "auto" else getattr(torch, self.autoencoder_dtype),
            "schedule": None if self.distilled_lora is None else FEW_STEPS,
        }
