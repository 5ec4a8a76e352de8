"""A filter that is told which pixels move: by a simulator, or by another node's mask topic."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import valid_depth
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.protocols import DepthEstimate, DynamicFilter, Frames, KeepMask

# Given the frames, (T, H, W) bool or whole-number masks of what must not be remembered, or None where there are none.
MaskSource = Callable[[Frames], Tensor | None]


class SegmentationFilter:
    """Leaves out what masks mark.

    Args:
        labels: (N, H, W) classes of every frame of the trajectory, zero for what stands still; or a callable that
            gives those of some frames, or None where it has none.
        fallback: asked where there are no masks; without one everything is kept, and the notes say so.

    Raises:
        ValueError: the labels' shape or type is not usable.
    """

    def __init__(self, labels: Tensor | MaskSource, fallback: DynamicFilter | None = None) -> None:
        if isinstance(labels, Tensor):
            if labels.ndim != 3 or labels.is_floating_point():
                raise ValueError(
                    f"labels: expected (N, H, W) bool or whole numbers, got {tuple(labels.shape)} {labels.dtype}"
                )
            given = labels
            self._source: MaskSource = lambda frames: given[frames.first : frames.first + len(frames.rgb)]
        elif callable(labels):
            self._source = labels
        else:
            raise ValueError(f"labels: expected a tensor (N, H, W) or a callable, got {type(labels).__name__}")
        self._fallback = fallback

    def filter(self, frames: Frames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """Keep what no mask marks and what has a depth.

        Raises:
            ValueError: the masks are not (T, H, W) for these frames.
        """
        masks = self._source(frames)
        count, _, height, width = frames.rgb.shape
        if masks is None:
            if self._fallback is not None:
                mask = self._fallback.filter(frames, depth, memory)
                note = f"filter: no masks for frames {frames.first} to {frames.first + count - 1}, used the fallback"
                return KeepMask(mask.keep, (*mask.notes, note))
            note = f"filter: no masks for frames {frames.first} to {frames.first + count - 1}, everything is kept"
            return KeepMask(valid_depth(depth.depth), (note,))
        if masks.ndim != 3 or len(masks) != count:
            raise ValueError(
                f"labels: expected masks of {count} frames (T, H, W) from frame {frames.first} on, "
                f"got {tuple(masks.shape)}"
            )
        marked = (masks.to(frames.rgb.device) != 0).float().unsqueeze(1)
        if marked.shape[-2:] != (height, width):
            marked = F.interpolate(marked, (height, width), mode="nearest-exact")
        return KeepMask((marked.squeeze(1) == 0) & valid_depth(depth.depth))
