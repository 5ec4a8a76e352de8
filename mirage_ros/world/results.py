"""Chunks: which frames each has, what imagining gives of it, and how that is stopped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

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


@dataclass(frozen=True)
class Span:
    """Frames of one chunk, [start, stop) of the trajectory.

    Attributes:
        start: first frame; in every chunk but the first it is the last frame of the chunk before.
        stop: one past the last frame.
        index: of the chunk.
        places: frames that the latent frames stand for, whose cameras they take.
        time_stride: frames that come out of each latent frame but the first; 1 where each stands for one frame.
        overlap: frames at the beginning that were imagined before.
    """

    start: int
    stop: int
    index: int
    places: tuple[int, ...]
    time_stride: int = 1
    overlap: int = 0

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def decoded(self) -> tuple[int, ...]:
        """Frames that decoding the latent frames gives, in order."""
        return self.places if self.time_stride == 1 else tuple(range(self.start, self.stop))

    @property
    def imagined(self) -> tuple[int, ...]:
        """Those of them that were not imagined before."""
        return self.decoded[self.overlap :]

    @property
    def between(self) -> tuple[int, ...]:
        """Frames between the keyframes, which are read once the memory holds those."""
        return tuple(frame for frame in range(self.start, self.stop) if frame not in self.decoded)

    def with_keyframe(self, frame: int) -> Span:
        """The same chunk with another keyframe, its first frame known."""
        return replace(self, places=(self.start, frame), overlap=1)


def plan_chunks(frames: int, chunk_frames: int, time_stride: int = 1, keyframe_stride: int = 1) -> list[Span]:
    """Cut a trajectory into chunks: n frames, then n - 1 new ones each time, the last as short as need be.

    Args:
        frames: of the trajectory.
        chunk_frames: n, time stride x N + 1. With keyframes a chunk ends at the next one whatever this is.
        time_stride: frames for each latent frame but the first.
        keyframe_stride: every so many-th frame is imagined and those between are read; 1 to imagine all. Only where
            latent frames stand for one frame each.

    Raises:
        ValueError: the number of frames is not time stride x N + 1, or a chunk has no new frame.
    """
    if keyframe_stride > 1:
        if time_stride > 1:
            raise ValueError(f"keyframe_stride: expected 1 with a time stride of {time_stride}, got {keyframe_stride}")
        chunk_frames = keyframe_stride + 1
    for name, value in (("trajectory", frames), ("chunk_frames", chunk_frames)):
        if value < 1 or (value - 1) % time_stride:
            near = ", ".join(str(length) for length in _near(value, time_stride))
            raise ValueError(f"{name}: expected {time_stride}N+1 frames such as {near}, got {value}")
    if chunk_frames < 2:
        raise ValueError(f"chunk_frames: expected at least {1 + time_stride}, got {chunk_frames}")
    spans: list[Span] = []
    while not spans or spans[-1].stop < frames:
        start = spans[-1].stop - 1 if spans else 0
        stop = min(frames, start + chunk_frames)
        places = range(start, stop, time_stride if keyframe_stride == 1 else max(1, stop - 1 - start))
        spans.append(Span(start, stop, len(spans), tuple(places), time_stride, min(len(spans), 1)))
    return spans


def _near(frames: int, time_stride: int) -> list[int]:
    below = max(0, frames - 1) // time_stride * time_stride + 1
    return [below, below + time_stride]
