"""MapAnything (arXiv 2509.13414) through its own package: metric depth and cameras of a chunk's frames together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera, intrinsics_from_ros, intrinsics_to_ros
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate
from mirage_ros.perception.pretrained import PackagedNetwork


class MapAnythingDepth(PackagedNetwork):
    """Depth of all frames of a chunk at once, told their intrinsics and poses.

    'facebook/map-anything-apache' are published weights with a permissive licence.
    """

    NAME = "map-anything"
    COMMAND = "pip install 'mirage_ros[depth]', or from https://github.com/facebookresearch/map-anything"
    MODULE, CLASS = "mapanything.models", "MapAnything"
    SOURCE = "facebook/map-anything"

    @torch.no_grad()
    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Depth of the frames; unknown where the network masks it, such as in the sky and at edges."""
        count = len(frames.rgb)
        camera = frames.camera.to(self._device, torch.float32)
        # The package's pixel centres are at integers.
        intrinsics = intrinsics_to_ros(camera.intrinsics).expand(count, 3, 3)
        poses = camera.cam2world.expand(count, 4, 4)
        pixels = (frames.rgb * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        views = [
            {
                # An array: of a tensor whose values are all below 2 the package would think that 1 is white.
                "img": np.ascontiguousarray(pixels[t]),
                "intrinsics": intrinsics[t].cpu(),
                "camera_poses": poses[t].cpu(),
                "is_metric_scale": torch.tensor([True]),
            }
            for t in range(count)
        ]
        prepared = self.part("mapanything.utils.image").preprocess_inputs(views)
        found = self._network.infer(
            prepared,
            memory_efficient_inference=True,
            use_amp=self._device.type == "cuda",
            amp_dtype="bf16",
            apply_mask=True,
            mask_edges=True,
        )
        depth = []
        for t in range(count):
            seen = found[t]["depth_z"].reshape(found[t]["depth_z"].shape[-3:-1]).float()
            mask = found[t]["mask"].reshape(seen.shape).bool()
            own = intrinsics_from_ros(prepared[t]["intrinsics"].reshape(3, 3).to(seen))
            depth.append(resampled(torch.where(mask, seen, 0.0), own, frames.camera[t].to(seen.device)))
        return DepthEstimate(torch.stack(depth).to(frames.rgb.device, torch.float32), frames.camera)


def resampled(depth: Tensor, intrinsics: Tensor, camera: Camera) -> Tensor:
    """Depth of a scaled and cropped view at the pixels of the view it was made from.

    Args:
        depth: (h, w) metres, zero where unknown.
        intrinsics: (3, 3) of that view, centre convention.
        camera: one camera of the whole view, H x W.

    Returns:
        (H, W) depth of the nearest pixel along each ray, zero outside of the cropped view.
    """
    height, width = depth.shape
    pixels = camera.pixel_centres().to(depth)
    own = camera.intrinsics.to(depth)
    y = (pixels[..., 1] - own[1, 2]) / own[1, 1]
    x = (pixels[..., 0] - own[0, 2] - own[0, 1] * y) / own[0, 0]
    u = intrinsics[0, 0] * x + intrinsics[0, 1] * y + intrinsics[0, 2]
    v = intrinsics[1, 1] * y + intrinsics[1, 2]
    grid = torch.stack([2 * u / width - 1, 2 * v / height - 1], dim=-1)
    picked = F.grid_sample(depth[None, None], grid[None], mode="nearest", padding_mode="zeros", align_corners=False)
    return picked[0, 0]
