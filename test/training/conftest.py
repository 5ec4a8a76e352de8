"""A minute data set with exact geometry: a camera slides along a painted wall before which a ball moves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.models.presets import DEFAULT, Preset
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.recordings.clips import MOVING, SKY, STATIC, Clip
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.shards import write_shard
from mirage_ros.training.stages import StageTask

HEIGHT, WIDTH, DISTANCE = 32, 48, 2.0


def wall_clip(name: str = "wall-0", frames: int = 6, seed: int = 0, step: float = 0.1, moving: bool = True) -> Clip:
    """A clip of a wall at 2 m whose colours are smooth functions of the place on it; the top rows are sky."""
    rng = np.random.default_rng(seed)
    waves = rng.uniform(1, 5, (3, 4))
    poses = torch.eye(4).repeat(frames, 1, 1)
    poses[:, 0, 3] = step * torch.arange(frames)
    camera = pinhole(HEIGHT, WIDTH, vertical_fov=1.0, cam2world=poses)
    depth = np.full((frames, HEIGHT, WIDTH), DISTANCE, np.float32)
    points = camera.lift(torch.from_numpy(depth)).numpy()
    x, y = points[..., 0], points[..., 1]
    colours = np.stack([np.sin(a * x + b) * np.cos(c * y + d) for a, b, c, d in waves], axis=-1)
    rgb = (127 + 100 * colours).astype(np.uint8)
    labels = np.full(depth.shape, STATIC, np.uint8)
    if moving:
        for index in range(frames):
            rows, columns = slice(12, 20), slice(8 + 4 * index, 16 + 4 * index)
            rgb[index, rows, columns], depth[index, rows, columns] = (250, 20, 20), 1.0
            labels[index, rows, columns] = MOVING
        rgb[:, :4], depth[:, :4], labels[:, :4] = (90, 150, 250), 0.0, SKY
    return Clip(name, rgb, depth, labels, camera, 10.0)


@pytest.fixture
def new_clips(tmp_path: Path) -> Callable[..., ClipCache]:
    """A function that writes clips to shards and opens them."""

    def build(count: int = 2, frames: int = 6, **options: object) -> ClipCache:
        folder = tmp_path / f"clips-{count}-{frames}"
        folder.mkdir(exist_ok=True)
        clips = [wall_clip(f"wall-{i}", frames, seed=i, **options) for i in range(count)]
        write_shard(folder / "00000.tar", clips)
        return ClipCache(folder)

    return build


@pytest.fixture
def new_clip() -> Callable[..., Clip]:
    """The function that draws a clip."""
    return wall_clip


@pytest.fixture
def tiny_preset() -> Preset:
    """The default preset at a minute size: two blocks, tokens of 8x8 pixels."""
    backbone = {
        **DEFAULT.backbone,
        "patch_size": (1, 2, 2),
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "text_dim": 8,
        "freq_dim": 16,
        "ffn_dim": 32,
        "num_layers": 2,
    }
    return replace(
        DEFAULT,
        height=HEIGHT,
        width=WIDTH,
        backbone=backbone,
        branch_layers=(0, 1),
        autoencoder={"channels": 8, "width": 8, "stem_width": 8, "encoder_blocks": 1, "decoder_blocks": 1},
        reader={
            "channels": 8,
            "stride": 4,
            "source_stride": 1,
            "unfold_width": 8,
            "refold_width": 8,
            "unfold_blocks": 1,
            "refold_blocks": 1,
        },
        chunk_frames=3,
    )


@pytest.fixture
def new_task(new_clips, tiny_preset, tmp_path) -> Callable[..., StageTask]:
    """A function that sets up a stage of the minute preset with random weights."""

    def build(stage: str = "branch", **settings: object) -> StageTask:
        torch.manual_seed(0)
        clips = new_clips()
        autoencoder = tiny_preset.new_autoencoder().eval()
        windows = LatentCache(clips, autoencoder, tmp_path / "latents")
        model = MirageTransformer.from_preset(tiny_preset)
        own = StageSettings(**{"chunks": (3,), "sources": (2,), **settings})
        return StageTask(stage, model, tiny_preset, windows, windows, tiny_preset.new_reader(), autoencoder, own)

    return build
