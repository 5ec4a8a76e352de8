"""Encoding clips once, by one process or by several that share nothing but folders."""

from __future__ import annotations

import torch

from mirage_ros.training.clip_cache import ClipCache, load_mapped
from mirage_ros.training.latent_cache import LatentCache
from mirage_ros.training.shards import write_shard

SCRIPT = """
import os, sys, time
from pathlib import Path
from mirage_ros.models.frame_autoencoder import FrameAutoencoder
from mirage_ros.training.clip_cache import ClipCache
from mirage_ros.training.latent_cache import LatentCache

here = Path(sys.argv[1])
encode = LatentCache._encoded
autoencoder = FrameAutoencoder.from_pretrained(here / "vae").eval()

def encoded(self, clip):
    print(clip.name)
    return encode(self, clip)

LatentCache._encoded = encoded
# Both begin at once, so that none finds all done.
(here / os.environ["RANK"]).touch()
while not all((here / rank).exists() for rank in "01"):
    time.sleep(0.01)
assert len(LatentCache(ClipCache(here / "clips"), autoencoder, here / "latents")) == 6
"""


def test_two_processes_encode_what_one_does(new_clip, tiny_preset, tmp_path, run_apart):
    torch.manual_seed(0)
    autoencoder = tiny_preset.new_autoencoder().eval()
    autoencoder.save_pretrained(tmp_path / "vae")
    (tmp_path / "clips").mkdir()
    for shard in range(3):
        clips = [new_clip(f"wall-{shard}-{row}", 4, seed=2 * shard + row) for row in range(2)]
        write_shard(tmp_path / "clips" / f"{shard:05d}.tar", clips)
    (tmp_path / "encode.py").write_text(SCRIPT)
    printed = run_apart(str(tmp_path / "encode.py"), str(tmp_path))
    names = [f"wall-{shard}-{row}" for shard in range(3) for row in range(2)]
    assert set(names) == {name for text in printed for name in text.split()}
    # Each began with its share, as far as the other, which may have started much sooner, had left any of it.
    for process, text in enumerate(printed):
        share, others = names[process::2], printed[1 - process].split()
        assert set(share) <= set(others) or text.split()[0] in share
    cache = LatentCache(ClipCache(tmp_path / "clips"), autoencoder, tmp_path / "alone")
    paths = sorted((tmp_path / "alone").iterdir())
    assert [path.name for path in paths] == sorted(path.name for path in (tmp_path / "latents").iterdir())
    for path in paths:
        one, two = load_mapped(path), load_mapped(tmp_path / "latents" / path.name)
        assert all((one[name] == two[name]).all() for name in one)
    assert [cache.clips.name(index) for index in range(6)] == names
