"""Fog, mosaic and shifted colours each fail one of the measures; the truth fails none."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mirage_ros.evaluation.hidden_pixels import TOKEN, border_index, continuation, low_psnr
from mirage_ros.evaluation.metrics import MAX_PSNR, masked_psnr

SIZE = (96, 136)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """(4, 96, 136, 3) soft noise: any place is as rough as any other. Its last column of cells is half a cell."""
    noise = np.random.default_rng(0).normal(size=(4, *SIZE, 3))
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 3) for image in noise])
    return (128 + smooth / smooth.std() * 30).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def hidden() -> np.ndarray:
    mask = np.zeros((4, *SIZE), bool)
    mask[:, 20:, 30:] = True
    return mask


def mosaic(frames: np.ndarray) -> np.ndarray:
    """Every token in one colour."""
    small = np.stack([cv2.resize(image, (9, 6), interpolation=cv2.INTER_AREA) for image in frames])
    return small.repeat(TOKEN, 1).repeat(TOKEN, 2)[:, : SIZE[0], : SIZE[1]]


def test_grain_leaves_the_colours_at_large(truth, hidden):
    grain = np.random.default_rng(1).integers(-40, 41, truth.shape)
    grainy = (truth + grain).clip(0, 255).astype(np.uint8)
    shifted = (truth.astype(int) + 20).clip(0, 255).astype(np.uint8)
    assert low_psnr(grainy, truth, hidden) > masked_psnr(grainy, truth, hidden) + 15
    # One colour off everywhere is as wrong at large as it is in each pixel.
    assert low_psnr(shifted, truth, hidden) == pytest.approx(masked_psnr(shifted, truth, hidden), abs=0.1)
    assert low_psnr(truth, truth, hidden) == MAX_PSNR


def test_only_masked_pixels_make_a_mean(truth, hidden):
    spoiled = np.where(hidden[..., None], truth, 255 - truth)
    assert low_psnr(spoiled, truth, hidden) == MAX_PSNR
    assert np.isnan(low_psnr(truth, truth, np.zeros_like(hidden)))
    cell = np.zeros_like(hidden)
    cell[0, 16:32, 16:24] = True
    off = truth.copy()
    off[0, 16:32, 16:24] = truth[0, 16:32, 16:24] // 2
    error = off[cell].mean(axis=0) - truth[cell].mean(axis=0)
    assert low_psnr(off, truth, cell) == pytest.approx(10 * np.log10(255**2 / np.square(error).mean()), abs=1e-3)


def test_borders_of_tokens_show_in_a_mosaic_alone(truth, hidden):
    half = (truth // 2 + mosaic(truth) // 2).astype(np.uint8)
    fog = np.stack([cv2.GaussianBlur(image, (0, 0), 8) for image in truth])
    assert border_index(truth, hidden) == pytest.approx(1, abs=0.1)
    assert border_index(fog, hidden) == pytest.approx(1, abs=0.1)
    assert border_index(half, hidden) > 2
    # Where the mosaic is not, it does not count.
    assert border_index(np.where(hidden[..., None], truth, half), hidden) == border_index(truth, hidden)


def test_few_borders_or_one_colour_have_no_index(truth, hidden):
    few = np.zeros_like(hidden)
    few[0, 10:20, 10:20] = True
    assert np.isnan(border_index(truth, few))
    assert np.isnan(border_index(np.full_like(truth, 7), hidden))


def test_a_seam_is_a_greater_step_and_fading_a_smaller_one(truth, hidden):
    seam = np.where(hidden[..., None], (truth.astype(int) + 60).clip(0, 255).astype(np.uint8), truth)
    grey = np.where(hidden[..., None], np.uint8(128), truth)
    other = np.where(hidden[..., None], truth[::-1], truth)
    found = {
        name: continuation(frames, truth, hidden, ~hidden)
        for name, frames in {"truth": truth, "seam": seam, "grey": grey, "other": other}.items()
    }
    assert found["truth"] == pytest.approx({"seam_step": 1, "seam_match": 1})
    assert found["seam"]["seam_step"] > 1.5
    assert found["other"]["seam_step"] > 1.1
    # Only one of the two ends of a step is the truth's.
    assert found["other"]["seam_match"] < 0.8
    assert found["grey"]["seam_match"] < 0.9


def test_continuation_is_about_the_border_alone(truth, hidden):
    """Away from it anything may be."""
    inner = np.zeros_like(hidden)
    inner[:, 28:, 38:] = True
    spoiled = np.where(inner[..., None], 255 - truth, truth)
    assert continuation(spoiled, truth, hidden, ~hidden) == pytest.approx({"seam_step": 1, "seam_match": 1})
    assert np.isnan(continuation(truth, truth, hidden, np.zeros_like(hidden))["seam_step"])
    assert np.isnan(continuation(np.zeros_like(truth), truth, hidden, ~hidden)["seam_match"])


def test_shapes_that_differ_are_refused(truth, hidden):
    with pytest.raises(ValueError, match=r"frames: expected one shape, got .* with a mask \(3, 96, 136\)"):
        low_psnr(truth, truth, hidden[:3])
    with pytest.raises(ValueError, match=r"frames: .* with a mask \(4, 96, 135\)"):
        border_index(truth, hidden[..., 1:])
