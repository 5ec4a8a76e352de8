"""Rays of cameras in a grid of voxels, and the two things that are done with them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.zbuffer import cpu
from mirage_ros.occupancy import reference

# Metres: nearer than this nothing is said, and so far before its surface every ray is followed.
NEAR, LEAD = 0.05, 0.1
# A ray of which less is left is not followed any further.
LEAST = 0.05
# Probability that a voxel of which nothing is known is occupied.
PRIOR = 0.1


@dataclass(frozen=True, eq=False)
class VoxelRays:
    """Rays of F cameras, R each.

    Attributes:
        origins: (F, 3) float32 voxels: column, row, layer.
        directions: (F, R, 3) float32 voxels for each metre of depth.
        near: (R) float32 metres of depth from which on a ray is needed: where it is close to others, some are enough.
    """

    origins: Tensor
    directions: Tensor
    near: Tensor

    @staticmethod
    def of(camera: Camera, corner: Tensor, voxel: Tensor) -> VoxelRays:
        """Rays through the pixels of (F,) cameras.

        Args:
            camera: with poses in the world frame, whose z axis is up.
            corner: (3,) float64 world metres of the grid's low corner.
            voxel: (3,) float64 metres of a voxel's sides.
        """
        camera = camera.to("cpu", torch.float64)
        directions = camera.rays().reshape(len(camera), -1, 3) / voxel
        origins = (camera.cam2world.expand(len(camera), 4, 4)[:, :3, 3] - corner) / voxel
        # Where pixels so many rows or columns apart are a voxel apart.
        column, row = (float(camera.intrinsics.reshape(-1, 3, 3)[0, a, a] * voxel[2 * a]) for a in (0, 1))
        near = torch.full((camera.height, camera.width), NEAR)
        for step in (4, 2):
            for lines, apart in ((near, row), (near.mT, column)):
                needed = torch.arange(len(lines)) % step != 0
                lines[needed] = lines[needed].clamp(min=apart / step)
        return VoxelRays(origins.float().contiguous(), directions.float().contiguous(), near.flatten())


class _Rays(ctypes.Structure):
    """`Rays` of raycast.c."""

    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in (
                "voxels",
                "origins",
                "directions",
                "near",
                "depth",
                "spread",
                "normal",
                "evidence",
                "passing",
                "seen",
            )
        ),
        *((name, ctypes.c_int64) for name in ("frames", "rays")),
        ("size", ctypes.c_int32 * 3),
        *((name, ctypes.c_float) for name in ("far_plane", "least", "prior", "thickness")),
    )


def normal_table() -> Tensor:
    """(2 ENDS FINENESS + 1) float32 normal distribution, 0 at its one end and 1 at the other."""
    table = torch.special.ndtr(
        torch.linspace(-reference.ENDS, reference.ENDS, 2 * reference.ENDS * reference.FINENESS + 1)
    )
    table[0], table[-1] = 0, 1
    return table.float()


NORMAL = normal_table()


def cast(
    voxels: Tensor,
    rays: VoxelRays,
    depth: Tensor,
    spread: Tensor,
    evidence: Tensor,
    reach: float,
    thickness: float = 0.0,
) -> None:
    """Note in a grid what depth images say of its voxels: of all rays the strongest evidence, occupied before free.

    A voxel on a ray is occupied with the probability that the surface, or so much behind it, is in it; behind that it
    is as any other.

    Args:
        voxels: (layers, rows, columns) int8 log-odds, changed in place; 0 where nothing is said.
        rays: F x R.
        depth: (F, R) float32 metres, +inf where there is nothing as far as the rays reach; others say nothing.
        spread: (F, R) float32 metres, standard deviation of depth; rays where it is not positive say nothing.
        evidence: (256) int8 log-odds of the probabilities 0 to 1, against those of `PRIOR`.
        reach: metres of depth.
        thickness: metres of depth that what has a surface goes on behind it.
    """
    depth, spread = depth.float().contiguous(), spread.float().contiguous()
    endless = depth == math.inf
    # Beyond its reach a ray says nothing, so any larger depth will do.
    depth, spread = torch.where(endless, 2 * reach, depth), torch.where(endless, 0.1 * reach, spread)
    near = torch.minimum(rays.near, (depth - LEAD).clamp(min=NEAR))
    given = {"near": near, "depth": depth, "spread": spread, "normal": NORMAL, "evidence": evidence}
    if not _compiled("mirage_occupancy_cast", voxels, rays, reach, thickness, **given):
        reference.cast(voxels, rays.origins, rays.directions, far=reach, prior=PRIOR, thickness=thickness, **given)


def look(voxels: Tensor, rays: VoxelRays, depth: Tensor, passing: Tensor, reach: float) -> Tensor:
    """How much of some ray of some camera comes to each column of a grid.

    Args:
        voxels: (layers, rows, columns) int8 log-odds.
        rays: F x R.
        depth: (F, R) float32 metres at which each ray ends at the latest.
        passing: (256) float32 share of a ray that passes a voxel of the log-odds -128 to 127.
        reach: metres of depth.

    Returns:
        (rows, columns) float32 from 0 to 1.
    """
    seen = torch.zeros(voxels.shape[1:])
    depth = depth.float().contiguous()
    given = {"near": torch.full_like(depth, NEAR), "depth": depth, "passing": passing, "seen": seen}
    if not _compiled("mirage_occupancy_look", voxels, rays, reach, 0.0, **given):
        reference.look(voxels, rays.origins, rays.directions, far=reach, least=LEAST, **given)
    return seen


def _compiled(name: str, voxels: Tensor, rays: VoxelRays, reach: float, thickness: float, **tensors: Tensor) -> bool:
    """Call a function of the compiled library, if there is one."""
    library = cpu.library()
    if library is None:
        return False
    tensors |= {"voxels": voxels, "origins": rays.origins, "directions": rays.directions}
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    frames, count = rays.directions.shape[:2]
    layers, rows, columns = voxels.shape
    work = _Rays(
        **{key: tensor.data_ptr() for key, tensor in tensors.items()},
        frames=frames,
        rays=count,
        size=(columns, rows, layers),
        far_plane=reach,
        least=LEAST,
        prior=PRIOR,
        thickness=thickness,
    )
    function: Callable[..., None] = getattr(library, name)
    function(ctypes.byref(work))
    return True
