"""Which frames are denoised together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Frames of one chunk, [start, stop) of the trajectory.

    Attributes:
        start: first frame; in every chunk but the first it is the last frame of the chunk before.
        stop: one past the last frame.
        index: of the chunk.
    """

    start: int
    stop: int
    index: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def overlap(self) -> int:
        """Frames that the chunk before has given already."""
        return 1 if self.index else 0


def plan_chunks(frames: int, chunk_frames: int, time_stride: int = 1) -> list[Span]:
    """Cut a trajectory into chunks: n frames, then n - 1 new ones each time, the last as short as need be.

    Args:
        frames: of the trajectory.
        chunk_frames: n, time stride x N + 1.
        time_stride: frames for each latent frame but the first.

    Raises:
        ValueError: the number of frames is not time stride x N + 1, or a chunk has no new frame.
    """
    for name, value in (("trajectory", frames), ("chunk_frames", chunk_frames)):
        if value < 1 or (value - 1) % time_stride:
            near = ", ".join(str(length) for length in _near(value, time_stride))
            raise ValueError(f"{name}: expected {time_stride}N+1 frames such as {near}, got {value}")
    if chunk_frames < 2:
        raise ValueError(f"chunk_frames: expected at least {1 + time_stride}, got {chunk_frames}")
    spans = [Span(0, min(frames, chunk_frames), 0)]
    while spans[-1].stop < frames:
        start = spans[-1].stop - 1
        spans.append(Span(start, min(frames, start + chunk_frames), len(spans)))
    return spans


def _near(frames: int, time_stride: int) -> list[int]:
    below = max(0, frames - 1) // time_stride * time_stride + 1
    return [below, below + time_stride]
