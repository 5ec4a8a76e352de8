"""The paper's filter: a language model names what can move, a video segmenter marks it."""

from __future__ import annotations

from mirage_ros.geometry import valid_depth
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.entities import EntityNamer, MalformedAnswerError
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DynamicFilter, KeepMask
from mirage_ros.perception.video_segmenter import VideoSegmenter


class OpenVocabularyFilter:
    """Leaves out what a language model calls movable, and sky.

    Args:
        namer: names the entities of each chunk.
        segmenter: marks them through the chunk.
        fallback: asked instead for chunks whose answer could not be read; the notes say so.
    """

    def __init__(self, namer: EntityNamer, segmenter: VideoSegmenter, fallback: DynamicFilter) -> None:
        self.namer, self.segmenter, self.fallback = namer, segmenter, fallback

    def filter(self, frames: DecodedFrames, depth: DepthEstimate, memory: LatentMemory) -> KeepMask:
        """Keep what nothing marks and what has a depth."""
        try:
            entities = self.namer.name(frames.rgb)
        except MalformedAnswerError as error:
            mask = self.fallback.filter(frames, depth, memory)
            note = f"filter: the language model's answer could not be read twice ({error}); used the geometric filter"
            return KeepMask(mask.keep, (*mask.notes, note))
        marked = self.segmenter.segment(frames.rgb, entities.prompts)
        return KeepMask(~marked & valid_depth(depth.depth))
