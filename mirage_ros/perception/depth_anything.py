"""Depth Anything V2 through transformers: relative and metric checkpoints."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate
from mirage_ros.perception.pretrained import (
    PerceptionUnavailableError,
    colour_statistics,
    load_network,
    load_settings,
)

# Frames at once.
BATCH = 8
# What the checkpoints were trained with, where a folder has no preprocessor_config.json.
_SIZE, _MULTIPLE = 518, 14
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
INDOOR = "depth-anything/Depth-Anything-V2-Metric-Indoor-Small-hf"


class DepthAnything:
    """Monocular depth, frame by frame in batches.

    Checkpoints of the classes DepthAnythingForDepthEstimation. Those that say `depth_estimation_type: metric` give
    metres; the others give inverse depth up to scale and shift, so their depth must be aligned (`AlignedDepth`).
    Version 3 is not in transformers; its checkpoints are refused with a message.

    Args:
        source: folder or hub repository.
        device: where it runs.

    Raises:
        MissingWeightsError: the weights are not there.
        PerceptionUnavailableError: the source holds another kind of network.
    """

    def __init__(self, source: str | Path = INDOOR, device: torch.device | str = "cpu") -> None:
        from transformers import DepthAnythingForDepthEstimation

        kind = load_settings(source, ("config.json",)).get("model_type")
        if kind is not None and kind != "depth_anything":
            raise PerceptionUnavailableError(
                f"{source}: expected a Depth Anything V1 or V2 checkpoint in transformers' layout (model_type "
                f"depth_anything), got model_type {kind}"
            )
        self._network = load_network(DepthAnythingForDepthEstimation, source, device)
        settings = load_settings(source, ("preprocessor_config.json",))
        size = settings.get("size", {"height": _SIZE, "width": _SIZE})
        self._size = int(size["height"]), int(size["width"])
        self._multiple = int(settings.get("ensure_multiple_of", _MULTIPLE))
        self._mean, self._std = colour_statistics(settings, device, _MEAN, _STD)

    @property
    def metric(self) -> bool:
        """Whether depth is in metres without alignment."""
        return str(self._network.config.depth_estimation_type) == "metric"

    @torch.no_grad()
    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Depth of the frames; where relative inverse depth is zero or less (very far) depth is unknown."""
        parts = [self._predict(rgb) for rgb in frames.rgb.split(BATCH)]
        return DepthEstimate(torch.cat(parts), frames.camera)

    def _predict(self, rgb: Tensor) -> Tensor:
        height, width = rgb.shape[-2:]
        images = (self._resized(rgb.to(self._mean.device)) - self._mean) / self._std
        predicted = self._network(pixel_values=images.to(self._network.dtype)).predicted_depth.float()
        full = F.interpolate(predicted.unsqueeze(1), (height, width), mode="bilinear", align_corners=True).squeeze(1)
        if not self.metric:
            full = torch.where(full > 0, 1 / full.clamp(min=1e-6), 0.0)
        return full.to(rgb.device)

    def _resized(self, rgb: Tensor) -> Tensor:
        """Aspect kept, the side that needs the smaller change at the trained size, in whole patches."""
        height, width = rgb.shape[-2:]
        by_height, by_width = self._size[0] / height, self._size[1] / width
        scale = by_height if abs(1 - by_height) < abs(1 - by_width) else by_width
        rows, columns = (
            max(self._multiple, round(scale * side / self._multiple) * self._multiple) for side in (height, width)
        )
        return F.interpolate(rgb, (rows, columns), mode="bicubic", antialias=True).clamp(0, 1)
