"""Caches and depths that leave something out or spoil it: what each part of the system is worth."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from mirage_ros.evaluation.baselines.baseline import Baseline
from mirage_ros.evaluation.cases import Case
from mirage_ros.geometry import Camera
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.memory.readout import Readout
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.perception.ghost_filter import GeometricFilter
from mirage_ros.perception.given import JointDepth, NoFilter, SensorDepth
from mirage_ros.perception.memory_depth import MemoryDepth
from mirage_ros.perception.pipeline import Perception
from mirage_ros.world.model import WorldModel

# Depth error of `noisy_depth`: standard deviation as a share of depth, half of its variance smooth over the image.
NOISE = 0.05


class TokenMemory(Baseline):
    """A latent memory whose tokens are read whole, at the resolution of the latents or at that of pixels.

    The paper's memory holds a token for each latent cell. Its ablation 'pixel-resolution lifting' brings the latents to
    the size of the image first and makes an element of every pixel.

    Args:
        world: the model.
        pixels: lift at the resolution of the depth.
    """

    def __init__(self, world: WorldModel, *, pixels: bool) -> None:
        self._memory = LatentMemory(world.networks.autoencoder.channels, world.device, torch.int8)
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._memory)

    @property
    def nbytes(self) -> int:
        """Bytes of the buffers."""
        return self._memory.nbytes

    def _write_frame(self, content: Tensor, depth: Tensor, camera: Camera, keep: Tensor) -> WriteReport:
        latents = content[None]
        if self._pixels:
            # Of at most 256 rows and columns.
            latents = F.interpolate(latents.float(), size=depth.shape, mode="bilinear", align_corners=False)
        return self._memory.write(latents, depth[None], Camera.stacked([camera]), keep[None])

    def read(self, camera: Camera, rule: str = "nearest", *, observed_first: bool = False) -> Readout:
        """Readout of (T,) cameras at latent resolution, the nearest element of each cell by whatever rule."""
        return self._memory.read(camera, "nearest")

    def fork(self) -> Self:
        """The same content, which goes its own way."""
        twin = super().fork()
        twin._memory = self._memory.fork()
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
