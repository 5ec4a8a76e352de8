"""What a model session is asked for, how that is filled in, and what it says of itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from torch import Tensor

from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.parameters import MAX_SEED
from mirage_ros.world.results import STAGES

# Seconds from now within which a path without stamps ends. tf2's buffers keep 10 s: what comes after a longer one would
# be too old for them.
WITHIN = 8.0


@dataclass(frozen=True, eq=False)
class ImagineRequest:
    """What is to be imagined.

    Attributes:
        poses: (T, 4, 4) optical cam2world of each candidate.
        remember: write to the memory; for a single candidate only.
        seed: of the noise.
        steps: denoising steps; 0 for the preset's.
        unseen: what is imagined where nothing was seen.
        samples: draws of each candidate; the spread of their depth is its uncertainty.
        prompt: text; None for the one set before.
        batch: candidates that are denoised together; 0 lets the model decide.
        first: view of the first pose of a single candidate, where it is known.
        stamps: nanoseconds of each frame of a single candidate.
    """

    poses: tuple[Tensor, ...]
    remember: bool = False
    seed: int = 0
    steps: int = 0
    unseen: str = "mean"
    samples: int = 1
    prompt: str | None = None
    batch: int = 0
    first: RgbdFrame | None = None
    stamps: Sequence[int] | None = None


@dataclass(frozen=True)
class Snapshot:
    """State of a session at one moment, for other threads.

    Attributes:
        elements, bytes, max_bytes, frames, observed_frames: of the memory.
        evicted: elements removed for the cap since the start.
        visibility: coverage of the last imagined frame; NaN before.
        written: time.monotonic of the last write; NaN before.
        seconds: per generated frame of the last chunk, by stage.
        stage: what has just been done, or 'idle'.
        changes: writes since the start.
        notes: fallbacks of perception in the last chunk.
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
    notes: tuple[str, ...] = ()


def draw_seed(seed: int) -> int:
    """The seed, or a drawn one for -1; a ValueError for what is neither."""
    if not -1 <= seed <= MAX_SEED:
        raise ValueError(f"seed: expected a whole number from -1 to {MAX_SEED}, got {seed}")
    return int(np.random.default_rng().integers(2**31)) if seed < 0 else seed


def frame_stamps(given: list[int], now: int, fps: float, name: str) -> list[int]:
    """Stamps of frames in nanoseconds: the given ones where they increase, else from now on.

    Those have the model's rate, or a faster one where they would not end `WITHIN` seconds.

    Planners give all poses of a path one stamp, none at all, or one to the goal alone; those say nothing of when a pose
    is to be reached.

    Raises:
        ValueError: some are earlier than those before them.
    """
    known = [stamp for stamp in given if stamp]
    if any(later < earlier for earlier, later in pairwise(known)):
        raise ValueError(f"{name}.poses: expected stamps that increase, equal ones, or none")
    if len(known) == len(given) and all(later > earlier for earlier, later in pairwise(known)):
        return given
    step = min(1 / fps, WITHIN / len(given)) * 1e9
    return [now + round(index * step) for index in range(len(given))]
