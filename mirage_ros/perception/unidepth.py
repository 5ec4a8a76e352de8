"""UniDepth V2 (arXiv 2502.20110) through its own package: monocular metric depth that knows the intrinsics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pretrained import MissingWeightsError, import_extra, inference_dtype
from mirage_ros.perception.protocols import DepthEstimate, Frames

SOURCE = "lpiccinelli/unidepth-v2-vitl14"
COMMAND = "pip install 'unidepth @ git+https://github.com/lpiccinelli-eth/UniDepth' (licence CC BY-NC 4.0)"


class UniDepth:
    """Depth frame by frame, told the intrinsics.

    Args:
        source: folder or hub repository.
        device: where it runs.
        local_files_only: do not ask the hub.

    Raises:
        MissingExtraError: the package unidepth is not installed.
        MissingWeightsError: the weights are not there.
    """

    metric = True

    def __init__(
        self, source: str | Path = SOURCE, *, device: torch.device | str = "cpu", local_files_only: bool = False
    ) -> None:
        models = import_extra("unidepth.models", "unidepth", COMMAND)
        options: dict[str, Any] = {"local_files_only": True} if local_files_only else {}
        try:
            self._network = models.UniDepthV2.from_pretrained(str(source), **options).to(device).eval()
        except OSError as error:
            raise MissingWeightsError(
                f"{source}: weights not found ({str(error).splitlines()[0]}). On a machine with network access run "
                f"`hf download {source} --local-dir FOLDER` and give FOLDER"
            ) from error
        self._device = torch.device(device)

    @torch.no_grad()
    def estimate(self, frames: Frames, memory: LatentMemory) -> DepthEstimate:
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
