"""Depth Anything of transformers at a tiny size: loading, preprocessing, inference, postprocessing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mirage_ros.memory.latent import LatentMemory
from mirage_ros.models.network_files import MissingWeightsError
from mirage_ros.perception.depth_anything import DepthAnything
from mirage_ros.perception.pipeline import DecodedFrames
from mirage_ros.perception.pretrained import PerceptionUnavailableError


def test_metric_depth_is_what_the_network_says(depth_anything_folder: Any, noise_frames: DecodedFrames) -> None:
    from transformers import DepthAnythingForDepthEstimation

    folder = depth_anything_folder("metric")
    estimator = DepthAnything(folder)
    assert estimator.metric
    found = estimator.estimate(noise_frames, LatentMemory(3))
    assert found.depth.shape == (3, 64, 96)
    assert ((found.depth > 0) & (found.depth < 20)).all()
    # At the scale that brings the height, 64, to 70, the width, 96, becomes 105, and that 8 patches of 14.
    images = torch.nn.functional.interpolate(noise_frames.rgb, (70, 112), mode="bicubic", antialias=True).clamp(0, 1)
    images = (images - 0.5) / torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    with torch.no_grad():
        raw = DepthAnythingForDepthEstimation.from_pretrained(folder)(pixel_values=images).predicted_depth
    expected = torch.nn.functional.interpolate(raw[:, None], (64, 96), mode="bilinear", align_corners=True)[:, 0]
    torch.testing.assert_close(found.depth, expected, rtol=1e-4, atol=1e-5)


def test_relative_depth_is_inverted(depth_anything_folder: Any, noise_frames: DecodedFrames) -> None:
    estimator = DepthAnything(depth_anything_folder("relative"))
    assert not estimator.metric
    found = estimator.estimate(noise_frames, LatentMemory(3)).depth
    assert torch.isfinite(found).all()
    assert (found >= 0).all()


def test_missing_weights_say_what_to_do(tmp_path: Path, offline: None) -> None:
    with pytest.raises(MissingWeightsError, match="hf download nobody/nothing"):
        DepthAnything("nobody/nothing")
    with pytest.raises(MissingWeightsError, match="empty"):
        DepthAnything(tmp_path)


def test_another_network_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "depth_anything_3"}))
    with pytest.raises(PerceptionUnavailableError, match="depth_anything_3"):
        DepthAnything(tmp_path)
