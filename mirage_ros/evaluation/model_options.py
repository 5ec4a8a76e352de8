"""Which world model a command measures, and where it runs: options that the commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from mirage_ros.models.schedule import FEW_STEPS
from mirage_ros.world.model import WorldModel


@dataclass(kw_only=True)
class ModelOptions:
    """A world model and where it runs."""

    preset: str = "default"
    weights: str | None = None
    """folder or hub repository; the preset's own by default"""
    random_weights: bool = False
    """load nothing; times do not depend on the weights"""
    device: str = "cpu"
    threads: int | None = None
    """of torch on the CPU; its own choice by default"""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the networks; auto takes what the machine multiplies fast"""
    keyframe_stride: int | None = None
    """every so many-th frame is imagined, those between are read; the preset's by default"""
    transformer_file: Path | None = None
    """the backbone in place of the weights' own: Wan's file or folder, ComfyUI's, float8 or GGUF"""
    branch_file: Path | None = None
    """memory branch that the public Mirage code saved"""
    lora_file: Path | None = None
    """LoRA that the public Mirage code saved"""
    conventions: Literal["paper", "public"] | None = None
    """'public' for weights trained with the public Mirage code"""
    distilled_lora: Path | None = None
    """LoRA of a few-step distillation; the schedule becomes 4 steps of Euler's method"""
    quantised: Literal["int8"] | None = None
    """one byte for each weight of the transformer's blocks"""
    autoencoder_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """of the autoencoder alone"""
    seed: int = 0
    """of noise and choices"""

    def load(self, **more: Any) -> WorldModel:
        """The model, after the number of threads is set; `more` goes to `WorldModel.from_pretrained`."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return WorldModel.from_pretrained(
            self.weights,
            preset=self.preset,
            device=self.device,
            random_weights=self.random_weights,
            dtype=None if self.dtype == "auto" else getattr(torch, self.dtype),
            autoencoder_dtype=None if self.autoencoder_dtype == "auto" else getattr(torch, self.autoencoder_dtype),
            transformer_file=self.transformer_file,
            branch_file=self.branch_file,
            lora_file=self.lora_file,
            conventions=self.conventions,
            distilled_lora=self.distilled_lora,
            schedule=None if self.distilled_lora is None else FEW_STEPS,
            quantised=self.quantised,
            keyframe_stride=self.keyframe_stride,
            **more,
        )

    def settings(self, world: WorldModel) -> dict[str, Any]:
        """What figures of the loaded model depend on."""
        return {
            "preset": self.preset,
            "weights": "random" if self.random_weights else self.weights or "shipped",
            "size": f"{world.width}x{world.height}",
            "dtype": str(world.networks.transformer.dtype).removeprefix("torch."),
            "keyframe stride": world.preset.keyframe_stride,
            "seed": self.seed,
        }


def device_name(world: WorldModel) -> str:
    """The machine that does a model's work, for a report's reader."""
    if world.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
