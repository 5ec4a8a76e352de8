"""Minute data sets, presets and stages."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mirage_ros.models.presets import DEFAULT, Preset
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.recordings.clips import Clip
from mirage_ros.training.chunk_samples import StageSettings
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.shards import write_shard
from mirage_ros.training.stages import StageTask

HEIGHT, WIDTH = 32, 48


@pytest.fixture(scope="session")
def run_twice() -> Callable[[Path, float], None]:
    """A function that runs a script in two processes, as `accelerate launch --cpu --num_processes 2` does."""

    def run(script: Path, timeout: float) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        common |= {"PYTHONPATH": str(Path.cwd()), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
        processes = [
            subprocess.Popen(
                [sys.executable, str(script)], env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
            )
            for rank in range(2)
        ]
        try:
            assert [process.wait(timeout=timeout) for process in processes] == [0, 0]
        finally:
            for process in processes:
                process.kill()

    return run


@pytest.fixture
def new_clips(new_clip: Callable[..., Clip], tmp_path: Path) -> Callable[..., ClipCache]:
    """A function that writes clips to shards and opens them."""

    def build(count: int = 2, frames: int = 6, **options: object) -> ClipCache:
        folder = tmp_path / f"clips-{count}-{frames}"
        folder.mkdir(exist_ok=True)
        clips = [new_clip(f"wall-{i}", frames, seed=i, **options) for i in range(count)]
        write_shard(folder / "00000.tar", clips)
        return ClipCache(folder)

    return build


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
