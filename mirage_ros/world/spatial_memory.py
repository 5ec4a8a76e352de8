"""What the world model asks of a memory: the latent memory, and the caches that it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor
from typing_extensions import Self

from mirage_ros.geometry import Camera
from mirage_ros.memory.frame_grids import FrameGrids
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import WriteReport


class SourceFrames(Protocol):
    """The frames that a readout's `source` names, which a reader can unfold."""

    def frame_grids(self, frames: Sequence[int] | None = None) -> FrameGrids:
        """Latents of frames, by their ids, put back on their grids."""
        ...

    def was_imagined(self, frame: int) -> bool:
        """Whether a frame was imagined, by its id."""
        ...


class SpatialMemory(Protocol):
    """Something that is written with posed frames and read by cameras."""

    @property
    def colour(self) -> bool:
        """Whether `write` takes colours."""
        ...

    @property
    def nbytes(self) -> int:
        """Bytes of its buffers."""
        ...

    @property
    def sources(self) -> SourceFrames | None:
        """The frames that its readouts name.

        A memory without is read whole, and judges by itself what of a frame it holds already.
        """
        ...

    def __len__(self) -> int: ...

    def read(self, camera: Camera, rule: str = "nearest", *, observed_first: bool = False) -> Readout:
        """What (T,) cameras at latent resolution see; see `LatentMemory.read`. A cache may have a rule of its own."""
        ...

    def write(
        self,
        latents: Tensor,
        depth: Tensor,
        camera: Camera,
        keep: Tensor | None = None,
        frame: Sequence[SourceFrame] | None = None,
        *,
        copied: Tensor | None = None,
        colour: Tensor | None = None,
    ) -> WriteReport:
        """Write frames, all or nothing; see `LatentMemory.write`."""
        ...

    def fork(self) -> Self:
        """A memory with the same content that goes its own way."""
        ...

    def holds_view(self, camera: Camera) -> bool:
        """Whether a frame with this camera, single, at latent resolution, was written."""
        ...

    def cameras_near(self, place: Tensor, count: int) -> Camera | None:
        """(F,) cameras of at most `count` observed frames nearest to a place (3,); None where nothing was written."""
        ...
