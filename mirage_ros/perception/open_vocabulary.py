"""The paper's filter: a language model names what can move, a video segmenter marks it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from mirage_ros.geometry import valid_depth
from mirage_ros.memory.latent_memory import LatentMemory
from mirage_ros.perception.entities import Entities, MalformedAnswerError
from mirage_ros.perception.protocols import DepthEstimate, DynamicFilter, Frames, KeepMask


class Namer(Protocol):
    """Names what can move in a chunk, such as `entities.EntityNamer`."""

    def name(self, rgb: Tensor) -> Entities:
        """What can move in frames (T, 3, H, W); MalformedAnswerError where no answer could be read."""
        ...


class Segmenter(Protocol):
    """Marks what text names, such as `video_segmenter.VideoSegmenter`."""

    def segment(self, rgb: Tensor, prompts: Sequence[str]) -> Tensor:
        """(T, H, W) bool marks of frames (T, 3, H, W)."""
        ...


class FixedEntities:
    """The same entities for every chunk: those that a user listed.

    Args:
        names: kinds of things that move.
        sky: whether sky is left out too.
    """

    def __init__(self, names: Sequence[str], sky: bool = True) -> None:
        cleaned = [name.strip().lower() for name in names if name.strip()]
        if not cleaned and not sky:
            raise ValueError("entities: expected at least one name, got none")
        self._entities = Entities(tuple(dict.fromkeys(name for name in cleaned if name != "sky")), sky)

    def name(self, rgb: Tensor) -> Entities:
        """The list."""
        return self._entities


class OpenVocabularyFilter:
    """Leaves out what a language model calls movable, and sky.

    Args:
        namer: names the entities of each chunk.
        segmenter: marks them through the chunk.
        fallback: asked instead for chunks whose answer could not be read; the notes say so.
    """

    def __init__(self, namer: Namer, segmenter: Segmenter, fallback: DynamicFilter) -> None:
        self.namer, self.segmenter, self.fallback = namer, segmenter, fallback

    def filter(self, frames: Frames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """Keep what nothing marks and what has a depth."""
        try:
            entities = self.namer.name(frames.rgb)
        except MalformedAnswerError as error:
            mask = self.fallback.filter(frames, depth, memory)
            note = f"filter: the language model's answer could not be read twice ({error}); used the geometric filter"
            return KeepMask(mask.keep, (*mask.notes, note))
        marked = self.segmenter.segment(frames.rgb, entities.prompts)
        return KeepMask(~marked & valid_depth(depth.depth))
