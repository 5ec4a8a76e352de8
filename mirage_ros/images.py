"""Images and cameras of any size, brought to the size of a model: centre crop to its shape, then scale."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.rgbd import RgbdFrame

# Metres that half of a picture is rarely beyond, or nearer than.
FAR, NEAR = 300.0, 0.03
# Shares of a picture's sides by which its principal point is rarely off the middle: along one, and along both at once.
OFF_ONE, OFF_BOTH = 0.25, 0.12
# Most by which focal lengths rarely differ, and by which they are rarely longer or shorter than the longer side.
UNEQUAL, FOCAL = 1.25, 8.0
# Share by which the shapes of two images of one view may differ.
SHAPE_TOLERANCE = 0.02


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


def centre_window(shape: Sequence[int], size: tuple[int, int]) -> Window:
    """The largest centred window of an image (H, W) with the shape of the target size."""
    (height, width), (to_height, to_width) = shape, size
    scale = min(height / to_height, width / to_width)
    inner_height, inner_width = max(1, round(to_height * scale)), max(1, round(to_width * scale))
    inner_height, inner_width = min(inner_height, height), min(inner_width, width)
    return Window((height - inner_height) // 2, (width - inner_width) // 2, inner_height, inner_width)


def fit(frame: RgbdFrame, height: int, width: int) -> RgbdFrame:
    """A frame, or a batch of them, cut in the middle to the shape of height x width and scaled to it.

    Colours are averaged over areas, depth is that of the pixel at each centre, and the camera's is exact.
    """
    return replace(
        frame,
        rgb=as_pixels(fit_colour(as_tensor(frame.rgb), height, width)),
        depth=None if frame.depth is None else fit_nearest(as_tensor(frame.depth), height, width).numpy(),
        camera=fit_camera(frame.camera, height, width),
    )


def fit_camera(camera: Camera, height: int, width: int) -> Camera:
    """The camera of the fitted image; exact."""
    window = centre_window((camera.height, camera.width), (height, width))
    return camera.cropped(window.top, window.left, window.height, window.width).resized(height, width)


def fit_colour(rgb: Tensor, height: int, width: int) -> Tensor:
    """Fit colour images (..., H, W, 3) uint8.

    Returns:
        (..., 3, height, width) float32 0..1, averaged over areas when it shrinks.
    """
    image = centre_window(rgb.shape[-3:-1], (height, width)).cut(rgb.movedim(-1, -3)).float() / 255
    if image.shape[-2:] == (height, width):
        return image
    # antialias with bilinear is an area average when shrinking and linear when growing.
    flat = image.reshape(-1, *image.shape[-3:])
    fitted = interpolate(flat, (height, width), mode="bilinear", antialias=True).clamp(0, 1)
    return fitted.reshape(*image.shape[:-2], height, width)


def fit_nearest(image: Tensor, height: int, width: int) -> Tensor:
    """Fit images (..., H, W) of depth or classes by the pixel at each centre, so that nothing is mixed."""
    return _nearest(centre_window(image.shape[-2:], (height, width)).cut(image), height, width)


def _nearest(image: Tensor, height: int, width: int) -> Tensor:
    if image.shape[-2:] == (height, width):
        return image
    rows, columns = (
        ((torch.arange(new, device=image.device) + 0.5) * (old / new)).long().clamp(max=old - 1)
        for old, new in zip(image.shape[-2:], (height, width), strict=True)
    )
    return image[..., rows, :][..., columns]


def depth_like(camera: Camera, depth: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Depth (H', W') of a view in metres at the resolution of its camera, as `RgbdFrame` wants it; nothing is mixed.

    Raises:
        ValueError: it is no such image, or its shape is not that of the camera.
    """
    if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating) or 0 in depth.shape:
        raise ValueError(f"depth: expected (H, W) floating-point metres, got {depth.shape} {depth.dtype}")
    rows, columns = depth.shape
    # A pixel more or less is the rounding of small images.
    check_shape("depth", camera, rows, columns, slack=max(SHAPE_TOLERANCE, 1 / min(rows, columns)))
    metres = as_tensor(depth.astype(np.float32))
    fitted: NDArray[np.float32] = _nearest(metres, camera.height, camera.width).numpy()
    return fitted


def check_shape(name: str, camera: Camera, rows: int, columns: int, slack: float = SHAPE_TOLERANCE) -> None:
    """Refuse an image whose shape, at whatever resolution, is not that of a camera.

    Raises:
        ValueError: see above.
    """
    if abs(columns / rows * camera.height / camera.width - 1) > slack:
        raise ValueError(
            f"{name}: expected the shape of the camera, {camera.height}x{camera.width}, at any resolution, "
            f"got {rows}x{columns}"
        )


def check_depth(name: str, depth: NDArray[np.float32]) -> Tensor:
    """Depth as a tensor; refuses an image that says nothing, and warns of what is more likely in another unit.

    Raises:
        ValueError: no pixel is valid, nor too far to measure.
    """
    metres = as_tensor(depth)
    # A view of nothing but sky says something.
    if not (metres > 0).any():
        raise ValueError(f"{name}: expected some valid pixel, got none")
    if (doubt := doubt_of_depth(metres)) is not None:
        warnings.warn(f"{name}: {doubt}", stacklevel=2)
    return metres


def as_images(rgb: NDArray[np.uint8]) -> Tensor:
    """(..., H, W, 3) uint8 to (..., 3, H, W) float32 in 0..1."""
    return as_tensor(rgb).movedim(-1, -3).float() / 255


def as_pixels(images: Tensor) -> NDArray[np.uint8]:
    """(..., 3, H, W) in 0..1, clamped, to (..., H, W, 3) uint8."""
    pixels: NDArray[np.uint8] = (
        (images.float().clamp(0, 1) * 255).round().to(torch.uint8).movedim(-3, -1).contiguous().cpu().numpy()
    )
    return pixels


def doubt_of_depth(metres: Tensor) -> str | None:
    """Why depth in metres is more likely in another unit, in words; None where nothing speaks for it."""
    valid = metres[valid_depth(metres)]
    if not len(valid) or NEAR <= (median := float(valid.median())) <= FAR:
        return None
    if median > FAR:
        return f"half of it lies beyond {median:.0f} m; expected metres, are these millimetres?"
    return f"half of it lies nearer than {median * 1000:.3g} mm; was the unit converted twice?"


def doubt_of_optics(camera: Camera) -> str | None:
    """Why intrinsics are hardly those of pictures of this size, in words; None where nothing speaks against them.

    A crop out of a larger picture can be meant, so this is no error.
    """
    width, height = camera.width, camera.height
    fx, fy, cx, cy = (camera.intrinsics[..., i, j].flatten() for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    across, down = (cx / width - 0.5).abs(), (cy / height - 0.5).abs()
    off = (torch.maximum(across, down) > OFF_ONE) | (torch.minimum(across, down) > OFF_BOTH)
    unequal = torch.maximum(fx / fy, fy / fx) > UNEQUAL
    focal = torch.maximum(fx, fy) / max(width, height)
    for wrong, what in (
        (off, "the principal point ({cx:.1f}, {cy:.1f}) lies far from the middle of"),
        (unequal, "the focal lengths fx {fx:.1f} and fy {fy:.1f} differ widely in"),
        ((focal > FOCAL) | (focal < 1 / FOCAL), "the focal length {fx:.1f} hardly fits"),
    ):
        if wrong.any():
            first = int(wrong.nonzero()[0, 0])
            values = {"fx": fx, "fy": fy, "cx": cx, "cy": cy}
            words = what.format(**{name: float(each[first % len(each)]) for name, each in values.items()})
            return f"{words} pictures of {width}x{height}; are these intrinsics those of pictures of another size?"
    return None


def as_tensor(array: NDArray[Any]) -> Tensor:
    """An array of any strides, which may be read-only, as a tensor."""
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))


def enlarge(cells: Tensor, height: int, width: int) -> Tensor:
    """Repeat cells (..., h, w) to pixels (..., height, width), multiples of the cells."""
    rows, columns = height // cells.shape[-2], width // cells.shape[-1]
    return cells.repeat_interleave(rows, dim=-2).repeat_interleave(columns, dim=-1)
