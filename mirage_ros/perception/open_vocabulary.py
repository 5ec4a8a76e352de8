"""The paper's filter: a language model names what can move, a video segmenter marks it.

Qwen3-VL looks at a few frames of a chunk and answers in strict JSON.
"""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.geometry import valid_depth
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, DepthEstimate, DynamicFilter, KeepMask
from mirage_ros.perception.pretrained import colour_statistics, load_network, load_settings, load_tokenizer
from mirage_ros.perception.video_segmenter import VideoSegmenter

QWEN = "Qwen/Qwen3-VL-2B-Instruct"
MAX_ENTITIES = 12
# Pictures that are shown, spread over the chunk, and tokens of an answer.
FRAMES, MAX_TOKENS = 4, 160
_NAME = re.compile(r"[a-z][a-z0-9 '\-]{0,39}")
_QUESTION = (
    "These pictures are frames of one short video. Name every kind of thing in it that can move by itself or is being "
    "moved, such as people, animals, vehicles and robots; nothing that merely stands there. Answer with JSON alone: "
    '{"entities": ["short singular noun", ...], "sky": true or false}. '
    '"sky" says whether open sky is seen. "entities" may be empty and holds at most 12 names.'
)
_AGAIN = "That was not the JSON that was asked for. Answer with the JSON object alone, in exactly the form given above."
# Pixels of a picture: enough to recognise things, and a few hundred tokens each.
_MAX_PIXELS = 512 * 512


class MalformedAnswerError(ValueError):
    """The answer of the language model is not of the form that was asked for."""


@dataclass(frozen=True)
class Entities:
    """What is to be kept out of the memory.

    Attributes:
        names: kinds of things that can move.
        sky: whether there is sky.
    """

    names: tuple[str, ...]
    sky: bool

    @property
    def prompts(self) -> tuple[str, ...]:
        """What a segmenter is asked for."""
        return (*self.names, "sky") if self.sky else self.names


def parse_entities(answer: str) -> Entities:
    """Read a strict answer; a fence of three backticks around it is allowed.

    Args:
        answer: one JSON object {"entities": [names], "sky": bool}, nothing else.

    Raises:
        MalformedAnswerError: anything else; the message says what.
    """
    text = answer.strip()
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", text, re.DOTALL)
    try:
        value: Any = json.loads(fenced.group(1) if fenced else text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise MalformedAnswerError(f"expected a JSON object, got {text[:80]!r}") from error
    if not isinstance(value, dict) or set(value) != {"entities", "sky"}:
        raise MalformedAnswerError(f'expected the keys "entities" and "sky" alone, got {text[:80]!r}')
    names, sky = value["entities"], value["sky"]
    if not isinstance(sky, bool):
        raise MalformedAnswerError(f"sky: expected true or false, got {sky!r}")
    if not isinstance(names, list) or len(names) > MAX_ENTITIES:
        raise MalformedAnswerError(f"entities: expected a list of at most {MAX_ENTITIES} names, got {str(names)[:80]}")
    cleaned = [name.strip().lower() if isinstance(name, str) else name for name in names]
    for name in cleaned:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise MalformedAnswerError(f"entities: expected short plain names, got {name!r}")
    return Entities(tuple(dict.fromkeys(name for name in cleaned if name != "sky")), sky)


class EntityNamer:
    """Qwen3-VL, asked for what can move.

    Args:
        source: folder or hub repository of a Qwen3-VL model, dense or mixture of experts.
        device: where it runs.

    Raises:
        MissingWeightsError: the weights are not there.
        PerceptionUnavailableError: the source holds another kind of network.
    """

    def __init__(self, source: str | Path = QWEN, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModelForImageTextToText

        self._network = load_network(AutoModelForImageTextToText, source, device, may_lack=("lm_head.weight",))
        self._tokenizer = load_tokenizer(source)
        settings = load_settings(source, ("preprocessor_config.json", "processor_config.json"))
        settings = settings.get("image_processor", settings)
        self._mean, self._std = colour_statistics(settings, device, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def name(self, rgb: Tensor) -> Entities:
        """What can move in a chunk (T, 3, H, W) 0..1; a malformed answer is asked for once more.

        Raises:
            MalformedAnswerError: the second answer is malformed too.
        """
        chosen = torch.linspace(0, len(rgb) - 1, min(FRAMES, len(rgb)), device=rgb.device).round().long()
        images = rgb[chosen.unique()]
        answer = self.answer(images, [(_QUESTION, None)])
        try:
            return parse_entities(answer)
        except MalformedAnswerError:
            return parse_entities(self.answer(images, [(_QUESTION, answer), (_AGAIN, None)]))

    @torch.no_grad()
    def answer(self, images: Tensor, turns: list[tuple[str, str | None]]) -> str:
        """What the model says about pictures (N, 3, H, W), greedily, after turns of questions and earlier answers."""
        vision = self._network.config.vision_config
        patches, grid = patchify(
            (self._fitted(images.to(self._mean.device)) - self._mean) / self._std,
            int(vision.patch_size),
            int(vision.spatial_merge_size),
            int(vision.temporal_patch_size),
        )
        tokens = int(grid[0].prod()) // int(vision.spatial_merge_size) ** 2
        pictures = f"<|vision_start|>{'<|image_pad|>' * tokens}<|vision_end|>" * len(images)
        # The ChatML form that these models were trained with.
        text = ""
        for index, (question, reply) in enumerate(turns):
            shown = pictures if index == 0 else ""
            text += f"<|im_start|>user\n{shown}{question}<|im_end|>\n<|im_start|>assistant\n"
            text += f"{reply}<|im_end|>\n" if reply is not None else ""
        encoded = self._tokenizer(text, return_tensors="pt", add_special_tokens=False).to(self._network.device)
        inputs = {
            "input_ids": encoded.input_ids,
            "attention_mask": encoded.attention_mask,
            "pixel_values": patches.to(self._network.dtype),
            "image_grid_thw": grid,
        }
        # Some versions of transformers are told which tokens are pictures.
        if "mm_token_type_ids" in inspect.signature(self._network.forward).parameters:
            inputs["mm_token_type_ids"] = (encoded.input_ids == self._network.config.image_token_id).long()
        end = self._tokenizer.convert_tokens_to_ids("<|im_end|>")
        said = self._network.generate(
            **inputs, max_new_tokens=MAX_TOKENS, do_sample=False, eos_token_id=end, pad_token_id=end
        )
        reply = self._tokenizer.decode(said[0, encoded.input_ids.shape[1] :], skip_special_tokens=True)
        return str(reply)

    def _fitted(self, images: Tensor) -> Tensor:
        """Both sides in whole merged patches, within the number of pixels."""
        vision = self._network.config.vision_config
        multiple = int(vision.patch_size) * int(vision.spatial_merge_size)
        height, width = images.shape[-2:]
        scale = min(1.0, (_MAX_PIXELS / (height * width)) ** 0.5)
        rows, columns = (max(multiple, round(side * scale / multiple) * multiple) for side in (height, width))
        return F.interpolate(images, (rows, columns), mode="bicubic", antialias=True).clamp(0, 1)


def patchify(images: Tensor, patch: int, merge: int, frames: int) -> tuple[Tensor, Tensor]:
    """Normalised pictures as the rows that Qwen's vision encoders take.

    Args:
        images: (N, 3, H, W), sides in multiples of patch x merge.
        patch: pixels along a patch.
        merge: patches along each side that become one token; they follow each other.
        frames: of a patch along time; a picture is repeated.

    Returns:
        (N x H/patch x W/patch, 3 x frames x patch x patch) rows and (N, 3) int64 grids (1, rows, columns).
    """
    number, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    video = images.unsqueeze(1).expand(-1, frames, -1, -1, -1)
    video = video.reshape(number, frames, channels, rows // merge, merge, patch, columns // merge, merge, patch)
    video = video.permute(0, 3, 6, 4, 7, 2, 1, 5, 8)
    grid = torch.tensor([[1, rows, columns]] * number, dtype=torch.int64, device=images.device)
    return video.reshape(number * rows * columns, channels * frames * patch * patch), grid


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
