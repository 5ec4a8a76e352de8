"""Writing a real camera frame into the memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mirage_ros.geometry import Camera
from mirage_ros.images import as_tensor, centre_window, fit_camera, fit_colour
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.memory.provenance import SourceFrame
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.perception.pipeline import DecodedFrames, JointDepth, Perception
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.world.checks import check_frame, check_memory
from mirage_ros.world.exposure import fitted_gain
from mirage_ros.world.history import History, PastFrame
from mirage_ros.world.networks import Networks
from mirage_ros.world.spatial_memory import SpatialMemory


@torch.no_grad()
def observe(
    networks: Networks,
    memory: SpatialMemory,
    frame: RgbdFrame,
    keep: NDArray[np.bool_] | None,
    history: History | None,
    perception: Perception | None,
    fit_exposure: bool = False,
) -> WriteReport:
    """Write a frame; see `WorldModel.observe`."""
    check_memory(networks, memory)
    image, metres = check_frame(networks, frame, "frame")
    size, device = networks.size, networks.device
    if keep is not None and (keep.shape != image.shape[:2] or keep.dtype != np.bool_):
        raise ValueError(f"keep: expected {tuple(image.shape[:2])} bool like the frame, got {keep.shape} {keep.dtype}")
    if metres is None and (perception is None or isinstance(perception.depth, JointDepth)):
        raise ValueError("frame.depth: expected depth with the image, as no depth estimator was chosen, got none")
    source = SourceFrame(stamp=int(frame.stamp))
    # Depth and mask are written at their own resolution.
    window = centre_window(image.shape[:2], size)
    mask = None if keep is None else window.cut(as_tensor(keep).to(device))[None]
    colour = fit_colour(image.to(device), *size)[None]
    camera = Camera.stacked([fit_camera(frame.camera, *size).to(device, torch.float64)])
    if metres is None:
        assert perception is not None
        known: Any = memory
        perceived = perception.perceive(DecodedFrames(colour, camera), known)
        depth, camera = perceived.depth, perceived.camera
        mask = perceived.keep if mask is None else mask
    else:
        depth = window.cut(metres.to(device))[None]
    if fit_exposure and isinstance(memory, LatentMemory) and memory.colour and len(memory):
        cells = camera[0].resized(*networks.latent_size)
        gain = fitted_gain(memory, colour[0], depth[0], cells, None if mask is None else mask[0])
        colour = (colour * gain[:, None, None]).clamp(0, 1)
    latents = networks.encode(colour[None])[0]
    report = memory.write(
        latents.transpose(0, 1),
        depth,
        camera,
        mask,
        [source],
        colour=(colour * 255).round().to(torch.uint8).permute(0, 2, 3, 1) if memory.colour else None,
    )
    if history is not None:
        if networks.preset.depth_channels:
            latents = networks.with_depth(latents, networks.fine_depth(depth[0])[None])
        history.add(PastFrame.of(latents[:, 0], depth[0], camera[0]))
    return report
