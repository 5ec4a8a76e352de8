"""The weights that ship are whole, small, and fit the preset."""

from __future__ import annotations

from pathlib import Path

import torch

from mirage_ros.models.exemplars import Exemplars
from mirage_ros.models.network_files import load_part
from mirage_ros.models.presets import DEFAULT
from mirage_ros.models.reader import UnfoldReader
from mirage_ros.models.transformer import MirageTransformer
from mirage_ros.models.weights_io import load_autoencoder, load_transformer
from mirage_ros.training.recipe import DEFAULT_EXEMPLARS
from mirage_ros.world.loading import load_networks

WEIGHTS = Path(__file__).parents[2] / "weights" / "default"


def test_all_of_it_stays_under_60_mb_in_files_under_16_mib():
    for part in ("vae", "reader", "transformer", "branch", "exemplars"):
        assert list((WEIGHTS / part).glob("*.safetensors")), f"{WEIGHTS / part} holds no weights"
    sizes = [file.stat().st_size for file in WEIGHTS.rglob("*.safetensors")]
    assert sum(sizes) <= 60e6
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


@torch.no_grad()
def test_the_exemplars_are_of_the_preset_s_size_and_draw():
    exemplars = load_part(Exemplars, WEIGHTS, "exemplars")
    networks = load_networks()
    assert networks.exemplars is not None
    assert exemplars.views[0].shape[1:] == (networks.transformer.in_channels, *networks.latent_size)
    assert len(exemplars) == DEFAULT_EXEMPLARS
    mean = exemplars._values(exemplars.means[:1]).repeat_interleave(4, -1).repeat_interleave(4, -2)
    is_open = torch.ones_like(mean, dtype=torch.bool)
    drawn, _ = exemplars.draw(mean, is_open, torch.zeros(1, len(exemplars)), torch.zeros(1, len(exemplars)) > 0)
    assert torch.isfinite(drawn).all()
    # A view has details, which a mean has not.
    assert drawn.diff(dim=-1).abs().mean() > 2 * mean.diff(dim=-1).abs().mean()
