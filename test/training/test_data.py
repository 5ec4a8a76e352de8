"""Rendering shards: deterministic, resumable, and not mixed up with other settings."""

from __future__ import annotations

import json

import pytest

from mirage_ros.training.data import generate, plan
from mirage_ros.training.render import ClipSettings, render_clip
from mirage_ros.training.shards import read_shard, shard_paths

SETTINGS = ClipSettings(frames=3, height=32, width=48, shadows=False)


@pytest.mark.slow
def test_rendering_again_draws_only_what_is_missing_and_draws_the_same(tmp_path):
    shards = plan("train", 1, 0, ["rooms", "halls"], 1)
    manifest = generate(tmp_path, shards, SETTINGS, 1, {"split": "train"})
    assert {name: shard["scenes"] for name, shard in manifest["shards"].items()} == {
        "00000.tar": ["rooms 0"],
        "00001.tar": ["halls 0"],
    }
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")}
    untouched = (tmp_path / "00000.tar").stat().st_mtime_ns
    (tmp_path / "00001.tar").unlink()
    generate(tmp_path, shards, SETTINGS, 1, {"split": "train"})
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.tar")} == before
    assert (tmp_path / "00000.tar").stat().st_mtime_ns == untouched
    with pytest.raises(ValueError, match="settings"):
        generate(tmp_path, shards, ClipSettings(frames=4), 1, {"split": "train"})
    with pytest.raises(ValueError, match="made with sensor None, asked for stereo"):
        generate(tmp_path, shards, SETTINGS, 1, {"split": "train"}, "stereo")
    assert json.loads((tmp_path / "manifest.json").read_text())["settings"]["frames"] == 3
    rooms, halls = (clip for path in shard_paths(tmp_path) for clip in read_shard(path))
    assert rooms.rgb.shape == halls.rgb.shape == (3, 32, 48, 3)


def test_a_clip_follows_from_its_seed_and_sees_something():
    first, again = render_clip(3, "rooms", SETTINGS), render_clip(3, "rooms", SETTINGS)
    assert first is not None
    assert again is not None
    assert (first.rgb == again.rgb).all()
    assert first.rgb.std() > 10
    assert (first.depth[first.labels != 2] > 0).all()


@pytest.mark.slow
def test_frames_may_come_from_a_sensor(tmp_path):
    shards = plan("train", 1, 0, ["rooms"], 1)
    for folder, sensor in (("perfect", None), ("spoilt", "structured-light")):
        generate(tmp_path / folder, shards, SETTINGS, 1, {}, sensor)
    perfect, spoilt = (next(read_shard(tmp_path / name / "00000.tar")) for name in ("perfect", "spoilt"))
    assert 1 < abs(perfect.rgb.astype(int) - spoilt.rgb).mean() < 60
    assert (spoilt.depth == 0).sum() > (perfect.depth == 0).sum()
    assert 0 < float((perfect.camera.cam2world - spoilt.camera.cam2world).abs().max()) < 0.1
    with pytest.raises(ValueError, match="sensor: expected one of"):
        generate(tmp_path / "none", shards, SETTINGS, 1, {}, "lidar")
