"""Writing a real camera frame into the memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mirage_ros.geometry import Camera, valid_depth
from mirage_ros.images import (
    Depth,
    Image,
    check_depth,
    check_image,
    check_keep,
    cut_window,
    fit_camera,
    fit_colour,
    fit_fine_depth,
    fit_nearest,
)
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.memory.provenance import OBSERVATION, SourceFrame
from mirage_ros.memory.write_rules import WriteReport
from mirage_ros.models.branch_input import pack_frames
from mirage_ros.perception.pipeline import DecodedFrames, JointDepth, Perception
from mirage_ros.world.checks import check_memory, check_shape, check_stamp
from mirage_ros.world.history import History, PastFrame
from mirage_ros.world.networks import Parts


@torch.no_grad()
def observe(
    parts: Parts,
    memory: LatentMemory,
    rgb: Image,
    depth: Depth | None,
    camera: Camera,
    keep: NDArray[np.bool_] | Tensor | None,
    stamp: int,
    history: History | None,
    perception: Perception | None,
) -> WriteReport:
    """Write a frame; see `WorldModel.observe`."""
    check_memory(parts, memory)
    image = check_image("rgb", rgb, parts.autoencoder.strides[1:])
    if camera.batch_shape:
        raise ValueError(f"camera: expected a single one, got batch {tuple(camera.batch_shape)}")
    if (camera.height, camera.width) != tuple(image.shape[:2]):
        raise ValueError(f"camera: expected {tuple(image.shape[:2])} like rgb, got {(camera.height, camera.width)}")
    check_stamp("stamp", stamp)
    metres = None if depth is None else check_depth("depth", depth)
    mask = None if keep is None else check_keep(keep)
    for name, given in (("depth", metres), ("keep", mask)):
        if given is not None:
            check_shape(name, given, camera)
    if metres is None and (perception is None or isinstance(perception.depth, JointDepth)):
        raise ValueError("depth: expected depth with the image, as no depth estimator was chosen, got none")
    fitted = fit_camera(camera, *parts.size).to(parts.device, torch.float64)
    colour = fit_colour(image.to(parts.device), *parts.size)
    mask = None if mask is None else cut_window(mask.to(parts.device), parts.size)
    if metres is None:
        assert perception is not None
        batch = Camera(fitted.intrinsics[None], fitted.cam2world[None], fitted.height, fitted.width)
        perceived = perception.perceive(DecodedFrames(colour[None], batch), memory)
        metres, fitted = perceived.depth[0], perceived.camera[0]
        mask = perceived.keep[0] if mask is None else mask
    else:
        metres = cut_window(metres.to(parts.device), parts.size)
    latents = parts.encode(colour[None, None])[0]
    batch = Camera(fitted.intrinsics[None], fitted.cam2world[None], fitted.height, fitted.width)
    report = parts.write(
        memory,
        latents.transpose(0, 1),
        metres[None],
        batch,
        None if mask is None else mask[None],
        [SourceFrame(stamp=stamp, kind=OBSERVATION)],
        None,
        (colour * 255).round().to(torch.uint8).permute(1, 2, 0)[None],
    )
    if history is not None:
        history.add(past_frame(parts, latents[:, 0], metres, fitted))
    return report


def past_frame(parts: Parts, latents: Tensor, depth: Tensor, camera: Camera) -> PastFrame:
    """A frame for the history, from latents (C, h, w), depth (H, W) and the camera of the frame."""
    rows, columns = parts.latent_size
    if parts.preset.depth_channels:
        fine = fit_fine_depth(depth, *parts.size, parts.latent_size)
        packed = pack_frames(fine[None], parts.preset.log_depth_mean, parts.preset.log_depth_std)[0]
        latents = torch.cat([latents, packed.to(latents)])
    cells = fit_nearest(depth, rows, columns)
    return PastFrame(latents, torch.where(valid_depth(cells), cells, torch.nan), camera.resized(rows, columns))
