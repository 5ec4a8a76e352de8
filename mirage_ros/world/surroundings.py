"""Occupancy that is kept in step with a memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import IMAGINATION, OBSERVATION, FrameRecord
from mirage_ros.occupancy.grid import RAYS, GridShape, OccupancyMap
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame
from mirage_ros.world.doubt import DepthDoubt

# Newest source frames out of which a map is made anew, and how many are taken together.
FRAMES, BATCH = 256, 16
# Of imagined ones fewer: they are taken one by one, while previews wait.
IMAGINED_FRAMES = 32


class Surroundings(OccupancyMap):
    """A map of what a memory's cameras saw, and of what was imagined beside it.

    Frames are added as they are written. When source frames moved or another memory was loaded, and for places to
    which the map goes back, it is made out of what the memory keeps of each: the way from the camera to its elements is
    free. Of imagined frames that is what they invented and the memory took; not the sky, nor what was not remembered.

    Attributes:
        stands: (3,) float64 metres, where the newest camera is.
    """

    def __init__(self, shape: GridShape, memory: LatentMemory, doubt: DepthDoubt | None = None) -> None:
        """An empty map; how sure invented depth was the memory does not keep, so that `doubt` tells."""
        super().__init__(shape)
        self._memory, self._doubt = memory, doubt or DepthDoubt()
        self.stands = torch.zeros(3, dtype=torch.float64)

    def saw(self, frame: RgbdFrame) -> None:
        """A frame was written to the memory; where it had no depth of its own, the memory's counts."""
        camera = Camera.stacked([frame.camera])
        self.stands = camera.cam2world[0, :3, 3].double().cpu()
        moved = self.placed
        moved &= self.centre_on(self.stands)
        if frame.depth is not None:
            depth = torch.from_numpy(np.where(frame.depth > 0, frame.depth, 0).astype(np.float32))[None]
            self.observe(depth, camera)
        if moved or frame.depth is None:
            # What older frames show is in the map already, unless that is of another place now.
            self._fill_observed(FRAMES if moved else 1)
        if moved:
            self._fill_imagined()

    def imagined_frames(self, frames: ImaginedFrame) -> None:
        """Note (T,) imagined frames; every other one, the last among them, as neighbours show much the same."""
        frames = frames[len(frames) % 2 == 0 :: 2]
        assert frames.uncertainty is not None
        depth, uncertainty, visible = map(torch.from_numpy, (frames.depth, frames.uncertainty, frames.visible))
        self.imagine(depth, uncertainty, visible, frames.camera)

    def renew(self) -> None:
        """Make the map out of the memory as it is now."""
        self.clear()
        frames = self._memory.frames()
        seen = [frame for frame in frames if frame.kind == OBSERVATION] or frames
        if seen:
            self.stands = seen[-1].camera.cam2world[:3, 3].double().cpu()
            self.centre_on(self.stands)
        self._fill_observed()
        self._fill_imagined()

    def _fill_observed(self, newest: int = FRAMES) -> None:
        frames = [frame for frame in self._memory.frames() if frame.kind == OBSERVATION][-newest:]
        for depth, views in self._views(frames, BATCH):
            self.fill(depth, views)

    def _fill_imagined(self) -> None:
        """Note imagined frames that stand on the map, so that what was imagined elsewhere since takes no place."""
        frames = [frame for frame in self._memory.frames() if frame.kind == IMAGINATION and self._holds(frame.camera)]
        # The first to tell of a place is believed: the newest. Those of a batch would be one.
        for depth, views in self._views(frames[: -IMAGINED_FRAMES - 1 : -1], 1):
            metres = depth.nan_to_num(0.0).numpy()
            doubt = torch.from_numpy(self._doubt.uncertainty(metres, np.zeros_like(metres)))
            # As what is read of the memory: it changes nothing that is on the map.
            self.imagine(depth, doubt, torch.ones_like(depth), views)

    def _views(self, frames: Sequence[FrameRecord], batch: int) -> Iterator[tuple[Tensor, Camera]]:
        """Depth (B, h, w) of what the memory keeps of frames, so many at a time, and their cameras, on the CPU."""
        # Frames of another size, as of an older model's memory, would not fit beside the newest.
        newest = max(frames, key=lambda frame: frame.id, default=None)
        ids = [frame.id for frame in frames if newest is not None and frame.camera.width == newest.camera.width]
        for begin in range(0, len(ids), batch):
            grids = self._memory.frame_grids(ids[begin : begin + batch])
            # Depth is as fine as the memory keeps it; rays are to leave no gap.
            fine = self._memory.patch or 1
            depth, each = grids.fine_depth(fine).cpu(), -(-RAYS // (grids.camera.width * fine))
            views = grids.camera.resized(grids.camera.height * fine * each, grids.camera.width * fine * each)
            yield depth.repeat_interleave(each, dim=1).repeat_interleave(each, dim=2), views.to("cpu")

    def _holds(self, camera: Camera) -> bool:
        place = camera.cam2world[:2, 3].double().cpu() - self.corner
        return bool(((place >= 0) & (place <= self.shape.extent)).all())
