"""The weights that ship are whole, small, and fit the preset."""

from __future__ import annotations

from pathlib import Path

import torch

from mirage_ros.models.network_files import load_part
from mirage_ros.models.presets import DEFAULT
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_autoencoder, load_transformer

WEIGHTS = Path(__file__).parents[2] / "weights" / "default"


def test_all_of_it_stays_under_30_mb_in_files_under_16_mib():
    for part in ("vae", "reader", "transformer", "branch"):
        assert list((WEIGHTS / part).glob("*.safetensors")), f"{WEIGHTS / part} holds no weights"
    sizes = [file.stat().st_size for file in WEIGHTS.rglob("*.safetensors")]
    assert sum(sizes) <= 30e6
    assert max(sizes) <= 16 << 20
    assert (WEIGHTS / "README.md").is_file()


@torch.no_grad()
def test_every_part_fits_the_preset_and_is_finite():
    model = load_transformer(WEIGHTS)
    with torch.device("meta"):
        expected = MirageTransformer.from_preset(DEFAULT)
    counts = [sum(parameter.numel() for parameter in each.parameters()) for each in (model, expected)]
    assert counts[0] == counts[1]
    assert model.branch is not None
    assert tuple(model.branch.config["inputs"]) == DEFAULT.branch_inputs
    autoencoder = load_autoencoder(WEIGHTS)
    reader = load_part(UnfoldReader, WEIGHTS, "reader")
    for part in (model, autoencoder, reader):
        assert all(bool(torch.isfinite(parameter).all()) for parameter in part.parameters())
    # Every latent channel carries something, and is normalised.
    assert min(autoencoder.config["latents_std"]) > 0.1


@torch.no_grad()
def test_the_autoencoder_redraws_a_scene_never_trained_on():
    from mirage_ros.images import as_images
    from mirage_ros.training.losses import psnr
    from mirage_ros.training.render import ClipSettings, render_clip

    clip = render_clip(1_000_000, "rooms", ClipSettings(frames=2))
    assert clip is not None
    images = as_images(clip.rgb)
    autoencoder = load_autoencoder(WEIGHTS).eval()
    assert psnr(autoencoder.decode(autoencoder.encode(images[None]))[0], images) > 27
