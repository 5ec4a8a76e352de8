"""Which view is drawn, where it goes, and how it is fitted to the place."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from mirage_ros.models import exemplars as module
from mirage_ros.models.exemplars import CELL, Exemplars
from mirage_ros.models.network_files import load_part, save_part

COUNT, CHANNELS, LATENTS, HEIGHT, WIDTH = 40, 6, 4, 16, 24
NONE = torch.zeros(1, COUNT, dtype=torch.bool)


def smooth(count: int, seed: int) -> torch.Tensor:
    coarse = torch.randn(count, CHANNELS, 4, 6, generator=torch.Generator().manual_seed(seed))
    return interpolate(coarse, size=(HEIGHT, WIDTH), mode="bilinear")


@pytest.fixture
def truths() -> torch.Tensor:
    fine = torch.randn(COUNT, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(7))
    return smooth(COUNT, 1) + 0.3 * fine


@pytest.fixture
def exemplars(truths) -> Exemplars:
    everywhere = torch.ones(COUNT, 1, HEIGHT, WIDTH, dtype=torch.bool)
    return Exemplars.of(truths, smooth(COUNT, 2), everywhere, LATENTS).eval()


@pytest.fixture
def untamed(monkeypatch):
    """All of a view, with what the mean lacks at large."""
    monkeypatch.setattr(module, "TAMED", 0.0)


def right_half(count: int = 1, *, left: int = WIDTH // 2) -> torch.Tensor:
    is_open = torch.zeros(count, CHANNELS, HEIGHT, WIDTH, dtype=torch.bool)
    is_open[..., left:] = True
    return is_open


def no_luck(count: int = 1) -> torch.Tensor:
    return torch.zeros(count, COUNT)


def test_the_view_of_the_same_place_is_found_and_fits_as_it_is(untamed, exemplars, truths):
    is_open = right_half(COUNT)
    places = torch.where(is_open, smooth(COUNT, 2), truths)
    drawn = exemplars.draw(places, is_open, no_luck(COUNT), NONE.expand(COUNT, -1))[0]
    assert (drawn - truths).abs().max() < 3 * float(exemplars.step.max())
    assert torch.equal(drawn[~is_open], places[~is_open])


def test_what_is_large_in_a_view_is_nearer_to_the_mean_than_it_was(exemplars, truths):
    is_open = right_half(COUNT, left=0)
    means = smooth(COUNT, 2)
    drawn = exemplars.draw(means, is_open, no_luck(COUNT), NONE.expand(COUNT, -1))[0]
    far, estimate, truth = (avg_pool2d(values, CELL) for values in (drawn, means, truths))
    # Between the middles of coarse cells the change is interpolated, which leaves some of it undone.
    left = ((far - estimate) * (truth - estimate)).sum() / (truth - estimate).square().sum()
    assert 1 - module.TAMED < float(left) < 1 - module.TAMED / 2
    # What is smaller than a coarse cell stays, but for that interpolation.
    fine = [values - interpolate(avg_pool2d(values, CELL), scale_factor=CELL) for values in (drawn, truths)]
    assert float((fine[0] * fine[1]).sum() / fine[1].square().sum()) > 1 - module.TAMED / 2


def test_a_view_is_moved_sideways_to_where_it_fits(exemplars, truths):
    is_open = right_half(COUNT, left=2 * CELL)
    is_open[..., 4 * CELL :] = False
    for shift in (CELL, -CELL):
        means, true = (torch.roll(value, shift, dims=3) for value in (smooth(COUNT, 2), truths))
        drawn = exemplars.draw(torch.where(is_open, means, true), is_open, no_luck(COUNT), NONE.expand(COUNT, -1))[0]
        # Another view would be off by about .9.
        assert (drawn - true)[is_open].abs().mean() < 0.2


def test_of_views_that_look_alike_at_large_one_is_taken_that_goes_on_from_what_is_known_and_moved_there(truths):
    # All of one estimate, so that nothing but the border tells them apart.
    alike, everywhere = smooth(1, 2).expand(COUNT, -1, -1, -1), torch.ones(COUNT, 1, HEIGHT, WIDTH, dtype=torch.bool)
    views = alike + truths - interpolate(avg_pool2d(truths, CELL), scale_factor=CELL)
    exemplars = Exemplars.of(views, alike, everywhere, LATENTS)
    is_open = right_half()
    for wanted, move in ((5, (0, 0)), (23, (1, -2)), (30, (-2, 3))):
        moved = torch.roll(views[wanted : wanted + 1], move, dims=(2, 3))
        # None is quite like the place: rounding shall not decide.
        drawn, picked = exemplars.draw(torch.where(is_open, alike[:1] + 0.5, moved), is_open, no_luck(), NONE)
        assert picked.tolist() == [wanted]
        inner = (slice(None), slice(None), slice(3, -3), slice(WIDTH // 2, -3))
        fine = [values - avg_pool2d(values, 3, 1, 1) for values in (drawn, moved)]
        assert torch.corrcoef(torch.stack([values[inner].flatten() for values in fine]))[0, 1] > 0.9


def test_distances_are_the_weighted_squares_written_out(exemplars):
    place, is_open = smooth(2, 3), right_half(2, left=15)
    found = exemplars.distances(place, is_open)
    scale = exemplars.deviations[:, None, None]
    wanted = exemplars._pooled(place)[1] / scale
    share = exemplars._pooled(is_open[:, :1].float())[1, 0]
    around = torch.nn.functional.max_pool2d(share[None], 2 * module.REACH + 1, 1, module.REACH)[0] - share
    means, truths = (exemplars._values(stored) / scale for stored in (exemplars.means, exemplars.truths))
    columns = wanted.shape[-1]
    for shift in (-3, 0, 2):
        total = torch.zeros(COUNT)
        for column in range(columns):
            own, near = share[:, column], module.AROUND * around[:, column]
            if 0 <= column - shift < columns:
                for weight, view in ((own, means), (near, truths)):
                    apart = (view[..., column - shift] - wanted[..., column]).square().mean(dim=1)
                    total += (weight * apart).sum(dim=1)
            else:
                total += float((module.COVERED * own + module.OUTSIDE * near).sum())
        total = total / float((share + module.AROUND * around).sum())
        assert torch.allclose(found[1, :, shift + module.SHIFT], total, atol=1e-4), shift


def test_a_view_that_was_seen_where_the_place_is_hidden_is_no_match(truths):
    half = right_half(COUNT)[:, :1]
    half[: COUNT // 2] = True
    exemplars = Exemplars.of(truths, smooth(COUNT, 2), half, LATENTS)
    everywhere = torch.ones(COUNT, CHANNELS, HEIGHT, WIDTH, dtype=torch.bool)
    nearest = exemplars.distances(smooth(COUNT, 2), everywhere)[:, :, module.SHIFT].argmin(dim=1)
    assert (nearest < COUNT // 2).all()


def test_what_is_drawn_goes_on_from_what_is_known_and_follows_the_mean_far_from_it(untamed, exemplars, truths):
    left = 4
    is_open, offset = right_half(left=left), 0.4
    place = torch.where(is_open, smooth(COUNT, 2)[:1] + offset, truths[:1] - offset)
    drawn = exemplars.draw(place, is_open, no_luck(), NONE)[0]
    changed = (drawn - truths[:1])[..., left:].mean(dim=(0, 1, 2))
    beside, far = changed[0], changed[-6:].mean()
    # Between the -.4 of what is known and the .4 of the mean.
    assert -offset < float(beside) < offset / 4
    # What is known has no say beyond some cells.
    assert float(changed[module.BLEND]) > offset / 2
    assert float(far) == pytest.approx(offset, abs=0.05)


def test_chances_decide_between_near_views_and_never_for_far_ones(exemplars):
    is_open = right_half(left=0)
    place = smooth(COUNT, 2)[:1] * 0.05
    chances = torch.randn(300, COUNT, generator=torch.Generator().manual_seed(0))
    picked = torch.cat([exemplars._likely(place, is_open, chance[None], NONE)[0].argmax(dim=1) for chance in chances])
    nearest = exemplars.distances(place, is_open)[0].amin(dim=1)
    assert len(picked.unique()) > 3
    assert nearest[picked].mean() < nearest.mean()
    expected = (nearest / nearest.min()) ** -module.SHARPNESS
    shares = torch.bincount(picked, minlength=COUNT) / len(picked)
    assert torch.allclose(shares, expected / expected.sum(), atol=0.12)
    # And how they go on from what is known does not decide alone.
    beside, place = right_half(), torch.where(right_half(), place, 0.0)
    assert len({int(exemplars.draw(place, beside, chance[None], NONE)[1]) for chance in chances[:20]}) > 1


def test_what_is_barred_is_taken_only_where_there_is_nothing_else(exemplars):
    is_open = right_half(left=0)
    place = smooth(COUNT, 2)[5:6]
    assert exemplars.draw(place, is_open, no_luck(), NONE)[1].tolist() == [5]
    barred = NONE.clone()
    barred[0, 5] = True
    assert exemplars.draw(place, is_open, no_luck(), barred)[1].tolist() != [5]
    assert exemplars.draw(place, is_open, no_luck(), ~NONE)[1].tolist() == [5]
    barred = ~NONE
    barred[0, 33] = False
    assert exemplars.draw(place, is_open, no_luck(), barred)[1].tolist() == [33]


def test_a_place_is_drawn_alike_alone_and_among_others(exemplars):
    is_open = right_half(3)
    places = smooth(3, 5)
    chance = torch.randn(3, COUNT, generator=torch.Generator().manual_seed(1))
    together = exemplars.draw(places, is_open, chance, NONE.expand(3, -1))[0]
    for index in range(3):
        one = slice(index, index + 1)
        assert torch.equal(exemplars.draw(places[one], is_open[one], chance[one], NONE)[0], together[one])


def test_depth_that_is_known_stays_where_latents_are_drawn(exemplars):
    is_open = right_half()
    is_open[:, LATENTS:, :, :20] = False
    place = smooth(1, 4)
    drawn = exemplars.draw(place, is_open, no_luck(), NONE)[0]
    assert torch.equal(drawn[:, LATENTS:, :, :20], place[:, LATENTS:, :, :20])
    assert (drawn - place)[:, :LATENTS, :, 14:20].abs().mean() > 0.1


def test_a_place_of_another_grid_is_drawn_too(untamed, exemplars, truths):
    size = (24, 40)
    is_open = torch.ones(1, CHANNELS, *size, dtype=torch.bool)
    drawn = exemplars.draw(interpolate(smooth(COUNT, 2)[3:4], size=size, mode="bilinear"), is_open, no_luck(), NONE)[0]
    assert drawn.shape == (1, CHANNELS, *size)
    assert (drawn - interpolate(truths[3:4], size=size, mode="bilinear")).abs().mean() < 0.1


def test_exemplars_are_saved_as_bytes_and_draw_the_same_afterwards(truths, tmp_path, monkeypatch):
    # Of several tensors, none too large for a file.
    monkeypatch.setattr(module, "TOGETHER", 16)
    everywhere = torch.ones(COUNT, 1, HEIGHT, WIDTH, dtype=torch.bool)
    exemplars = Exemplars.of(truths, smooth(COUNT, 2), everywhere, LATENTS)
    assert [len(part) for part in exemplars.views] == [16, 16, 8]
    assert torch.allclose(exemplars.view(39), truths[39], atol=float(exemplars.step.max()))
    save_part(exemplars, tmp_path / "exemplars")
    loaded = load_part(Exemplars, tmp_path, "exemplars")
    assert loaded.views[0].dtype == torch.uint8
    place, is_open = smooth(1, 4), right_half()
    assert torch.equal(
        loaded.draw(place, is_open, no_luck(), NONE)[0], exemplars.draw(place, is_open, no_luck(), NONE)[0]
    )
    size = sum(file.stat().st_size for file in (tmp_path / "exemplars").glob("*.safetensors"))
    assert size < 1.2 * COUNT * CHANNELS * HEIGHT * WIDTH


def test_a_grid_of_broken_cells_is_refused():
    with pytest.raises(ValueError, match="views: expected rows and columns that 4 divides, got 18x24"):
        Exemplars(3, CHANNELS, LATENTS, 18, 24)
