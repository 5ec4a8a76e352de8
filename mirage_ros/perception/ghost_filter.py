"""The filter that needs no network: what other frames and the memory see through does not stand still."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import valid_depth
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.consistency import DepthBounds, noise_of, pool_surfaces, vote
from mirage_ros.perception.memory_depth import read_depth
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, KeepMask

# Share of depth that counts as a difference, at least, and at least so many standard deviations of the depth's noise.
TOLERANCE, NOISES = 0.03, 4.0
# Metres from which everything is sky.
FAR = 60.0
# Other frames that are asked, spread over the chunk, and cameras of the memory; pixels along the longer side at which
# frames are compared, at most.
SOURCES, REMEMBERED, RESOLUTION = 12, 8, 256
# Share of the views with an opinion that must see through a point to make it a seed.
SEEN_THROUGH = 0.3
# A surface is moving if this share of it is; what other views confirm counts with this weight against it.
MOVING_SHARE = 0.3
STILL_WEIGHT = 0.5
PASSES = 3
# Greatest difference of colour within a surface from pixel to pixel, and the way in pixels over which a still surface
# takes back what was pooled with something that moves.
SAME_COLOUR = 0.1
RECLAIM = 16


class GeometricFilter:
    """Finds moving things by what the frames of a chunk and the memory say about each other's points.

    Every point of a frame is looked at from other frames of the chunk and from cameras that the memory was written
    from. Where one of those measures something further away along the same ray, it saw through the point: the point was
    not there at that time. Points that were seen through often enough are seeds of moving things; a seed grows over
    neighbours at the same depth that nothing but moving things confirms. Sky is what has no depth or is very far.

    The tolerance follows the noise of the depth, which is measured between neighbouring frames.
    """

    @torch.no_grad()
    def filter(self, frames: DecodedFrames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """Judge every pixel; a lone frame is judged by the memory alone."""
        height, width = depth.depth.shape[-2:]
        metres = torch.where(valid_depth(depth.depth) & (depth.depth < FAR), depth.depth, torch.nan)
        scale = min(1.0, RESOLUTION / max(height, width))
        rows, columns = max(1, round(height * scale)), max(1, round(width * scale))
        small = F.interpolate(metres.unsqueeze(1), (rows, columns), mode="nearest-exact").squeeze(1)
        rgb = F.interpolate(frames.rgb, (rows, columns), mode="area")
        camera = depth.camera.resized(rows, columns)
        tolerance = max(TOLERANCE, NOISES * float(noise_of(small, camera)))
        views = DepthBounds.of(small, camera)
        past = self._remembered(memory, rows, columns)
        moving = self._moving(small, rgb, views, past, tolerance)
        moving = F.interpolate(moving.float().unsqueeze(1), (height, width), mode="nearest-exact").squeeze(1) > 0
        return KeepMask(metres.isfinite() & ~moving)

    def _moving(
        self, depth: Tensor, rgb: Tensor, views: DepthBounds, past: DepthBounds | None, tolerance: float
    ) -> Tensor:
        """(T, h, w) bool at working resolution."""
        count, rows, columns = depth.shape
        said, asked = [], []
        seeds = torch.zeros_like(depth, dtype=torch.bool)
        known = torch.zeros_like(seeds)
        for t in range(count):
            others = _spread(count, t, SOURCES)
            points = views.camera[t].lift(depth[t]).reshape(-1, 3)
            votes = vote(points, views[others], tolerance)
            through, holds = votes.through.sum(dim=0), votes.holds.sum(dim=0)
            if past is not None:
                remembered = vote(points, past, tolerance)
                through = through + remembered.through.sum(dim=0)
                holds = holds + remembered.holds.sum(dim=0)
            seeds[t] = ((through >= 1) & (through >= SEEN_THROUGH * (through + holds))).reshape(rows, columns)
            known[t] = (through + holds > 0).reshape(rows, columns)
            said.append(votes)
            asked.append(others)
        # A lone pixel is an error of depth at an edge.
        seeds &= _share(seeds) > 0.4
        moving = seeds
        for _ in range(PASSES):
            flat = moving.flatten(1)
            weights = torch.zeros_like(depth)
            for t in range(count):
                # Confirmation by something that moves itself is none.
                holder = flat[asked[t]].gather(1, said[t].pixel.clamp(min=0)) & (said[t].pixel >= 0)
                clean = (said[t].holds & ~holder).any(dim=0).reshape(rows, columns)
                weights[t] = torch.where(moving[t], 1.0, torch.where(clean, STILL_WEIGHT, 0.0))
            share = pool_surfaces(moving.float(), weights, depth)
            moving = seeds | (share > MOVING_SHARE)
        moving = moving & ~_reclaimed(moving, moving & ~seeds, depth, rgb, tolerance)
        return _share(moving) > 0.4

    def _remembered(self, memory: LatentMemory, rows: int, columns: int) -> DepthBounds | None:
        """The memory as cameras saw it that it was written from, the latest ones."""
        records = memory.frames()[-4 * REMEMBERED :] if len(memory) else []
        if not records:
            return None
        records = [records[i] for i in sorted({len(records) - 1 - 4 * k for k in range(REMEMBERED)}) if i >= 0]
        grid = records[-1].camera
        same = [r.camera for r in records if (r.camera.height, r.camera.width) == (grid.height, grid.width)]
        camera = grid.at(torch.stack([c.cam2world for c in same]).to(grid.cam2world)).to(memory.device)
        seen = read_depth(memory, camera, camera.height, camera.width)
        return DepthBounds.of(seen, camera.resized(*seen.shape[-2:]))


def _spread(count: int, own: int, most: int) -> Tensor:
    """At most `most` other frames, evenly spread, always with the first and the last."""
    others = torch.tensor([t for t in range(count) if t != own], dtype=torch.int64)
    if len(others) <= most:
        return others
    return others[torch.linspace(0, len(others) - 1, most).round().long()]


def _reclaimed(moving: Tensor, open_to: Tensor, depth: Tensor, rgb: Tensor, tolerance: float) -> Tensor:
    """What surfaces that stand still take back: the floor around a foot was pooled with the foot.

    Args:
        moving: (T, h, w) bool.
        open_to: (T, h, w) bool, the pixels that may be taken back.
        depth: (T, h, w) metres.
        rgb: (T, 3, h, w) 0..1.
        tolerance: share of inverse depth by which a surface may bend from pixel to pixel.

    Returns:
        (T, h, w) bool pixels of `open_to` that can be reached from still pixels over smooth surfaces of one colour.
    """
    inverse = 1 / depth
    joined = {}
    for axis in (1, 2):
        size = depth.shape[axis]
        # Inverse depth is linear on a plane, so its second difference is a bend or an edge.
        bend = torch.full_like(depth, torch.nan)
        middle = inverse.narrow(axis, 1, size - 2)
        bend.narrow(axis, 1, size - 2).copy_(inverse.diff(n=2, dim=axis).abs() / middle)
        worst = torch.maximum(bend.narrow(axis, 0, size - 1), bend.narrow(axis, 1, size - 1))
        colour = rgb.diff(dim=axis + 1).abs().amax(dim=1)
        joined[axis] = (worst < tolerance / 4) & (colour < SAME_COLOUR)
    still = ~moving & depth.isfinite()
    start = still
    for _ in range(RECLAIM):
        for axis, smooth in joined.items():
            size = depth.shape[axis]
            grown = still.clone()
            grown.narrow(axis, 1, size - 1).logical_or_(still.narrow(axis, 0, size - 1) & smooth)
            grown.narrow(axis, 0, size - 1).logical_or_(still.narrow(axis, 1, size - 1) & smooth)
            still = still | (grown & open_to)
    return still & ~start


def _share(mask: Tensor) -> Tensor:
    """(T, h, w) share of true pixels among the 3 x 3 around each."""
    return F.avg_pool2d(mask.float().unsqueeze(1), 3, stride=1, padding=1, count_include_pad=False).squeeze(1)
