"""Simulated clips, and tiny networks of random weights on disk, saved as their publishers save them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from mirage_ros.bench.perception import TrueClip, draw_clip, mean_colours
from mirage_ros.geometry import pinhole
from mirage_ros.memory.latent import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")


@pytest.fixture(scope="session")
def lively() -> TrueClip:
    """17 frames of a hall where two things move, both by more than a cell a frame at the end."""
    whole = draw_clip(2002, "halls", moving=2, frames=25)
    late = slice(8, 25)
    return TrueClip(whole.rgb[late], whole.depth[late], whole.labels[late], whole.speed[late], whole.camera[late])


@pytest.fixture(scope="session")
def still() -> TrueClip:
    """17 frames of a room where nothing moves."""
    return draw_clip(2000, "rooms", moving=0, frames=17)


@pytest.fixture
def remembered(still: TrueClip) -> LatentMemory:
    """A memory of the first nine frames of the still clip; features are the cells' mean colours."""
    memory = LatentMemory(3, patch=2)
    memory.write(mean_colours(still.rgb[:9], 4), still.depth[:9], still.camera[:9])
    return memory


@pytest.fixture
def noise_frames() -> DecodedFrames:
    """Three frames of noise."""
    camera = pinhole(64, 96, vertical_fov=1.0).at(torch.eye(4).expand(3, 4, 4))
    return DecodedFrames(torch.rand(3, 3, 64, 96, generator=torch.Generator().manual_seed(0)), camera)


def save_tokenizer(folder: Path, words: tuple[str, ...]) -> dict[str, int]:
    """A tokenizer of whole words; ids by word."""
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(("<pad>", "<unk>", *SPECIAL, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>").save_pretrained(folder)
    return vocabulary


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen3-VL of two layers."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    folder = tmp_path_factory.mktemp("qwen")
    ids = save_tokenizer(folder, ("person", "sky", "Name", "JSON"))
    text = {
        "vocab_size": len(ids),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]},
    }
    vision = {
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_heads": 2,
        "patch_size": 16,
        "out_hidden_size": 32,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0],
    }
    config = Qwen3VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    torch.manual_seed(0)
    Qwen3VLForConditionalGeneration(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def sam_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SAM3 of one or two layers each that detects something in noise: its thresholds are zero."""
    from transformers import Sam3VideoConfig, Sam3VideoModel

    folder = tmp_path_factory.mktemp("sam")
    save_tokenizer(folder, ("person", "sky"))
    width, layer = 128, {"hidden_size": 128, "num_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}

    def vision() -> dict[str, Any]:
        backbone = {
            "model_type": "sam3_vit_model",
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "patch_size": 14,
            "window_size": 4,
            "global_attn_indexes": [1],
            "pretrain_image_size": 56,
        }
        sizes = [[32, 32], [16, 16], [8, 8]]
        return {
            "model_type": "sam3_vision_model",
            "backbone_config": backbone,
            "fpn_hidden_size": width,
            "backbone_feature_sizes": sizes,
        }

    detector = {
        "model_type": "sam3",
        "vision_config": vision(),
        "text_config": {
            "model_type": "clip_text_model",
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "max_position_embeddings": 32,
            "projection_dim": 32,
            "bos_token_id": 0,
            "eos_token_id": 1,
        },
        "geometry_encoder_config": dict(layer),
        "detr_encoder_config": dict(layer),
        "detr_decoder_config": {**layer, "num_queries": 4},
        "mask_decoder_config": {"hidden_size": width, "num_attention_heads": 2},
    }
    tracker = {
        "model_type": "sam3_tracker_video",
        "vision_config": vision(),
        "prompt_encoder_config": {"hidden_size": width, "image_size": 112, "patch_size": 14, "mask_input_channels": 4},
        "mask_decoder_config": {
            "hidden_size": width,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
        "memory_attention_hidden_size": width,
        "memory_attention_num_layers": 1,
        "memory_attention_feed_forward_hidden_size": 32,
        "memory_attention_rope_feat_sizes": [8, 8],
        "memory_encoder_hidden_size": width,
        "memory_encoder_output_channels": 64,
        "mask_downsampler_embed_dim": width,
        "memory_fuser_embed_dim": width,
        "memory_fuser_intermediate_dim": 32,
        "memory_fuser_num_layers": 1,
    }
    config = Sam3VideoConfig(
        detector_config=detector,
        tracker_config=tracker,
        low_res_mask_size=32,
        score_threshold_detection=0.0,
        new_det_thresh=0.0,
        det_nms_thresh=0.9,
    )
    config.image_size = 112
    torch.manual_seed(0)
    Sam3VideoModel(config).save_pretrained(folder)
    return folder
