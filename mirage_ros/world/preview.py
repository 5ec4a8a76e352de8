"""The readout alone, decoded."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from mirage_ros.geometry import Camera
from mirage_ros.images import enlarge, fit_camera
from mirage_ros.world.checks import check_cameras, check_memory
from mirage_ros.world.networks import Parts
from mirage_ros.world.reading import ReadableMemory, Reading, read_views
from mirage_ros.world.results import Preview

# Views that are read and decoded together.
BATCH = 16
# Brightness of what is not known, 0..1.
UNKNOWN = 0.13


@torch.no_grad()
def preview(parts: Parts, memory: ReadableMemory, trajectory: Camera) -> Preview:
    """Decode what the memory shows of views; see `WorldModel.preview`."""
    check_cameras(trajectory)
    check_memory(parts, memory)
    start, read_seconds = time.perf_counter(), 0.0
    camera = fit_camera(trajectory, *parts.size).to(parts.device, torch.float64)
    pieces: list[tuple[Tensor, Tensor, Reading]] = []
    for begin in range(0, len(camera), BATCH):
        some = camera[begin : begin + BATCH].resized(*parts.latent_size)
        before = time.perf_counter()
        reading = read_views(memory, some, parts.preset, parts.unfolder)
        parts.wait()
        read_seconds += time.perf_counter() - before
        # Each view is a clip of one frame.
        rgb = parts.decode(reading.latents.unsqueeze(2)).squeeze(1)
        seen = enlarge(reading.visible, *parts.size)
        pieces.append((torch.where(seen > 0, rgb, UNKNOWN), seen[:, 0], reading))
    rgb = torch.cat([part[0] for part in pieces])
    fine = torch.cat([part[2].fine_depth for part in pieces])
    result = Preview(
        rgb=(rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy(),
        depth=enlarge(fine.nan_to_num(0.0), *parts.size).float().cpu().numpy(),
        visible=torch.cat([part[1] for part in pieces]).cpu().numpy(),
        coverage=torch.cat([part[2].coverage() for part in pieces]).cpu().numpy(),
        camera=camera.to("cpu"),
    )
    result.seconds.update(read=read_seconds, decode=time.perf_counter() - start - read_seconds)
    return result
