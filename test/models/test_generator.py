"""What the generator may change, and that flow matching by it can be learned and drawn from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirage_ros.models.generator import Generator
from mirage_ros.models.network_files import load_part, save_part


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(6, 5, latent_channels=4, widths=(32, 64)).eval()


def white_noise() -> torch.Tensor:
    return torch.randn(2, 6, 16, 24)


def conditions(count: int = 2) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    is_open = torch.zeros(count, 6, 8, 12, dtype=torch.bool)
    is_open[..., 5:] = True
    return torch.randn(count, 6, 8, 12), torch.randn(count, 5, 8, 12), is_open


def test_only_what_is_open_is_drawn_and_seeds_differ_there(generator):
    mean, memory, is_open = conditions()
    finished: list[int] = []
    first, second = (generator.draw(mean, memory, is_open, white_noise(), 3, finished.append) for _ in range(2))
    assert finished == [1, 2, 3, 1, 2, 3]
    assert torch.equal(first[~is_open], mean[~is_open])
    assert (first - second)[is_open].abs().min() > 0
    assert not torch.equal(first[:, :, :, 5:], mean[:, :, :, 5:])


def test_what_is_known_is_not_seen_through_noise(generator):
    mean, memory, is_open = conditions()
    noisy, level = torch.randn(mean.shape), torch.full((2,), 0.5)
    with torch.no_grad():
        flows = [
            generator(torch.where(is_open, noisy, other), level, mean, memory, is_open) for other in (noisy, -noisy)
        ]
    assert torch.equal(*flows)


def test_a_sample_has_the_strength_and_the_correlations_of_residuals(generator):
    mean, memory, is_open = conditions()
    factor = torch.tril(torch.randn(6, 6)) + 2 * torch.eye(6)
    generator.fit(factor @ factor.T)
    # Latents and depth, the last two, do not mix.
    assert not generator.mixing[4:, :4].any()
    assert torch.allclose(generator.mixing @ generator.mixing.T, factor @ factor.T * generator_blocks(), atol=1e-3)
    residual = torch.randn(2, 6, 8, 12)
    unmixed = generator.unmixed(residual)
    # A network that knows the residual leads to it from any noise.
    generator.forward = lambda noisy, sigma, *others: (noisy - unmixed) / sigma[:, None, None, None]
    drawn = generator.draw(mean, memory, is_open, white_noise(), 4)
    assert torch.allclose(drawn[..., 5:], (mean + residual)[..., 5:], atol=1e-4)


def generator_blocks() -> torch.Tensor:
    return torch.block_diag(torch.ones(4, 4), torch.ones(2, 2))


def test_noise_has_as_much_of_every_octave_and_unit_variance(generator):
    noise = generator.coloured(torch.randn(100, 6, 64, 96))
    assert noise.shape == (100, 6, 32, 48)
    shares = [float(torch.nn.functional.avg_pool2d(noise[:, :4], side).square().mean()) for side in (1, 2, 4, 8, 16)]
    assert shares[0] == pytest.approx(1, abs=0.1)
    steps = -np.diff(shares)
    assert (steps > 0.1).all()
    assert (steps < 0.25).all()
    # Depth has more of what is large.
    assert float(torch.nn.functional.avg_pool2d(noise[:, 4:], 8).square().mean()) > shares[3] + 0.05


def test_one_open_channel_opens_its_kind_in_a_cell(generator):
    is_open = torch.zeros(1, 6, 2, 2, dtype=torch.bool)
    is_open[0, 1, 0, 0] = is_open[0, 5, 1, 1] = True
    opened = generator.opened(is_open)
    assert opened[0, :4, 0, 0].all()
    assert opened[0, 4:, 1, 1].all()
    assert opened.sum() == 6


def test_saved_and_loaded_it_draws_the_same_and_in_bfloat16_nearly(generator, tmp_path):
    mean, memory, is_open = conditions()
    noise = white_noise()
    before = generator.draw(mean, memory, is_open, noise, 2)
    save_part(generator, tmp_path / "generator")
    loaded = load_part(Generator, tmp_path, "generator").eval()
    assert torch.equal(loaded.draw(mean, memory, is_open, noise, 2), before)
    loaded.cast(torch.bfloat16)
    drawn = loaded.draw(mean, memory, is_open, noise, 2)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[~is_open], mean[~is_open])
    assert (drawn - before).abs().max() < 0.1
