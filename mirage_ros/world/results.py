"""What imagining gives, and how it is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.rgbd import ImaginedFrame

STAGES = ("read", "denoise", "decode", "perceive", "write")


class Cancelled(Exception):  # noqa: N818  (not an error: the caller asked for it)
    """The caller cancelled; the memory is as it was after the last finished chunk."""


@dataclass(frozen=True)
class Progress:
    """Where a rollout is.

    Attributes:
        stage: what has just been finished, one of `STAGES`.
        frames_done, frames_total: of finished chunks and of all, of all candidates.
        candidate: whose chunk; when several are denoised together, the first of them.
        chunk: index of the chunk.
        step, steps: denoising steps done in this chunk, and of a chunk.
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


@dataclass(frozen=True, eq=False, kw_only=True)
class ImaginedChunk(ImaginedFrame):
    """(T,) frames that became ready together, on the CPU. Those that it shares with the chunk before are left out.

    Depth is +inf where it is too far to tell, such as in the sky, and 0 where unknown; cameras are refined where
    perception refines; `coverage` is the share of the view that the memory knew before.

    Attributes:
        candidate: index of the trajectory.
        sample: which one of those that were drawn of the trajectory.
        chunk: index of the chunk.
        first: place of the first frame in the trajectory.
        report: what was written to the memory, or to the fork where nothing was to be remembered.
        seconds: wall time of each stage of `STAGES`. Candidates that were denoised together share it equally.
        notes: fallbacks of perception and their reasons.
    """

    candidate: int
    sample: int = 0
    chunk: int
    first: int
    report: WriteReport
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Preview(ImaginedFrame):
    """The readout alone, decoded: what the memory knows of (T,) views, at once and without invention.

    Colours are dark grey where nothing is known; depth is 0 there.

    Attributes:
        seconds: wall time of 'read' and 'decode'.
    """

    seconds: dict[str, float] = field(default_factory=dict)
