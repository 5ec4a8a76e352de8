"""Segmenting named things through a video with SAM3 of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from mirage_ros.perception.pretrained import (
    MissingExtraError,
    colour_statistics,
    load_network,
    load_settings,
    load_tokenizer,
)

SAM3 = "facebook/sam3"
# Tokens of a prompt that its text encoder was trained with.
_TEXT_LENGTH = 32


class VideoSegmenter:
    """SAM3: finds what text names in every frame and follows it.

    Args:
        source: folder or hub repository of a Sam3VideoModel.
        device: where it runs.

    Raises:
        MissingExtraError: the installed transformers has no SAM3.
        MissingWeightsError: the weights are not there.
        PerceptionUnavailableError: the source holds another kind of network.
    """

    def __init__(self, source: str | Path = SAM3, device: torch.device | str = "cpu") -> None:
        try:
            from transformers import Sam3VideoModel
        except ImportError as error:
            raise MissingExtraError(
                "open-vocabulary: needs transformers 5 with SAM3. Install it: pip install 'mirage_ros[vlm]'"
            ) from error
        self._network = load_network(Sam3VideoModel, source, device)
        self._tokenizer = load_tokenizer(source)
        names = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
        settings = load_settings(source, names)
        settings = settings.get("video_processor", settings)
        self._mean, self._std = colour_statistics(settings, device, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    @torch.no_grad()
    def segment(self, rgb: Tensor, prompts: Sequence[str]) -> Tensor:
        """Mark what the prompts name.

        Args:
            rgb: (T, 3, H, W) float 0..1, frames of one video.
            prompts: short names.

        Returns:
            (T, H, W) bool, true on anything named, on the frames' device.
        """
        count, _, height, width = rgb.shape
        marked = torch.zeros((count, height, width), dtype=torch.bool, device=rgb.device)
        if not prompts:
            return marked
        session = self._session(rgb, prompts)
        for output in self._network.propagate_in_video_iterator(session):
            hidden = set(output.suppressed_obj_ids or ()) | set(session.hotstart_removed_obj_ids)
            masks = [mask for key, mask in output.obj_id_to_mask.items() if key not in hidden]
            if masks:
                logits = torch.cat([mask.reshape(1, 1, *mask.shape[-2:]).float() for mask in masks])
                full = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
                marked[output.frame_idx] = (full > 0).any(dim=0)[0].to(rgb.device)
        return marked

    def _session(self, rgb: Tensor, prompts: Sequence[str]) -> Any:
        """A video session as transformers' processor would open it, but without torchvision."""
        from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

        size = self._network.config.image_size
        side = int(size if isinstance(size, int) else size[0])
        images = F.interpolate(rgb.to(self._mean.device), (side, side), mode="bilinear", antialias=True)
        device, dtype = self._network.device, self._network.dtype
        session = Sam3VideoInferenceSession(
            video=(images - self._mean) / self._std,
            video_height=rgb.shape[-2],
            video_width=rgb.shape[-1],
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=dtype,
        )
        for text in prompts:
            key = session.add_prompt(text)
            encoded = self._tokenizer(
                text, return_tensors="pt", padding="max_length", max_length=_TEXT_LENGTH, truncation=True
            ).to(device)
            session.prompt_input_ids[key] = encoded.input_ids
            session.prompt_attention_masks[key] = encoded.attention_mask
        return session
