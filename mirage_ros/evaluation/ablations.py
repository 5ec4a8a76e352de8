"""Caches and depths that leave something out or spoil it: what each part of the system is worth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.evaluation.cases import Case
from mirage_ros.geometry import Camera
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.memory_depth import MemoryDepth
from mirage_ros.perception.pipeline import JointDepth, NoFilter, Perception, SensorDepth
from mirage_ros.world.model import WorldModel

# Depth error of `noisy_depth`: standard deviation as a share of depth, half of its variance smooth over the image.
NOISE = 0.05


class TokenMemory:
    """A latent memory whose tokens are read whole, at the resolution of the latents or at that of pixels.

    The paper's memory holds a token for each latent cell. Its ablation 'pixel-resolution lifting' brings the latents to
    the size of the image first and makes an element of every pixel.

    Args:
        world: the model.
        pixels: lift at the resolution of the depth.

    Attributes:
        first_camera: of the first frame that was written, None before.
    """

    def __init__(self, world: WorldModel, *, pixels: bool) -> None:
        self._memory = LatentMemory(world.parts.autoencoder.channels, world.device, torch.int8)
        self._pixels = pixels
        self.first_camera: Camera | None = None

    def __len__(self) -> int:
        return len(self._memory)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._memory.nbytes

    def write(self, latents: Tensor, depth: Tensor, camera: Camera, keep: Tensor | None = None) -> WriteReport:
        """Write frames.

        Args:
            latents: (T, C, h, w).
            depth: (T, H, W) metres.
            camera: T cameras.
            keep: (T, H, W) bool, false on what must not be remembered.

        Raises:
            ValueError: an argument does not fit, or depth that is lifted pixel by pixel exceeds 256 rows or columns.
        """
        if self._pixels:
            latents = F.interpolate(latents.float(), size=depth.shape[-2:], mode="bilinear", align_corners=False)
        report = self._memory.write(latents, depth, camera, keep)
        if self.first_camera is None and len(latents):
            self.first_camera = camera[0]
        return report

    def read(self, camera: Camera) -> Readout:
        """Readout of (T,) cameras at latent resolution, the nearest element of each cell."""
        return self._memory.read(camera, "nearest")

    def fork(self) -> TokenMemory:
        """The same content, which goes its own way."""
        twin = object.__new__(TokenMemory)
        twin._memory, twin._pixels, twin.first_camera = self._memory.fork(), self._pixels, self.first_camera
        return twin


def true_depth(world: WorldModel, case: Case) -> Perception:
    """Perception that is given the true depth of every frame."""
    return Perception(SensorDepth(torch.from_numpy(case.clip.depth)), NoFilter())


def memory_depth(world: WorldModel, case: Case) -> Perception:
    """Perception that takes depth from what is remembered; new places stay without."""
    return Perception(MemoryDepth(), NoFilter())


def noisy_depth(world: WorldModel, case: Case) -> Perception:
    """Perception that is given the true depth of every frame with an error of `NOISE`, the same in every run."""
    depth = case.clip.depth
    generator = np.random.default_rng(len(depth))
    rough = generator.standard_normal(depth.shape, dtype=np.float32)
    bumps = torch.from_numpy(generator.standard_normal((len(depth), 1, 8, 8), dtype=np.float32))
    smooth = F.interpolate(bumps, depth.shape[1:], mode="bicubic").squeeze(1).numpy()
    factor = 1 + NOISE * (rough + smooth / smooth.std()) / np.sqrt(2)
    return Perception(SensorDepth(torch.from_numpy((depth * factor).astype(np.float32))), NoFilter())


def geometric_filter(world: WorldModel, case: Case) -> Perception:
    """Perception with the model's own depth, that keeps what moves in imagined frames out of the memory.

    Raises:
        ValueError: the preset has no depth of its own.
    """
    if not world.preset.depth_channels:
        raise ValueError("filter: expected a preset with depth channels, as default has")
    return Perception(JointDepth(), GeometricFilter())
