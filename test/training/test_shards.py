"""Clips survive the shards, and damaged ones are refused."""

from __future__ import annotations

import numpy as np
import pytest

from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.shards import decode_clip, encode_clip, read_clips, shard_paths, write_shard


def test_a_clip_comes_back_as_it_was(new_clip, tmp_path):
    clip = new_clip()
    write_shard(tmp_path / "00000.tar", [clip, new_clip("wall-1", seed=1)])
    first, second = read_clips(tmp_path)
    assert (first.name, second.name) == ("wall-0", "wall-1")
    assert np.array_equal(first.rgb, clip.rgb)
    assert np.array_equal(first.labels, clip.labels)
    assert np.abs(first.depth - clip.depth).max() <= 0.0005
    assert np.array_equal(first.camera.cam2world, clip.camera.cam2world)
    assert first.fps == clip.fps


def test_a_shard_that_breaks_off_leaves_nothing(new_clip, tmp_path):
    def clips():
        yield new_clip()
        raise RuntimeError("the renderer died")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "00000.tar", clips())
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(FileNotFoundError, match="mirage data"):
        shard_paths(tmp_path)


def test_missing_and_damaged_pictures_are_named(new_clip):
    sample = encode_clip(new_clip())
    with pytest.raises(ValueError, match=r"depth-0002\.png"):
        decode_clip({name: value for name, value in sample.items() if name != "depth-0002.png"})
    with pytest.raises(ValueError, match=r"rgb-0001\.png"):
        decode_clip(sample | {"rgb-0001.png": b"no picture"})
    with pytest.raises(ValueError, match=r"clip\.json"):
        decode_clip({"__key__": "wall-0"})


def test_the_cache_gives_any_frames_and_takes_in_new_shards(new_clip, tmp_path):
    clip = new_clip()
    write_shard(tmp_path / "00000.tar", [clip])
    cache = ClipCache(tmp_path)
    picked = cache.clip(0, np.array([4, 1]))
    assert np.array_equal(picked.rgb, clip.rgb[[4, 1]])
    assert np.array_equal(picked.camera.cam2world, clip.camera.cam2world[[4, 1]])
    write_shard(tmp_path / "00001.tar", [new_clip("wall-1", seed=1), new_clip("wall-2", seed=2)])
    assert cache.refresh() == 3
    assert cache.name(2) == "wall-2"
    assert len(ClipCache(tmp_path)) == 3
