"""Both kinds of autoencoder behind one interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mirage_ros.models.autoencoder import Autoencoder
from mirage_ros.models.frame_autoencoder import FrameAutoencoder, ResidualBlock
from mirage_ros.models.network_files import MissingWeightsError
from mirage_ros.models.wan_autoencoder import WanAutoencoder
from mirage_ros.models.weights_io import load_autoencoder

WAN21 = {
    "base_dim": 4,
    "z_dim": 4,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "latents_mean": [0.1, -0.2, 0.0, 0.3],
    "latents_std": [1.5, 0.5, 1.0, 2.0],
}
WAN22 = {
    "base_dim": 4,
    "decoder_base_dim": 8,
    "z_dim": 3,
    "dim_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "is_residual": True,
    "in_channels": 12,
    "out_channels": 12,
    "patch_size": 2,
    "scale_factor_spatial": 16,
    "latents_mean": [0.1, -0.2, 0.0],
    "latents_std": [1.5, 0.5, 1.0],
}
KINDS = ["frame", "wan2.1", "wan2.2"]


def build(kind: str, tile: int | None = None) -> Autoencoder:
    torch.manual_seed(0)
    if kind == "frame":
        return FrameAutoencoder(channels=5, width=16, stem_width=8, decoder_blocks=1).eval()
    return WanAutoencoder.from_config(WAN21 if kind == "wan2.1" else WAN22, tile).eval()


def noise_frames(autoencoder: Autoencoder, frames: int, cells: tuple[int, int] = (2, 3)) -> torch.Tensor:
    _, rows, columns = autoencoder.strides
    generator = torch.Generator().manual_seed(1)
    return torch.rand(1, frames, 3, cells[0] * rows, cells[1] * columns, generator=generator)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_shapes_follow_from_strides_and_channels(kind: str) -> None:
    autoencoder = build(kind)
    assert autoencoder.strides == {"frame": (1, 4, 4), "wan2.1": (4, 8, 8), "wan2.2": (4, 16, 16)}[kind]
    frames = noise_frames(autoencoder, 9)
    latents = autoencoder.encode(frames)
    assert latents.shape == (1, autoencoder.channels, autoencoder.latent_frames(9), 2, 3)
    decoded = autoencoder.decode(latents)
    assert decoded.shape == frames.shape
    assert decoded.dtype == latents.dtype == torch.float32
    assert decoded.min() >= 0
    assert decoded.max() <= 1
    assert autoencoder.video_frames(latents.shape[2]) == 9


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_bytes_and_floats_encode_alike(kind: str) -> None:
    autoencoder = build(kind)
    frames = (noise_frames(autoencoder, 5) * 255).round().to(torch.uint8)
    torch.testing.assert_close(autoencoder.encode(frames), autoencoder.encode(frames.float() / 255))


@pytest.mark.parametrize("kind", ["wan2.1", "wan2.2"])
@torch.no_grad()
def test_wan_latents_are_normalised_posterior_modes(kind: str) -> None:
    autoencoder = build(kind)
    frames = noise_frames(autoencoder, 5)
    mode = autoencoder.vae.encode((frames * 2 - 1).transpose(1, 2)).latent_dist.mode()
    configuration = WAN21 if kind == "wan2.1" else WAN22
    for channel, (mean, deviation) in enumerate(
        zip(configuration["latents_mean"], configuration["latents_std"], strict=True)
    ):
        expected = (mode[:, channel] - mean) / deviation
        torch.testing.assert_close(autoencoder.encode(frames)[:, channel], expected)
    assert torch.equal(autoencoder.encode(frames), autoencoder.encode(frames))


@torch.no_grad()
def test_tiles_agree_with_whole_frames_where_nothing_is_cut() -> None:
    tiled = build("wan2.1", tile=64)
    frames = noise_frames(tiled, 5, cells=(12, 12))
    latents = tiled.encode(frames)
    whole = WanAutoencoder(tiled.vae)
    tiled.vae.use_tiling = False
    expected = whole.encode(frames)
    assert latents.shape == expected.shape
    difference = (latents - expected).abs()
    # The corner of the first tile sees no seam; elsewhere tiles only approximate.
    assert difference[..., :2, :2].max() < 0.3 * expected.std()
    assert difference.max() > 0


@pytest.mark.parametrize(
    ("kind", "shape", "message"),
    [
        ("frame", (1, 2, 3, 10, 12), "frames: expected a height and width in multiples of 4 and 4 pixels, got 10x12"),
        ("frame", (1, 2, 4, 8, 8), r"frames: expected \(B, T, 3, H, W\), got \(1, 2, 4, 8, 8\)"),
        ("wan2.2", (1, 5, 3, 8, 16), "frames: expected a height and width in multiples of 16"),
        ("wan2.2", (1, 4, 3, 16, 16), r"frames: expected 4N\+1, got 4"),
    ],
)
def test_unusable_frames_are_refused_by_name(kind: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(kind).encode(torch.zeros(shape))


def test_wrong_channels_types_and_configurations_are_refused() -> None:
    with pytest.raises(ValueError, match=r"latents: expected \(B, 4, F, h, w\), got \(1, 5, 2, 2, 3\)"):
        build("wan2.1").decode(torch.zeros(1, 5, 2, 2, 3))
    with pytest.raises(ValueError, match="frames: expected uint8 or floating point, got torch.int64"):
        build("frame").encode(torch.zeros(1, 1, 3, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="latents_mean: expected 4 numbers"):
        WanAutoencoder.from_config({**WAN21, "latents_mean": [0.0]})
    with pytest.raises(ValueError, match="expected time stride 4 and scale_factor_spatial 16"):
        WanAutoencoder.from_config({**WAN22, "scale_factor_spatial": 8})
    with pytest.raises(ValueError, match="tile: expected a multiple of 32 pixels, got 40"):
        build("wan2.1", tile=40)


@torch.no_grad()
def test_a_hole_in_a_frame_stays_local() -> None:
    """Nothing in the small autoencoder carries one corner's content across the whole frame."""
    autoencoder = FrameAutoencoder().eval()
    for module in autoencoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.05)
    frames = torch.rand(1, 1, 3, 128, 192, generator=torch.Generator().manual_seed(0))
    holed = frames.clone()
    holed[..., :8, :8] = 0
    difference = (autoencoder.encode(frames) - autoencoder.encode(holed)).abs().amax(dim=(0, 1, 2))
    assert difference[:2, :2].min() > 0
    assert difference[16:].max() == 0
    assert difference[:, 16:].max() == 0


@torch.no_grad()
def test_the_default_autoencoder_is_small_and_bounded() -> None:
    autoencoder = FrameAutoencoder()
    assert 0.9e6 < sum(parameter.numel() for parameter in autoencoder.parameters()) < 1.2e6
    for parameter in autoencoder.encoder[-1].parameters():
        parameter.mul_(1e4)
    assert autoencoder.encode(torch.rand(1, 1, 3, 16, 16)).abs().max() <= 3


@torch.no_grad()
def test_depth_of_the_small_autoencoder_is_positive_metres() -> None:
    autoencoder = build("frame")
    frames, depth = autoencoder.decode_with_depth(torch.randn(2, 5, 3, 2, 3))
    assert frames.shape == (2, 3, 3, 8, 12)
    assert depth.shape == (2, 3, 8, 12)
    _, log_depth = autoencoder.decode_images(torch.zeros(1, 5, 2, 3))
    torch.testing.assert_close(autoencoder.decode_with_depth(torch.zeros(1, 5, 1, 2, 3))[1], log_depth.exp())
    assert depth.min() > 0


@torch.no_grad()
def test_the_small_autoencoder_survives_a_round_trip_with_its_normalisation(tmp_path: Path) -> None:
    autoencoder = build("frame")
    frames = noise_frames(autoencoder, 2)
    plain = autoencoder.encode(frames)
    decoded = autoencoder.decode(plain)
    autoencoder.normalise_by([0.5] * 5, [2.0] * 5)
    torch.testing.assert_close(autoencoder.encode(frames), (plain - 0.5) / 2)
    torch.testing.assert_close(autoencoder.decode(autoencoder.encode(frames)), decoded, atol=1e-5, rtol=0)
    autoencoder.save_pretrained(tmp_path / "vae")
    loaded = load_autoencoder(tmp_path)
    assert isinstance(loaded, FrameAutoencoder)
    assert torch.equal(loaded.encode(frames), autoencoder.encode(frames))


@torch.no_grad()
def test_wan_survives_a_round_trip(tmp_path: Path) -> None:
    autoencoder = build("wan2.2")
    autoencoder.save_pretrained(tmp_path / "vae")
    loaded = load_autoencoder(tmp_path)
    assert isinstance(loaded, WanAutoencoder)
    frames = noise_frames(autoencoder, 5)
    assert torch.equal(loaded.encode(frames), autoencoder.encode(frames))
    with pytest.raises(MissingWeightsError, match="expected a AutoencoderKLWan saved by diffusers"):
        load_autoencoder(tmp_path / "vae")


def test_gradients_flow_through_the_small_autoencoder() -> None:
    autoencoder = build("frame").train()
    images, log_depth = autoencoder.decode_images(autoencoder.encode_images(torch.rand(2, 3, 16, 16)))
    (images.square().mean() + log_depth.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in autoencoder.parameters())


def test_blocks_that_refine_change_nothing_until_they_are_trained() -> None:
    torch.manual_seed(0)
    plain = FrameAutoencoder(channels=4, width=8, stem_width=8, decoder_blocks=1)
    refined = FrameAutoencoder(channels=4, width=8, stem_width=8, decoder_blocks=1, refine_blocks=2)
    latents = torch.randn(1, 4, 3, 4)
    weights = iter(plain.decoder.parameters())
    blocks = [
        module for module in refined.decoder if isinstance(module, ResidualBlock) and module.first.in_channels == 8
    ]
    added = {id(parameter) for block in blocks[-2:] for parameter in block.parameters()}
    for parameter in refined.decoder.parameters():
        if id(parameter) not in added:
            parameter.data.copy_(next(weights))
    assert torch.allclose(refined.decode_images(latents)[0], plain.decode_images(latents)[0], atol=1e-6)
    torch.nn.init.normal_(blocks[-1].second.weight)
    assert not torch.allclose(refined.decode_images(latents)[0], plain.decode_images(latents)[0], atol=1e-3)
