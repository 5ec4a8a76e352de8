"""Which world model a command measures, and where it runs: options that the commands share."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any, Literal

import torch

from mirage_ros.world.model import WorldModel
from mirage_ros.world.weight_options import WeightOptions


@dataclass(kw_only=True)
class ModelOptions(WeightOptions):
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
    height: int | None = None
    width: int | None = None
    """pixels; the preset's by default"""
    conventions: Literal["paper", "public"] | None = None
    """'public' for weights trained with the public Mirage code"""
    seed: int = 0
    """of noise and choices"""

    def load(self, **more: Any) -> WorldModel:
        """The model, after the number of threads is set; `more` goes to `WorldModel.from_pretrained`.

        Raises:
            ValueError: only one of height and width is given, or the model takes no such size.
        """
        if (self.height is None) != (self.width is None):
            raise ValueError(f"height, width: expected both or none, got {self.height} and {self.width}")
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        return WorldModel.from_pretrained(
            self.weights,
            preset=self.preset,
            # Of several processes on a machine each takes its own.
            device=f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if self.device == "cuda" else self.device,
            random_weights=self.random_weights,
            dtype=None if self.dtype == "auto" else getattr(torch, self.dtype),
            conventions=self.conventions,
            keyframe_stride=self.keyframe_stride,
            size=None if self.height is None else (self.height, self.width),
            **self.arguments(),
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
            # Of the rest what is not as usual, so that earlier results stay results.
            **{
                name: str(value)
                for name, value in {**self.arguments(), "conventions": self.conventions}.items()
                if value not in (None, False)
            },
        }


def device_name(world: WorldModel) -> str:
    """The machine that does a model's work, for a report's reader."""
    if world.device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"CPU, {torch.get_num_threads()} threads"
