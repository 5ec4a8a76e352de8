"""Presets: everything about a world model that is not a weight, beside the constants of the published networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.conventions import CONVENTIONS, PAPER, Conventions
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.models.log_depth import CHANNELS as DEPTH_CHANNELS
from mirage_ros.models.log_depth import FINE
from mirage_ros.models.network_files import default_dtype
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.schedule import ScheduleConfig
from mirage_ros.models.wan_autoencoder import WAN22_AUTOENCODER, WanAutoencoder


@dataclass(frozen=True)
class Preset:
    """Shape and habits of a world model.

    Attributes:
        name: of the preset.
        height, width: pixels of a frame.
        fps: frames a second that the model was trained at.
        backbone: arguments of diffusers' WanTransformer3DModel.
        branch_layers: backbone blocks that get a hint.
        branch_inputs: input groups of the branch, see `branch_input.GROUPS`.
        autoencoder_kind: 'frame' or 'wan'.
        autoencoder: arguments of FrameAutoencoder or AutoencoderKLWan.
        reader: arguments of UnfoldReader; None reads whole tokens with rule `read_rule`.
        read_rule: the memory's rule, 'unfold', 'nearest' or 'strict'.
        observed_first: in a readout, what was imagined never hides what a camera saw; see `LatentMemory.read`.
        depth_channels: channels of log depth that are denoised together with the latents, 0 or 4.
        predicts_clean: the network estimates clean latents, with a memory as a correction of the filled readout, rather
            than the flow.
        log_depth_mean, log_depth_std: of the logarithm of depth in metres.
        chunk_frames: frames that are denoised together, the first of them known; time stride x N + 1.
        keyframe_stride: every so many-th frame of a rollout is imagined, written and kept, and those between are read
            out of the memory; 1 imagines all, `chunk_frames` together.
        preceding: greatest number of latent frames of the last chunk that serve as context.
        references: greatest number of past latent frames that serve as context.
        keep_known: cells that the memory shows sharply come out as they went in, whatever the network says; for
            autoencoders of single frames, whose tokens mean the same in every frame.
        memory_patch: sub-cells along each side of a cell whose depth the memory keeps, for readers that unfold.
        memory_context: cells around newly written ones that are written too, see `WriteRules.context`.
        schedule: solver and default steps of the transformer.
        text: whether a text encoder belongs to it.
        text_tokens: context tokens; one zero token without text.
        tile: pixels of a tile of the autoencoder; None for whole frames.
        weights: hub repository with the published parts, empty where there is none.
        conventions: switches between the paper's behaviour and the public code's.
    """

    name: str
    height: int
    width: int
    fps: int
    backbone: Mapping[str, Any]
    branch_layers: tuple[int, ...]
    autoencoder: Mapping[str, Any]
    autoencoder_kind: Literal["frame", "wan"]
    chunk_frames: int
    keyframe_stride: int = 1
    branch_inputs: tuple[str, ...] = ("latents", "visible")
    reader: Mapping[str, Any] | None = None
    read_rule: Literal["unfold", "nearest", "strict"] = "nearest"
    observed_first: bool = False
    depth_channels: int = 0
    predicts_clean: bool = False
    log_depth_mean: float = 0.9
    log_depth_std: float = 0.6
    preceding: int = 2
    references: int = 4
    keep_known: bool = False
    memory_patch: int = 0
    memory_context: int = 0
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    text: bool = False
    text_tokens: int = 1
    tile: int | None = None
    weights: str = ""
    conventions: Conventions = PAPER

    @property
    def context_references(self) -> int:
        """Greatest number of references in a rollout: none with keyframes, to which they add half as much again."""
        return self.references if self.keyframe_stride == 1 else 0

    @property
    def context_preceding(self) -> int:
        """Greatest number of preceding latents in a rollout: none with keyframes, whose last chunk ends long before."""
        return self.preceding if self.keyframe_stride == 1 else 0

    @property
    def latent_channels(self) -> int:
        """Channels of a latent token, depth channels aside."""
        return int(self.backbone["in_channels"]) - self.depth_channels

    @property
    def depth_samples(self) -> int:
        """Samples along each side of a cell whose depth a memory is given in training."""
        return self.memory_patch or FINE

    @property
    def text_dim(self) -> int:
        """Channels of a text feature."""
        return int(self.backbone["text_dim"])

    def new_autoencoder(self, dtype: torch.dtype = torch.float32) -> Autoencoder:
        """An autoencoder of this preset with random weights; `dtype` is that of Wan's."""
        if self.autoencoder_kind == "wan":
            with default_dtype(dtype):
                return WanAutoencoder.from_config(self.autoencoder, self.tile)
        return FrameAutoencoder(**self.autoencoder)

    def new_reader(self) -> UnfoldReader | None:
        """A reader of this preset that passes whole tokens on until it is trained; None where there is none."""
        return None if self.reader is None else UnfoldReader(**self.reader)

    def with_conventions(self, name: str) -> Preset:
        """This preset under a named set of switches, 'paper' or 'public'; the branch's inputs and the read rule follow.

        Raises:
            ValueError: there is no such set, or it cannot hold for this preset.
        """
        if name not in CONVENTIONS:
            raise ValueError(f"conventions: expected one of {', '.join(CONVENTIONS)}, got {name!r}")
        chosen = CONVENTIONS[name]
        if chosen == self.conventions:
            return self
        if chosen is PAPER:
            raise ValueError(f"conventions: expected {self.conventions.name!r} for a preset made for it, got {name!r}")
        if self.autoencoder_kind != "wan":
            raise ValueError(f"conventions: expected a preset with Wan's autoencoder for {name!r}, got {self.name!r}")
        return replace(self, conventions=chosen, branch_inputs=("latents", "ones"), read_rule="strict", reader=None)


WAN22_BACKBONE: Mapping[str, Any] = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 24,
    "attention_head_dim": 128,
    "in_channels": 48,
    "out_channels": 48,
    "text_dim": 4096,
    "freq_dim": 256,
    "ffn_dim": 14336,
    "num_layers": 30,
}
# The full-size model of the paper: 5.00 B parameters in the backbone, 2.6 B in the branch.
WAN22 = Preset(
    name="wan2.2-ti2v-5b",
    height=704,
    width=1280,
    fps=16,
    backbone=WAN22_BACKBONE,
    branch_layers=tuple(range(0, 30, 2)),
    autoencoder=WAN22_AUTOENCODER,
    autoencoder_kind="wan",
    chunk_frames=33,
    schedule=ScheduleConfig("unipc", steps=20, shift=5.0),
    text=True,
    text_tokens=512,
    weights="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
)
# Small and trained on simulated rooms. A token is 16x16 pixels: with 8x8, attention over four times as many tokens
# would cost more than everything else together.
DEFAULT = Preset(
    name="default",
    height=128,
    width=192,
    fps=10,
    backbone={
        "patch_size": (1, 4, 4),
        "num_attention_heads": 4,
        "attention_head_dim": 64,
        "in_channels": 8 + DEPTH_CHANNELS,
        "out_channels": 8 + DEPTH_CHANNELS,
        "text_dim": 32,
        "freq_dim": 64,
        "ffn_dim": 768,
        "num_layers": 8,
    },
    branch_layers=(0, 2, 4, 6),
    branch_inputs=("latents", "visible", "offset", "log_scale", "depth", "fill", "rays", "layout", "layout_depth"),
    autoencoder={"channels": 8, "refine_blocks": 4},
    autoencoder_kind="frame",
    reader={"channels": 8, "stride": 4, "source_stride": 1},
    read_rule="unfold",
    # Its depth of what it invents is rough: such a wall may stand before a table that was seen.
    observed_first=True,
    depth_channels=DEPTH_CHANNELS,
    predicts_clean=True,
    # Of the training scenes, sky at 30 m.
    log_depth_mean=0.94,
    log_depth_std=0.66,
    chunk_frames=9,
    keyframe_stride=8,
    preceding=1,
    references=2,
    keep_known=True,
    memory_patch=4,
    memory_context=2,
    # One step gives the mean of what may be there, which the shipped weights do best; see weights/default/README.md.
    schedule=ScheduleConfig("euler", steps=1, shift=3.0),
)
# Random weights, for tests: the shapes of the full-size model at a minute size.
TEST = Preset(
    name="test",
    height=64,
    width=96,
    fps=16,
    backbone={
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 24,
        "in_channels": 6,
        "out_channels": 6,
        "text_dim": 16,
        "freq_dim": 32,
        "ffn_dim": 64,
        "num_layers": 3,
    },
    branch_layers=(0, 2),
    autoencoder={
        "base_dim": 4,
        "z_dim": 6,
        "dim_mult": (1, 1, 1, 1),
        "num_res_blocks": 1,
        "temperal_downsample": (False, True, True),
        "latents_mean": (0.0,) * 6,
        "latents_std": (1.0,) * 6,
    },
    autoencoder_kind="wan",
    chunk_frames=9,
    schedule=ScheduleConfig("unipc", steps=2, shift=5.0),
)
PRESETS = {preset.name: preset for preset in (DEFAULT, WAN22, TEST)}


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"preset: expected one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
