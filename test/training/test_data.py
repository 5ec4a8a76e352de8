"""Rendering shards: deterministic, resumable, and not mixed up with other settings."""

from __future__ import annotations

import json
from concurrent.futures import Future
from importlib.metadata import version

import pytest

from mirage_ros.training import data
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


def test_a_family_that_is_held_out_is_refused_for_training():
    with pytest.raises(ValueError, match="got 'warehouses', which is held out"):
        plan("train", 1, 0, ["rooms", "warehouses"], 1)
    assert plan("held-out", 1, 0, ["warehouses"], 1) == [("warehouses 1000000",)]


@pytest.mark.slow
def test_two_processes_that_share_a_folder_alone_render_and_list_what_one_does(tmp_path, run_apart):
    options = ("--scenes", "2", "--frames", "3", "--size", "32", "48", "--clips-per-shard", "1", "--processes", "1")
    run_apart("-m", "mirage_ros.training.data", "--out", str(tmp_path / "shared"), *options)
    shards = plan("train", 2, 0, ["rooms", "halls"], 1)
    # What one process renders, as the command does it.
    facts = {"split": "train", "first": 0, "families": ["rooms", "halls"], "mujoco": version("mujoco")}
    settings = ClipSettings(frames=3, height=32, width=48)
    manifest = generate(tmp_path / "one", shards, settings, 1, facts)
    assert (
        json.loads((tmp_path / "shared" / "manifest.json").read_text())
        == manifest
        == json.loads((tmp_path / "one" / "manifest.json").read_text())
    )
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).glob("*.tar")} for name in ("shared", "one")]
    assert len(files[0]) == 4
    assert files[0] == files[1]


def test_each_process_does_its_share_and_the_manifest_is_that_of_all(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "ProcessPoolExecutor", InThisProcess)
    monkeypatch.setattr(data, "write_shard", lambda path, clips: path.write_text(path.name) and [path.stem])
    shards = plan("train", 3, 0, ["rooms"], 1)
    whole = generate(tmp_path / "one", shards, SETTINGS, 1, {})
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, names in (("1", ["00001.tar"]), ("0", ["00000.tar", "00001.tar", "00002.tar"])):
        monkeypatch.setenv("RANK", rank)
        manifest = generate(tmp_path / "shared", shards, SETTINGS, 1, {})
        assert list(manifest["shards"]) == names
        assert sorted(path.name for path in (tmp_path / "shared").glob("*.tar")) == names
    assert json.loads((tmp_path / "shared" / "manifest.json").read_text()) == json.loads(json.dumps(whole))
    # The other process lost its disk: it renders its share again, and only that.
    (tmp_path / "shared" / "00001.tar").unlink()
    generate(tmp_path / "shared", shards, SETTINGS, 1, {})
    assert not (tmp_path / "shared" / "00001.tar").exists()
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(ValueError, match="settings"):
        generate(tmp_path / "shared", shards, ClipSettings(frames=4), 1, {})
    generate(tmp_path / "shared", shards, SETTINGS, 1, {})
    assert (tmp_path / "shared" / "00001.tar").exists()
    with pytest.raises(ValueError, match="WORLD_SIZE: expected 1, cutting a walk is not split"):
        data.cut(tmp_path / "walk", tmp_path, "rgbd", None, SETTINGS, 1, 1)


class InThisProcess:
    """A pool that does what it is given at once."""

    def __init__(self, *_, **__):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


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
