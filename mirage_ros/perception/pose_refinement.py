"""Small corrections of camera poses: decoded frames are aligned with the memory in depth and features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mirage_ros.geometry import Camera, invert, valid_depth
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.memory_depth import token_grid
from mirage_ros.perception.motions import exp_motion, log_motion
from mirage_ros.perception.normal_equations import MeasuredImage, remembered_points, shift_of
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DepthEstimator

# Images (T, 3, H, W) in 0..1 to features (T, C, h, w) as the memory holds them.
Encode = Callable[[Tensor], Tensor]

# Reads of the memory, and Gauss-Newton steps after each.
_READS = 2
_STEPS = 10
# Points that a frame must share with the memory.
MIN_POINTS = 60
# Least share by which the robust cost must fall for a correction to be taken.
MIN_GAIN = 0.02


@dataclass(frozen=True)
class RefineOptions:
    """How far and on what grounds a pose may be corrected.

    Attributes:
        max_translation: metres; a larger correction is refused.
        max_rotation: radians; likewise.
        prior_translation: metres by which given poses are believed to err.
        prior_rotation: radians, likewise. Directions that neither depth nor features tell stay as given.
        least_cells: corrections that move the remembered points by less (root mean square, cells of the latent grid)
            are not made: the cells cannot tell them from a right pose.
    """

    max_translation: float = 0.1
    max_rotation: float = math.radians(5)
    prior_translation: float = 0.05
    prior_rotation: float = math.radians(2.5)
    least_cells: float = 0.2

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: expected a positive number, got {value}")


@dataclass(frozen=True, eq=False)
class Refinement:
    """Corrected cameras.

    Attributes:
        camera: (T,) cameras; as given where the correction was refused.
        accepted: (T,) bool.
        gain: (T,) by which share the robust cost fell.
        translation: (T,) metres of the corrections found, whether taken or not.
        rotation: (T,) radians, likewise.
        points: (T,) int64 points that depth and memory share.
    """

    camera: Camera
    accepted: Tensor
    gain: Tensor
    translation: Tensor
    rotation: Tensor
    points: Tensor


@torch.no_grad()
def refine_cameras(
    depth: Tensor,
    camera: Camera,
    memory: LatentMemory,
    *,
    features: Tensor | None = None,
    options: RefineOptions | None = None,
) -> Refinement:
    """Align frames with the memory by Gauss-Newton steps on SE(3), all frames at once.

    A remembered point p, seen at pixel u with depth z, should be measured at its own depth, z / D(u) = 1, and there the
    frame should have its feature, F(u) = f. Errors are weighted by Tukey's function and scaled by their own robust
    deviations; a prior keeps the pose where the scene leaves a direction open.

    Args:
        depth: (T, H, W) metres, in the scale of the memory.
        camera: (T,) cameras at H x W.
        memory: only read.
        features: (T, C, h, w) encodings of the frames; without, depth alone is aligned.
        options: bounds and prior.

    Raises:
        ValueError: the features are not the memory's.
    """
    options = options or RefineOptions()
    count, height, width = depth.shape
    if features is not None and (features.shape[:2] != (count, memory.channels) or features.ndim != 4):
        raise ValueError(f"features: expected ({count}, {memory.channels}, h, w), got {tuple(features.shape)}")
    given = camera.to(dtype=torch.float64)
    given = given.at(given.cam2world.expand(count, 4, 4))
    inverse = torch.where(valid_depth(depth), 1 / depth.clamp(min=1e-6), torch.nan).double()
    rows, columns = token_grid(memory, height, width)
    side = max(2, round(height / rows))
    image = MeasuredImage(inverse, given, None if features is None else features.double(), side)
    current = given.cam2world
    prior = torch.tensor([options.prior_translation] * 3 + [options.prior_rotation] * 3, dtype=torch.float64)
    precision = prior.to(depth.device).square().reciprocal()
    target = remembered_points(memory, given.resized(rows, columns))
    for read in range(_READS):
        if read:
            target = remembered_points(memory, given.at(current).resized(rows, columns))
        for _ in range(_STEPS):
            system = image.system(target, current)
            offset = log_motion(invert(current) @ given.cam2world)
            # The prior pulls towards the given pose, by what is already moved away from it.
            hessian = system.hessian + torch.diag(precision)
            step = torch.linalg.solve(hessian, -(system.gradient - precision * offset).unsqueeze(-1)).squeeze(-1)
            step = torch.where((system.points >= MIN_POINTS).unsqueeze(-1), step, 0.0)
            current = invert(exp_motion(step) @ invert(current))
    first = image.system(target, given.cam2world)
    last = image.system(target, current, scale=first.scale)
    moved = log_motion(invert(current) @ given.cam2world)
    translation, rotation = moved[:, :3].norm(dim=-1), moved[:, 3:].norm(dim=-1)
    shift = shift_of(target, given.at(current).resized(rows, columns), given.resized(rows, columns))
    accepted = (
        (shift >= options.least_cells)
        & (last.points >= MIN_POINTS)
        & (translation <= options.max_translation)
        & (rotation <= options.max_rotation)
        & (last.cost < first.cost * (1 - MIN_GAIN))
    )
    poses = torch.where(accepted[:, None, None], current, given.cam2world).to(camera.cam2world.dtype)
    return Refinement(
        camera.at(poses), accepted, 1 - last.cost / first.cost.clamp(min=1e-9), translation, rotation, last.points
    )


class RefinedCamera:
    """Another estimator whose cameras are corrected by alignment with the memory.

    Args:
        estimator: gives depth in the scale of the memory.
        encode: makes features of the frames, which are then aligned as well.
        options: bounds and prior.
    """

    def __init__(
        self, estimator: DepthEstimator, encode: Encode | None = None, options: RefineOptions | None = None
    ) -> None:
        self.estimator, self.encode, self.options = estimator, encode, options or RefineOptions()

    @torch.no_grad()
    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Depth and corrected cameras; notes say where poses stayed as given because a correction was refused."""
        estimate = self.estimator.estimate(frames, memory)
        if not len(memory):
            return estimate
        features = None if self.encode is None else self.encode(frames.rgb).to(frames.rgb.device, torch.float32)
        found = refine_cameras(estimate.depth, estimate.camera, memory, features=features, options=self.options)
        far = (found.translation > self.options.max_translation) | (found.rotation > self.options.max_rotation)
        notes = estimate.notes
        if bool(far.any()):
            bound = f"{self.options.max_translation:g} m or {math.degrees(self.options.max_rotation):g} degrees"
            notes = (*notes, f"camera: {int(far.sum())} of {len(far)} corrections exceeded {bound} and were refused")
        few = found.points < MIN_POINTS
        if bool(few.any()):
            notes = (
                *notes,
                f"camera: {int(few.sum())} of {len(few)} frames share too little with the memory to refine",
            )
        return DepthEstimate(estimate.depth, found.camera, notes)
