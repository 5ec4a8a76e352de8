"""Occupancy that is kept in step with a memory."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.occupancy.grid import RAYS, GridShape, OccupancyMap
from mirage_ros.rgbd import ImaginedFrame, RgbdFrame

# Newest source frames out of which a map is made anew, and how many are read together.
FRAMES, BATCH = 256, 16


class Surroundings(OccupancyMap):
    """A map of what a memory's cameras saw, and of what was imagined beside it.

    Frames are added as they are written. When source frames moved or another memory was loaded, and for places to
    which the map goes back, it is made out of views of the memory from the places of its source frames.

    Attributes:
        stands: (3,) float64 metres, where the newest camera is.
    """

    def __init__(self, shape: GridShape, memory: LatentMemory) -> None:
        super().__init__(shape)
        self._memory = memory
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
            self._fill()

    def imagined_frames(self, frames: ImaginedFrame) -> None:
        """Note (T,) imagined frames; every other one, the last among them, as neighbours show much the same."""
        frames = frames[len(frames) % 2 == 0 :: 2]
        assert frames.uncertainty is not None
        depth, uncertainty, visible = map(torch.from_numpy, (frames.depth, frames.uncertainty, frames.visible))
        self.imagine(depth, uncertainty, visible, frames.camera)

    def renew(self) -> None:
        """Make the map out of the memory as it is now; what was imagined is forgotten."""
        self.clear()
        observed = [frame for frame in self._memory.frames() if frame.kind == "observation"]
        if observed:
            self.stands = observed[-1].camera.cam2world[:3, 3]
            self.centre_on(self.stands)
            self._fill()

    def _fill(self) -> None:
        records = [frame for frame in self._memory.frames() if frame.kind == "observation"][-FRAMES:]
        for begin in range(0, len(records), BATCH):
            cameras = Camera.stacked([record.camera for record in records[begin : begin + BATCH]])
            # Several rays for each cell of the memory.
            fineness = -(-RAYS // cameras.width)
            views = cameras.resized(cameras.height * fineness, cameras.width * fineness)
            self.fill(self._observed_depth(views), views)

    @torch.no_grad()
    def _observed_depth(self, views: Camera) -> Tensor:
        """(F, H, W) metres, what the memory shows of observed frames; 0 elsewhere."""
        memory = self._memory
        readout = memory.read(views.to(memory.device, torch.float64), observed_first=True)
        imagined = [frame.id for frame in memory.frames() if frame.kind == "imagination"]
        guessed = torch.isin(readout.source, torch.tensor(imagined, dtype=torch.int64, device=memory.device))
        return torch.where(guessed, 0.0, readout.depth).squeeze(1).cpu()
