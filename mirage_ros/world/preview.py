"""The readout alone, decoded."""

from __future__ import annotations

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge, fit_camera
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.world.checks import check_cameras, check_memory
from mirage_ros.world.networks import Networks
from mirage_ros.world.reading import read_views
from mirage_ros.world.spatial_memory import SpatialMemory

# Views that are read and decoded together.
BATCH = 16
# Brightness of what is not known, 0..1.
UNKNOWN = 0.13


@torch.no_grad()
def preview(networks: Networks, memory: SpatialMemory, trajectory: Camera) -> ImaginedFrame:
    """Decode what the memory shows of views; see `WorldModel.preview`."""
    check_cameras(trajectory)
    check_memory(networks, memory)
    camera = fit_camera(trajectory, *networks.size).to(networks.device, torch.float64)
    parts: list[tuple[Tensor, ...]] = []
    for begin in range(0, len(camera), BATCH):
        some = camera[begin : begin + BATCH].resized(*networks.latent_size)
        reading = read_views(memory, some, networks.preset, networks.unfolder)
        # Each view is a clip of one frame.
        decoded = networks.decode(reading.latents.unsqueeze(2)).squeeze(1)
        seen = enlarge(reading.visible, *networks.size)
        image = (torch.where(seen > 0, decoded, UNKNOWN) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        metres = enlarge(reading.fine_depth.nan_to_num(0.0), *networks.size).float()
        parts.append((image, metres, seen[:, 0], reading.coverage()))
    rgb, depth, visible, coverage = (torch.cat(part).contiguous().cpu().numpy() for part in zip(*parts, strict=True))
    return ImaginedFrame(
        rgb=rgb,
        depth=depth,
        visible=visible,
        coverage=coverage,
        uncertainty=networks.doubt.uncertainty(depth, visible),
        camera=camera.to("cpu"),
    )
