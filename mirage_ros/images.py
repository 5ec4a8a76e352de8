"""Images and cameras of any size, brought to the size of the model: centre crop to its shape, then scale."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.models import log_depth

# Metres that half of a picture is rarely beyond.
FAR = 300.0

Image = NDArray[np.uint8] | Tensor
Depth = NDArray[np.floating] | Tensor


@dataclass(frozen=True)
class Window:
    """The part of an image that the model sees, in pixels of the image."""

    top: int
    left: int
    height: int
    width: int

    def cut(self, image: Tensor) -> Tensor:
        """The window of an image (..., H, W)."""
        return image[..., self.top : self.top + self.height, self.left : self.left + self.width]


def centre_window(height: int, width: int, to_height: int, to_width: int) -> Window:
    """The largest centred window with the shape of the target size."""
    scale = min(height / to_height, width / to_width)
    inner_height, inner_width = max(1, round(to_height * scale)), max(1, round(to_width * scale))
    inner_height, inner_width = min(inner_height, height), min(inner_width, width)
    return Window((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)


def fit_camera(camera: Camera, height: int, width: int) -> Camera:
    """The camera of the fitted image; exact."""
    window = centre_window(camera.height, camera.width, height, width)
    return camera.cropped(window.top, window.left, window.height, window.width).resized(height, width)


def fit_colour(rgb: Tensor, height: int, width: int) -> Tensor:
    """Fit a colour image.

    Args:
        rgb: (H, W, 3) uint8.

    Returns:
        (3, height, width) float32 0..1, averaged over areas when it shrinks.
    """
    image = centre_window(rgb.shape[0], rgb.shape[1], height, width).cut(rgb.permute(2, 0, 1)).float() / 255
    if image.shape[1:] == (height, width):
        return image
    # antialias with bilinear is an area average when shrinking and linear when growing.
    return interpolate(image[None], (height, width), mode="bilinear", antialias=True)[0].clamp(0, 1)


def fit_nearest(image: Tensor, height: int, width: int) -> Tensor:
    """Fit an image (H, W) of depth or classes by the pixel at each centre, so that nothing is mixed."""
    cut = centre_window(image.shape[0], image.shape[1], height, width).cut(image)
    rows = ((torch.arange(height, device=image.device) + 0.5) * (cut.shape[0] / height)).long()
    columns = ((torch.arange(width, device=image.device) + 0.5) * (cut.shape[1] / width)).long()
    return cut[rows.clamp(max=cut.shape[0] - 1)][:, columns.clamp(max=cut.shape[1] - 1)]


def fit_fine_depth(depth: Tensor, height: int, width: int, cells: tuple[int, int]) -> Tensor:
    """Fit a depth image and bring it to the grid of depth channels, as for training.

    Args:
        depth: (H, W) metres, +inf where it is too far to measure.
        height, width: pixels of the model.
        cells: (h, w) of its latent grid.

    Returns:
        (2h, 2w) metres, `log_depth.SKY_DEPTH` where it is too far, NaN where it is unknown.
    """
    metres = fit_nearest(torch.where(depth == torch.inf, log_depth.SKY_DEPTH, depth), height, width)
    return log_depth.reduce(metres, cells[0] * log_depth.FINE, cells[1] * log_depth.FINE)


def enlarge(cells: Tensor, height: int, width: int) -> Tensor:
    """Repeat cells (..., h, w) to pixels (..., height, width), multiples of the cells."""
    rows, columns = height // cells.shape[-2], width // cells.shape[-1]
    return cells.repeat_interleave(rows, dim=-2).repeat_interleave(columns, dim=-1)


def check_image(name: str, rgb: Image, cell: tuple[int, int] = (1, 1)) -> Tensor:
    """An image as a tensor; refuses anything but (H, W, 3) uint8 of at least a cell's rows and columns of pixels."""
    image = torch.as_tensor(np.require(rgb, requirements=["C", "W"]) if isinstance(rgb, np.ndarray) else rgb)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != torch.uint8 or 0 in image.shape:
        raise ValueError(f"{name}: expected (H, W, 3) uint8, got {tuple(image.shape)} {image.dtype}")
    if image.shape[0] < cell[0] or image.shape[1] < cell[1]:
        raise ValueError(
            f"{name}: expected at least {cell[0]}x{cell[1]} pixels, one cell of the latent grid, "
            f"got {image.shape[0]}x{image.shape[1]}"
        )
    return image


def check_depth(name: str, depth: Depth) -> Tensor:
    """Depth as a float32 tensor; refuses anything but (H, W) metres with some pixel that says something.

    Warns of what is more likely millimetres.
    """
    metres = torch.as_tensor(np.require(depth, requirements=["C", "W"]) if isinstance(depth, np.ndarray) else depth)
    if metres.ndim != 2 or not metres.is_floating_point():
        raise ValueError(f"{name}: expected (H, W) floating-point metres, got {tuple(metres.shape)} {metres.dtype}")
    valid = metres[valid_depth(metres)]
    # A view of nothing but sky says something.
    if not (metres > 0).any():
        raise ValueError(f"{name}: expected some valid pixel, got none")
    if len(valid) and (median := float(valid.median())) > FAR:
        warnings.warn(
            f"{name}: half of it lies beyond {median:.0f} m; expected metres, are these millimetres?", stacklevel=2
        )
    return metres.float()


def check_keep(keep: NDArray[np.bool_] | Tensor) -> Tensor:
    """A mask as a tensor; refuses anything but (H, W) bool."""
    mask = torch.as_tensor(np.require(keep, requirements=["C", "W"]) if isinstance(keep, np.ndarray) else keep)
    if mask.ndim != 2 or mask.dtype != torch.bool or 0 in mask.shape:
        raise ValueError(f"keep: expected (H, W) bool, got {tuple(mask.shape)} {mask.dtype}")
    return mask


def cut_window(image: Tensor, size: tuple[int, int]) -> Tensor:
    """The part of an image (H, W) that the model sees, at its own resolution."""
    return centre_window(image.shape[0], image.shape[1], *size).cut(image)
