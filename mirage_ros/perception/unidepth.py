"""UniDepth V2 (arXiv 2502.20110) through its own package: monocular metric depth that knows the intrinsics."""

from __future__ import annotations

import torch

from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate
from mirage_ros.perception.pretrained import PackagedNetwork, inference_dtype


class UniDepth(PackagedNetwork):
    """Depth frame by frame, told the intrinsics."""

    NAME = "unidepth"
    COMMAND = "pip install 'unidepth @ git+https://github.com/lpiccinelli-eth/UniDepth' (licence CC BY-NC 4.0)"
    MODULE, CLASS = "unidepth.models", "UniDepthV2"
    SOURCE = "lpiccinelli/unidepth-v2-vitl14"

    @torch.no_grad()
    def estimate(self, frames: DecodedFrames, memory: LatentMemory) -> DepthEstimate:
        """Depth of the frames, in metres."""
        count, _, height, width = frames.rgb.shape
        intrinsics = frames.camera.intrinsics.expand(count, 3, 3).to(self._device, torch.float32)
        dtype = inference_dtype(self._device)
        depth = []
        for t in range(count):
            image = (frames.rgb[t] * 255).round().to(self._device, torch.uint8)
            with torch.autocast(self._device.type, dtype=dtype, enabled=dtype != torch.float32):
                found = self._network.infer(image, intrinsics[t])
            depth.append(found["depth"].reshape(height, width).float())
        return DepthEstimate(torch.stack(depth).to(frames.rgb.device), frames.camera)
