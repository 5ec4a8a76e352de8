"""Between pictures on disk and tensors."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mirage_ros.media import Pixels


def as_images(rgb: Pixels) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float32 in 0..1."""
    return torch.from_numpy(np.ascontiguousarray(rgb)).movedim(-1, -3).float() / 255


def as_pixels(image: Tensor) -> Pixels:
    """(..., 3, H, W) in 0..1, clamped, to (..., H, W, 3) uint8."""
    pixels: Pixels = (image.float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).cpu().numpy()
    return pixels
