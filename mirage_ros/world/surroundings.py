"""Occupancy that is kept in step with a memory."""

from __future__ import annotations

import numpy as np
import torch

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import IMAGINATION, OBSERVATION
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
            self._fill(OBSERVATION, FRAMES if moved else 1)
        if moved:
            self._fill(IMAGINATION)

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
        self._fill(OBSERVATION)
        self._fill(IMAGINATION)

    def _fill(self, kind: str, newest: int = FRAMES) -> None:
        frames = [frame for frame in self._memory.frames() if frame.kind == kind]
        if kind == IMAGINATION:
            # Those that stand on the map, so that what was imagined elsewhere since does not take their place.
            frames, newest = [frame for frame in frames if self._holds(frame.camera)], IMAGINED_FRAMES
        frames = frames[-newest:]
        # Frames of another size, as of an older model's memory, would not fit beside the newest.
        ids = [frame.id for frame in frames if frame.camera.width == frames[-1].camera.width]
        batch = BATCH
        if kind == IMAGINATION:
            # The first to tell of a place is believed: of what was imagined the newest. Those of a batch are one.
            ids, batch = ids[::-1], 1
        for begin in range(0, len(ids), batch):
            grids = self._memory.frame_grids(ids[begin : begin + batch])
            # Depth is as fine as the memory keeps it; rays are to leave no gap.
            fine = self._memory.patch or 1
            depth, each = grids.fine_depth(fine).cpu(), -(-RAYS // (grids.camera.width * fine))
            views = grids.camera.resized(grids.camera.height * fine * each, grids.camera.width * fine * each).to("cpu")
            depth = depth.repeat_interleave(each, dim=1).repeat_interleave(each, dim=2)
            if kind == OBSERVATION:
                self.fill(depth, views)
            else:
                metres = depth.nan_to_num(0.0).numpy()
                doubt = torch.from_numpy(self._doubt.uncertainty(metres, np.zeros_like(metres)))
                # As what is read of the memory: it changes nothing that is on the map.
                self.imagine(depth, doubt, torch.ones_like(depth), views)

    def _holds(self, camera: Camera) -> bool:
        place = camera.cam2world[:2, 3].double().cpu() - self.corner
        return bool(((place >= 0) & (place <= self.shape.extent)).all())
