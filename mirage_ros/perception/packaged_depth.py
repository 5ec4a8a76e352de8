"""Metric depth of networks that come with packages of their own: MapAnything and UniDepth."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import Camera, intrinsics_from_ros, intrinsics_to_ros
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.models.network_files import hub_options
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate
from mirage_ros.perception.pretrained import (
    MissingExtraError,
    PerceptionUnavailableError,
    explained,
    inference_dtype,
    placed,
)


class PackagedNetwork:
    """A network of an optional package, loaded by that package's own class.

    Subclasses say what it is and estimate with it. None of these packages is needed for anything else.

    Args:
        source: folder or hub repository; `SOURCE` by default.
        device: where it runs.

    Raises:
        MissingExtraError: the package is not installed, or does not load.
        MissingWeightsError: the weights are not there.
        PerceptionUnavailableError: the source holds another kind of network.
    """

    # Name in parameters, what installs the package, module and class of the network, published weights.
    NAME: ClassVar[str]
    COMMAND: ClassVar[str]
    MODULE: ClassVar[str]
    CLASS: ClassVar[str]
    SOURCE: ClassVar[str]

    def __init__(self, source: str | Path | None = None, device: torch.device | str = "cpu") -> None:
        kind = getattr(self.part(self.MODULE), self.CLASS)
        self._network: Any = load_hub_mixin(kind, source or self.SOURCE, device)
        self._device = next(self._network.parameters()).device

    @classmethod
    def part(cls, module: str) -> Any:
        """A module of the package."""
        return import_extra(module, cls.NAME, cls.COMMAND)


def import_extra(module: str, what: str, command: str) -> Any:
    """Import an optional package.

    Args:
        module: to import.
        what: that needs it, for the message.
        command: that installs it.

    Raises:
        MissingExtraError: it is not installed, or does not load.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{what}: needs the Python package {module} ({error}). Install it: {command}"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:
        # Such as a torchvision that was built for another torch.
        raise MissingExtraError(
            f"{what}: the Python package {module} is installed but does not load ({error}). Install it anew: {command}"
        ) from error


def load_hub_mixin(kind: Any, source: str | Path, device: torch.device | str) -> Any:
    """Load a network of another package, whose class mixes in huggingface_hub's PyTorchModelHubMixin.

    Args:
        kind: the class.
        source: folder or hub repository with config.json and model.safetensors.
        device: where it runs; the weights keep their own dtype, since such packages cast as they run.

    Raises:
        MissingWeightsError: it is not there.
        PerceptionUnavailableError: what is there is not such a network, or the device has no room.
    """
    try:
        if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
            # The mixin would go on without settings.
            raise FileNotFoundError(f"there is no config.json in {source}")
        network = kind.from_pretrained(str(source), **hub_options(source))
    except (OSError, ValueError, KeyError) as error:
        raise explained(source, error) from error
    except (TypeError, RuntimeError) as error:
        raise PerceptionUnavailableError(
            f"{source}: settings or weights do not fit {kind.__name__}: {str(error).splitlines()[0]}"
        ) from error
    return placed(network, source, device)


class MapAnythingDepth(PackagedNetwork):
    """MapAnything (arXiv 2509.13414): metric depth of all frames of a chunk at once, told their intrinsics and poses.

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


class UniDepth(PackagedNetwork):
    """UniDepth V2 (arXiv 2502.20110): monocular metric depth, frame by frame, told the intrinsics."""

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
