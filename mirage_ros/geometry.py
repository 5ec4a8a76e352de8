"""Pinhole cameras and axis conventions, in plain torch.

Conventions, everywhere in this package:

- Right-handed frames, metres, radians. A camera frame is optical: x right, y down, z forward (REP-103 suffix
  ``_optical``). A body frame is x forward, y left, z up.
- Pixel (i, j) covers the square [j, j+1) x [i, i+1), so its centre is (j + 0.5, i + 0.5) and intrinsics scale exactly
  with the size of the image. ROS puts centres at integers: see `intrinsics_from_ros` and `intrinsics_to_ros`.
- Depth is measured along the optical axis, in metres. Zero, negative and NaN depths are unknown, +inf is too far to
  measure (REP-118); none of them can be lifted.
- Poses are cam2world, (..., 4, 4); what else is done with them is in `poses`.

Every function takes any number of leading batch dimensions, written ``...`` below.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mirage_ros.poses import check_pose, invert, transform

# Two cameras are the same within a millimetre and a milliradian, and a hundredth of a pixel.
SAME_POSE, SAME_PIXEL = 1e-3, 1e-2


@dataclass(frozen=True, eq=False)
class Camera:
    """One pinhole camera, or a batch of them, without distortion.

    Attributes:
        intrinsics: (..., 3, 3) pixels, centre convention (pixel centres at +0.5).
        cam2world: (..., 4, 4) rigid transform from the optical frame to the world, metres.
        height: image height in pixels, shared by the batch.
        width: image width in pixels.

    Raises:
        ValueError: a shape, a size or a value is not usable; the message names the field.
    """

    intrinsics: Tensor
    cam2world: Tensor
    height: int
    width: int

    def __post_init__(self) -> None:
        check_intrinsics(self.intrinsics)
        check_pose(self.cam2world, name="cam2world")
        _check_size(self.height, self.width)
        if self.intrinsics.dtype != self.cam2world.dtype:
            raise ValueError(f"cam2world: expected {self.intrinsics.dtype} like intrinsics, got {self.cam2world.dtype}")
        if self.intrinsics.device != self.cam2world.device:
            raise ValueError(
                f"cam2world: expected on {self.intrinsics.device} like intrinsics, got {self.cam2world.device}"
            )
        try:
            np.broadcast_shapes(self.intrinsics.shape[:-2], self.cam2world.shape[:-2])
        except ValueError:
            raise ValueError(
                f"cam2world: batch {tuple(self.cam2world.shape[:-2])} does not broadcast with "
                f"intrinsics' {tuple(self.intrinsics.shape[:-2])}"
            ) from None

    @property
    def batch_shape(self) -> torch.Size:
        """Leading dimensions of the batch; empty for a single camera."""
        return torch.Size(np.broadcast_shapes(self.intrinsics.shape[:-2], self.cam2world.shape[:-2]))

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return self.cam2world.device

    @property
    def world2cam(self) -> Tensor:
        """(..., 4, 4) inverse of cam2world."""
        return invert(self.cam2world)

    def __len__(self) -> int:
        if not self.batch_shape:
            raise TypeError("a single camera has no length; index a batch")
        return self.batch_shape[0]

    def __getitem__(self, index: int | slice | Tensor | list[int]) -> Camera:
        """Select along the first batch dimension."""
        shape = self.batch_shape
        if not shape:
            raise IndexError("a single camera cannot be indexed")
        return self._with(
            intrinsics=self.intrinsics.expand(*shape, 3, 3)[index],
            cam2world=self.cam2world.expand(*shape, 4, 4)[index],
        )

    @staticmethod
    def stacked(cameras: Sequence[Camera]) -> Camera:
        """Cameras of one size and batch shape with a batch dimension in front."""
        return Camera(
            torch.stack([camera.intrinsics for camera in cameras]),
            torch.stack([camera.cam2world for camera in cameras]),
            cameras[0].height,
            cameras[0].width,
        )

    def __iter__(self) -> Iterator[Camera]:
        return (self[i] for i in range(len(self)))

    @staticmethod
    def joined(cameras: Sequence[Camera]) -> Camera:
        """Batches (T,) of one size, one after the other."""
        return cameras[0]._with(
            intrinsics=torch.cat([camera.intrinsics.expand(len(camera), 3, 3) for camera in cameras]),
            cam2world=torch.cat([camera.cam2world for camera in cameras]),
        )

    def _with(self, **changes: Tensor | int) -> Camera:
        """A copy with trusted changes: the checks of the constructor would make a CUDA device wait for the host."""
        copy = object.__new__(Camera)
        copy.__dict__.update(self.__dict__, **changes)
        return copy

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Camera:
        """The same camera on another device or in another floating-point type."""
        return self._with(
            intrinsics=self.intrinsics.to(device=device, dtype=dtype),
            cam2world=self.cam2world.to(device=device, dtype=dtype),
        )

    def at(self, cam2world: Tensor) -> Camera:
        """The same optics at other poses, (..., 4, 4)."""
        return replace(self, cam2world=cam2world)

    def resized(self, height: int, width: int) -> Camera:
        """The same view sampled at another resolution; exact under the centre convention."""
        _check_size(height, width)
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, :] *= width / self.width
        intrinsics[..., 1, :] *= height / self.height
        return self._with(intrinsics=intrinsics, height=height, width=width)

    def cropped(self, top: int, left: int, height: int, width: int) -> Camera:
        """The window of height x width pixels whose first pixel is (top, left); it may reach outside."""
        _check_size(height, width)
        intrinsics = self.intrinsics.clone()
        intrinsics[..., 0, 2] -= left
        intrinsics[..., 1, 2] -= top
        return self._with(intrinsics=intrinsics, height=height, width=width)

    def pixel_centres(self) -> Tensor:
        """(H, W, 2) pixel coordinates (x, y) of the centres."""
        ys = torch.arange(self.height, device=self.device, dtype=self.intrinsics.dtype) + 0.5
        xs = torch.arange(self.width, device=self.device, dtype=self.intrinsics.dtype) + 0.5
        return torch.stack(torch.meshgrid(ys, xs, indexing="ij")[::-1], dim=-1)

    def rays(self) -> Tensor:
        """(..., H, W, 3) directions through the pixel centres, in world axes, one metre along the optical axis."""
        return self._world_rays().movedim(-3, -1)

    def lift(self, depth: Tensor) -> Tensor:
        """Back-project a depth image.

        Args:
            depth: (..., H, W) metres along the optical axis.

        Returns:
            (..., H, W, 3) world points; NaN where the depth is invalid.

        Raises:
            ValueError: the depth is not the size of this camera's image.
        """
        if depth.shape[-2:] != (self.height, self.width):
            raise ValueError(f"depth: expected (..., {self.height}, {self.width}), got {tuple(depth.shape)}")
        valid = valid_depth(depth)
        metres = torch.where(valid, depth, torch.nan).to(self.cam2world.dtype)
        points = torch.addcmul(self.cam2world[..., :3, 3, None, None], self._world_rays(), metres.unsqueeze(-3))
        return points.movedim(-3, -1)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Project world points.

        Args:
            points: (..., N, 3) metres, world axes.

        Returns:
            pixels (..., N, 2) as (x, y), and depth (..., N). Pixels of points at or behind the optical centre
            (depth <= 0) are NaN.
        """
        local = transform(self.world2cam, points.to(self.cam2world.dtype))
        depth = local[..., 2]
        front = torch.where(depth > 0, depth, torch.nan)
        normalised = local / front.unsqueeze(-1)
        pixels = (self.intrinsics[..., None, :2, :] @ normalised.unsqueeze(-1)).squeeze(-1)
        return pixels, depth

    def _world_rays(self) -> Tensor:
        """(..., 3, H, W) directions with z = 1 in the camera: affine in row and column, so sums of two vectors each."""
        fx, skew, cx, fy, cy = (
            self.intrinsics[..., row, column] for row, column in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2))
        )
        zero, one = torch.zeros_like(fx), torch.ones_like(fx)
        entries = (1 / fx, -skew / (fx * fy), (skew * cy / fy - cx) / fx, zero, 1 / fy, -cy / fy, zero, zero, one)
        across, down, middle = (
            (self.cam2world[..., :3, :3] @ torch.stack(entries, dim=-1).reshape(*fx.shape, 3, 3))
            .unsqueeze(-3)
            .unbind(-1)
        )
        columns, rows = (torch.arange(n, device=self.device, dtype=fx.dtype) + 0.5 for n in (self.width, self.height))
        lines = (down.mT * rows + middle.mT).unsqueeze(-1)
        return lines + (across.mT * columns).unsqueeze(-2)


def same_view(one: Camera, other: Camera) -> bool:
    """Whether two single cameras have the same pose and the same pixels, within `SAME_POSE` and `SAME_PIXEL`."""
    return (one.height, one.width) == (other.height, other.width) and all(
        torch.allclose(mine.cpu().double(), theirs.cpu().double(), rtol=0, atol=slack)
        for mine, theirs, slack in (
            (one.cam2world, other.cam2world, SAME_POSE),
            (one.intrinsics, other.intrinsics, SAME_PIXEL),
        )
    )


def pinhole(
    height: int,
    width: int,
    *,
    vertical_fov: float | None = None,
    focal: float | None = None,
    cam2world: Tensor | None = None,
) -> Camera:
    """A camera with square pixels and a centred principal point.

    Args:
        height, width: pixels.
        vertical_fov: radians; give this or `focal`.
        focal: pixels.
        cam2world: (..., 4, 4); the identity by default.
    """
    if (vertical_fov is None) == (focal is None):
        raise ValueError(f"expected one of vertical_fov and focal, got vertical_fov={vertical_fov}, focal={focal}")
    if vertical_fov is not None:
        if not 0 < vertical_fov < np.pi:
            raise ValueError(f"vertical_fov: expected radians between 0 and pi, got {vertical_fov}")
        focal = height / 2 / float(np.tan(vertical_fov / 2))
    pose = torch.eye(4) if cam2world is None else cam2world
    intrinsics = pose.new_tensor([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    return Camera(intrinsics, pose, height, width)


def _check_size(height: int, width: int) -> None:
    for name, value in (("height", height), ("width", width)):
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
            raise ValueError(f"{name}: expected a positive whole number of pixels, got {value!r}")


def valid_depth(depth: Tensor) -> Tensor:
    """(...) bool: where a depth is finite and positive."""
    return torch.isfinite(depth) & (depth > 0)


def check_intrinsics(intrinsics: Tensor, name: str = "intrinsics") -> None:
    """Refuse anything but finite, invertible (..., 3, 3) pinhole matrices without a mirrored axis."""
    if not isinstance(intrinsics, Tensor) or intrinsics.shape[-2:] != (3, 3) or not intrinsics.is_floating_point():
        got = f"{tuple(intrinsics.shape)} {intrinsics.dtype}" if isinstance(intrinsics, Tensor) else type(intrinsics)
        raise ValueError(f"{name}: expected a floating-point tensor (..., 3, 3), got {got}")
    if not torch.isfinite(intrinsics).all():
        raise ValueError(f"{name}: expected finite values, got {intrinsics.tolist()}")
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]])
    if not (focal > 0).all():
        raise ValueError(f"{name}: expected positive focal lengths fx, fy in pixels, got {focal.tolist()}")
    if not (intrinsics[..., 2, :] == intrinsics.new_tensor([0, 0, 1])).all() or (intrinsics[..., 1, 0] != 0).any():
        raise ValueError(f"{name}: expected [[fx, s, cx], [0, fy, cy], [0, 0, 1]], got {intrinsics.tolist()}")


def intrinsics_from_ros(intrinsics: Tensor) -> Tensor:
    """Centre convention from ROS's integer one: the principal point moves by +0.5 px, (..., 3, 3)."""
    return _shift_principal_point(intrinsics, 0.5)


def intrinsics_to_ros(intrinsics: Tensor) -> Tensor:
    """ROS's integer convention (image_geometry, OpenCV) from the centre one: -0.5 px, (..., 3, 3)."""
    return _shift_principal_point(intrinsics, -0.5)


def _shift_principal_point(intrinsics: Tensor, pixels: float) -> Tensor:
    check_intrinsics(intrinsics)
    shifted = intrinsics.clone()
    shifted[..., :2, 2] += pixels
    return shifted
