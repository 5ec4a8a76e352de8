"""Past frames that serve as references: those that saw what the targets will see."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.images import fit_nearest
from mirage_ros.visibility import sees
from mirage_ros.world.reading import Reading

# A reference must add at least this share of what the memory shows of the targets.
MIN_OVERLAP = 0.04
# Two depths within this share are the same surface.
TOLERANCE = 0.05
# Exemplars that are remembered to have been drawn: those of the last hundred or so.
MOST_DRAWN = 300


@dataclass(frozen=True, eq=False)
class PastFrame:
    """A finished latent frame.

    Attributes:
        latents: (C, h, w) as the transformer takes them, with depth channels where the preset has them.
        depth: (h, w) metres, NaN where unknown.
        camera: single, at latent resolution.
    """

    latents: Tensor
    depth: Tensor
    camera: Camera

    @classmethod
    def of(cls, latents: Tensor, depth: Tensor, camera: Camera) -> PastFrame:
        """A frame from latents (C, h, w), depth (H, W) and its camera, both of any resolution."""
        rows, columns = latents.shape[-2:]
        # The sample at the cell's centre: a mean across an edge would stand in the air.
        cells = fit_nearest(depth, rows, columns)
        return cls(latents, torch.where(valid_depth(cells), cells, torch.nan), camera.resized(rows, columns))


class History:
    """The last frames that were observed or imagined, and what was drawn for them; the oldest go first.

    Args:
        limit: how many are kept.

    Attributes:
        drawn: places of exemplars that are not to be drawn again: a thing stands in one place.
    """

    def __init__(self, limit: int = 64) -> None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 0:
            raise ValueError(f"limit: expected a number of frames from 0, got {limit!r}")
        self._frames: deque[PastFrame] = deque(maxlen=limit)
        self.drawn: deque[int] = deque(maxlen=MOST_DRAWN)

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frame: PastFrame) -> None:
        """Append a frame."""
        self._frames.append(frame)

    def fork(self) -> History:
        """A history with the same frames that goes its own way."""
        other = History(self._frames.maxlen or 0)
        other._frames.extend(self._frames)
        other.drawn.extend(self.drawn)
        return other

    def note_drawn(self, places: Collection[int], count: int) -> None:
        """Bar exemplars, out of so many, and their neighbours, of which most are views of the same scene."""
        for place in sorted(places):
            self.drawn.extend(near for near in (place - 1, place, place + 1) if 0 <= near < count)

    def move(self, moved: Callable[[Tensor], Tensor]) -> None:
        """Give the frames new cameras; `moved` makes the new (4, 4) pose of an old one."""
        frames = [replace(frame, camera=frame.camera.at(moved(frame.camera.cam2world))) for frame in self._frames]
        self._frames = deque(frames, maxlen=self._frames.maxlen)

    def references(self, points: Tensor, count: int, exclude: Collection[PastFrame] = ()) -> list[PastFrame]:
        """Choose frames that saw given places, each the one that adds most to those before.

        The public Mirage code compares voxel sets of what targets and past frames see; here past frames are asked
        directly, with their own depth, whether they see the very points that the memory shows to the targets.

        Args:
            points: (M, 3) world places that the memory shows in the target views; NaN where it shows nothing.
            count: how many at most.
            exclude: frames that are context already.

        Returns:
            the chosen frames, best first; fewer than `count` where no other adds `MIN_OVERLAP` of the points.
        """
        out = {id(frame) for frame in exclude}
        frames = [frame for frame in self._frames if id(frame) not in out]
        if not frames or count < 1:
            return []
        cameras = Camera.stacked([frame.camera for frame in frames])
        seen = sees(cameras, torch.stack([frame.depth for frame in frames]), points, TOLERANCE)
        least = MIN_OVERLAP * points.isfinite().all(dim=-1).sum()
        chosen: list[PastFrame] = []
        open_points = torch.ones_like(seen[0])
        for _ in range(min(count, len(frames))):
            gain = (seen & open_points).sum(dim=1)
            best = int(gain.argmax())
            if gain[best] == 0 or gain[best] < least:
                break
            chosen.append(frames[best])
            open_points &= ~seen[best]
        return chosen


@dataclass(frozen=True, eq=False)
class Tail:
    """The end of the last chunk, context of the next.

    Attributes:
        preceding: (C, P, h, w) latent frames before the last one, oldest first.
        reading: of those, as it was when they were imagined.
        past: the same frames and the last one in the history, which are not to be references as well.
    """

    preceding: Tensor
    reading: Reading | None
    past: tuple[PastFrame, ...]
