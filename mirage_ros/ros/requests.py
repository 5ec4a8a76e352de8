"""What the engine is made with, is asked for, and says of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.world.results import STAGES


@dataclass(frozen=True)
class Settings:
    """What the engine is made with; the node's parameters of the same names say what they mean.

    `observed_depth` names the estimator for camera frames without depth, and is empty where depth is measured.
    """

    preset: str = "default"
    weights: str = ""
    random_weights: bool = False
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 0
    max_bytes: int = 512 << 20
    vertical_fov: float = 0.9
    depth_estimator: str = "auto"
    observed_depth: str = ""
    observed_depth_weights: str = ""
    dynamic_filter: str = "none"


@dataclass(frozen=True, eq=False)
class Observation:
    """A real camera frame.

    Attributes:
        rgb: (H, W, 3) uint8.
        depth: (H, W) float32 metres, +inf where too far to measure, 0 where unknown; None to have it estimated.
        camera: single, of the image.
        stamp: nanoseconds.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32] | None
    camera: Camera
    stamp: int


@dataclass(frozen=True, eq=False)
class Rollout:
    """What is to be imagined.

    Attributes:
        poses: (T, 4, 4) optical cam2world of each candidate.
        remember: write to the memory; for a single candidate only.
        seed: of the noise.
        steps: denoising steps; 0 for the preset's.
        prompt: text; None for the one set before.
        batch: candidates that are denoised together; 0 lets the model decide.
        first: (H, W, 3) image of the first pose of a single candidate, where it is known.
        first_depth: (H, W) metres of it, +inf where too far to tell, 0 where unknown.
        stamps: nanoseconds of each frame of a single candidate.
    """

    poses: tuple[Tensor, ...]
    remember: bool = False
    seed: int = 0
    steps: int = 0
    prompt: str | None = None
    batch: int = 0
    first: NDArray[np.uint8] | None = None
    first_depth: NDArray[np.float32] | None = None
    stamps: Sequence[int] | None = None


@dataclass(frozen=True)
class Snapshot:
    """State of the engine at one moment, for other threads.

    Attributes:
        elements, bytes, max_bytes, frames, observed_frames: of the memory.
        evicted: elements removed for the cap since the start.
        visibility: coverage of the last imagined frame; NaN before.
        written: time.monotonic of the last write; NaN before.
        seconds: per generated frame of the last chunk, by stage.
        stage: what has just been done, or 'idle'.
        changes: writes since the start.
    """

    elements: int = 0
    bytes: int = 0
    max_bytes: int = 0
    frames: int = 0
    observed_frames: int = 0
    evicted: int = 0
    visibility: float = math.nan
    written: float = math.nan
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, math.nan))
    stage: str = "idle"
    changes: int = 0
