"""What imagining gives, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.memory.write_rules import WriteReport

STAGES = ("read", "denoise", "decode", "perceive", "write")


class Cancelled(Exception):  # noqa: N818  (not an error: the caller asked for it)
    """The caller cancelled; the memory is as it was after the last finished chunk."""


@dataclass(frozen=True)
class Progress:
    """Where a rollout is.

    Attributes:
        stage: what has just been finished, one of `STAGES`.
        frames_done: frames of finished chunks, of all candidates.
        frames_total: frames of all candidates.
        candidate: whose chunk; when several are denoised together, the first of them.
        chunk: index of the chunk.
        step: denoising steps done in this chunk.
        steps: denoising steps of a chunk.
    """

    stage: str
    frames_done: int
    frames_total: int
    candidate: int
    chunk: int
    step: int
    steps: int


OnProgress = Callable[[Progress], None]
# Asked between denoising steps and between stages; true stops the rollout.
Cancel = Callable[[], bool]


@dataclass(frozen=True, eq=False)
class ImaginedChunk:
    """Frames that became ready together. Frames that a chunk shares with the one before are given once only.

    Attributes:
        candidate: index of the trajectory.
        chunk: index of the chunk.
        first: place of the first frame in the trajectory.
        rgb: (T, H, W, 3) uint8.
        depth: (T, H, W) float32 metres along the optical axis, +inf where it is too far to tell, such as in the sky
            (REP-118), 0 where unknown.
        visible: (T, H, W) float32, 0 where invented, 1 where the memory shows something: what a camera saw, or what was
            invented for an earlier chunk.
        coverage: (T,) float32 share of the view that the memory knew before.
        camera: (T,) cameras at H x W on the CPU, refined where perception refines.
        report: what was written; empty if nothing was to be remembered.
        seconds: wall time of each stage of `STAGES`. Candidates that were denoised together share it equally.
        notes: fallbacks of perception and their reasons.
    """

    candidate: int
    chunk: int
    first: int
    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    visible: NDArray[np.float32]
    coverage: NDArray[np.float32]
    camera: Camera
    report: WriteReport
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rgb)


@dataclass(frozen=True, eq=False)
class Preview:
    """The readout alone, decoded: what the memory knows of views, at once and without invention.

    Attributes:
        rgb: (T, H, W, 3) uint8, dark grey where nothing is known.
        depth: (T, H, W) float32 metres, 0 where unknown.
        visible: (T, H, W) float32, 0 or 1.
        coverage: (T,) float32.
        camera: (T,) cameras at H x W on the CPU.
        seconds: wall time of 'read' and 'decode'.
    """

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    visible: NDArray[np.float32]
    coverage: NDArray[np.float32]
    camera: Camera
    seconds: dict[str, float] = field(default_factory=dict)
