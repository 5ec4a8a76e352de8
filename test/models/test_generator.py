"""What the generator changes, how it splits residuals and noise, and that samples are as strong as residuals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirage_ros.models.generator import COARSE, Generator, OpenView
from mirage_ros.models.network_files import load_part, save_part


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(0)
    return Generator(6, 5, latent_channels=4, widths=(32, 64), coarse_widths=(32,), scale_widths=(32, 32)).eval()


def white_noise() -> torch.Tensor:
    return torch.randn(2, 6, 16, 24)


def view(count: int = 2) -> OpenView:
    torch.manual_seed(1)
    is_open = torch.zeros(count, 6, 8, 12, dtype=torch.bool)
    is_open[..., 5:] = True
    return OpenView(torch.randn(count, 6, 8, 12), torch.randn(count, 5, 8, 12), is_open)


def test_only_what_is_open_is_drawn_and_seeds_differ_there(generator):
    opening, finished = view(), []
    first, second = (generator.draw(opening, white_noise(), 3, finished.append) for _ in range(2))
    assert finished == [1, 2, 3, 1, 2, 3]
    assert torch.equal(first[~opening.is_open], opening.mean[~opening.is_open])
    assert (first - second)[opening.is_open].abs().min() > 0
    assert not torch.equal(first[:, :, :, 5:], opening.mean[:, :, :, 5:])


def test_what_is_known_is_not_seen_through_noise(generator):
    opening, level = view(), torch.full((2,), 0.5)
    noisy = torch.randn(opening.mean.shape)
    with torch.no_grad():
        flows = [
            generator.fine_flow(torch.where(opening.is_open, noisy, other), level, opening) for other in (noisy, -noisy)
        ]
    assert torch.equal(*flows)


def test_a_grid_that_cannot_be_halved_is_drawn_too(generator):
    opening = OpenView(torch.randn(1, 6, 12, 20), torch.randn(1, 5, 12, 20), torch.ones(1, 6, 12, 20, dtype=torch.bool))
    assert generator.draw(opening, torch.randn(1, 6, 24, 40), 1).shape == opening.mean.shape
    flow = generator.fine_flow(torch.randn(1, 6, 13, 19), torch.ones(1), view_of(13, 19))
    assert flow.shape == (1, 6, 13, 19)
    with pytest.raises(ValueError, match=r"mean: expected rows and columns that 4 divides, got \(14, 20\)"):
        generator.draw(view_of(14, 20), torch.randn(1, 6, 28, 40), 1)


def view_of(height: int, width: int) -> OpenView:
    is_open = torch.ones(1, 6, height, width, dtype=torch.bool)
    return OpenView(torch.randn(1, 6, height, width), torch.randn(1, 5, height, width), is_open)


def test_a_sample_has_the_strength_and_the_correlations_of_residuals(generator):
    opening = view()
    factor = torch.tril(torch.randn(6, 6)) + 2 * torch.eye(6)
    generator.fit(factor @ factor.T)
    # Latents and depth, the last two, do not mix.
    assert not generator.mixing[4:, :4].any()
    assert torch.allclose(generator.mixing @ generator.mixing.T, factor @ factor.T * generator_blocks(), atol=1e-3)
    residual = torch.where(opening.is_open, torch.randn(2, 6, 8, 12), 0.0)
    unmixed = generator.unmixed(residual)
    generator.deviations.fill_(0.5)
    coarse, _ = generator.coarse_part(unmixed, opening.is_open)
    corrected = generator.corrected(opening, coarse)
    left = unmixed - generator.unmixed(corrected.mean - opening.mean)
    # Networks that know the residual lead to it from any noise.
    generator.coarse_flow = lambda noisy, sigma, condensed: (noisy - coarse) / sigma[:, None, None, None]
    generator.fine_flow = lambda noisy, sigma, opening: (noisy - left) / sigma[:, None, None, None]
    drawn = generator.draw(opening, white_noise(), 4)
    assert torch.allclose(drawn[..., 5:], (opening.mean + residual)[..., 5:], atol=1e-4)


def generator_blocks() -> torch.Tensor:
    return torch.block_diag(torch.ones(4, 4), torch.ones(2, 2))


def test_coarse_cells_are_means_over_what_is_open(generator):
    opening = view()
    unmixed = torch.randn(2, 6, 8, 12)
    generator.deviations.fill_(2)
    coarse, counted = generator.coarse_part(unmixed, opening.is_open)
    assert coarse.shape == (2, 6, 2, 3)
    assert not counted[..., 0].any()
    assert counted[..., 1:].all()
    assert torch.allclose(coarse[..., 0, 1], unmixed[:, :, :4, 5:8].mean(dim=(-2, -1)) / 2, atol=1e-5)


def test_noise_has_unit_variance_and_as_much_of_every_octave_that_the_coarse_part_lacks(generator):
    white = torch.randn(100, 6, 64, 96)
    coarse, fine = generator.coarse_noise(white), generator.fine_noise(white)
    assert fine.shape == (100, 6, 32, 48)
    assert coarse.shape == (100, 6, 8, 12)
    shares = {
        side: float(torch.nn.functional.avg_pool2d(fine[:, :4], side).square().mean()) for side in (1, 2, COARSE, 8)
    }
    assert shares[1] == pytest.approx(1, abs=0.1)
    assert shares[2] > 0.4
    assert shares[COARSE] < 0.25
    means = [float(torch.nn.functional.avg_pool2d(coarse[:, :4], side).square().mean()) for side in (1, 2, 4)]
    assert means[0] == pytest.approx(1, abs=0.15)
    steps = -np.diff(means)
    assert (steps > 0.1).all()
    assert (steps < 0.3).all()
    # Depth has more of what is large.
    assert float(torch.nn.functional.avg_pool2d(coarse[:, 4:], 4).square().mean()) > means[2] + 0.05


def test_one_open_channel_opens_its_kind_in_a_cell(generator):
    is_open = torch.zeros(1, 6, 2, 2, dtype=torch.bool)
    is_open[0, 1, 0, 0] = is_open[0, 5, 1, 1] = True
    opened = generator.opened(is_open)
    assert opened[0, :4, 0, 0].all()
    assert opened[0, 4:, 1, 1].all()
    assert opened.sum() == 6


def test_saved_and_loaded_it_draws_the_same_and_in_bfloat16_nearly(generator, tmp_path):
    opening, noise = view(), white_noise()
    before = generator.draw(opening, noise, 2)
    save_part(generator, tmp_path / "generator")
    loaded = load_part(Generator, tmp_path, "generator").eval()
    assert torch.equal(loaded.draw(opening, noise, 2), before)
    loaded.cast(torch.bfloat16)
    drawn = loaded.draw(opening, noise, 2)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[~opening.is_open], opening.mean[~opening.is_open])
    assert (drawn - before).abs().max() < 0.15
