"""A classifier tells fog from walls, and the truth from itself not at all."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mirage_ros.evaluation import two_sample
from mirage_ros.evaluation.kept_parts import keep
from mirage_ros.evaluation.two_sample import WINDOWS, hidden_windows, kept_auc, two_sample_auc

WALKS, FRAMES, SIZE = 4, 12, (64, 96)
HIDDEN = np.zeros((FRAMES, *SIZE), bool)
HIDDEN[:, :, 32:] = True


def walk(seed: int) -> np.ndarray:
    """(T, 64, 96, 3) walls of stripes, each walk and frame in colours of its own."""
    rng = np.random.default_rng(seed)
    columns = np.arange(SIZE[1])
    images = []
    for _ in range(FRAMES):
        stripes = ((columns + rng.integers(0, 12)) // 6 % 2)[None, :, None] * rng.integers(30, 90, 3)
        images.append(np.broadcast_to(rng.integers(40, 120, 3) + stripes, (*SIZE, 3)))
    return np.stack(images).astype(np.uint8)


def windows(walks: list[np.ndarray], parity: int) -> list[np.ndarray]:
    return [hidden_windows(frames, HIDDEN, parity) for frames in walks]


def fog(frames: np.ndarray) -> np.ndarray:
    """What is hidden without its stripes."""
    blurred = np.stack([cv2.GaussianBlur(image, (0, 0), 8) for image in frames])
    return np.where(HIDDEN[..., None], blurred, frames)


@pytest.fixture(autouse=True)
def short(monkeypatch) -> None:
    """Stripes are learned quickly."""
    monkeypatch.setattr(two_sample, "STEPS", 60)


@pytest.fixture(scope="module")
def truth() -> list[np.ndarray]:
    torch.set_num_threads(1)
    return [walk(seed) for seed in range(WALKS)]


def test_fog_is_told_from_walls_and_the_truth_from_itself_not(truth):
    theirs = windows(truth, 0)
    foggy = windows([fog(frames) for frames in truth], 1)
    assert two_sample_auc(foggy, theirs) > 0.95
    assert two_sample_auc(windows(truth, 1), theirs) == pytest.approx(0.5, abs=0.15)
    assert two_sample_auc(foggy, theirs, seed=3) == two_sample_auc(foggy, theirs, seed=3)


def test_a_test_leaves_the_random_numbers_of_others_alone(truth):
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    two_sample_auc(windows(truth, 1), windows(truth, 0))
    assert torch.equal(torch.rand(3), wanted)


def test_windows_show_hidden_places_with_what_is_around_them():
    frames = walk(0)
    halves = [hidden_windows(frames, HIDDEN, parity) for parity in (0, 1)]
    # 4 x 4 of the 4 x 6 cells of each frame are hidden, and either half has every other one.
    assert [half.shape for half in halves] == [(FRAMES * 8, 24, 24, 4)] * 2
    small = cv2.resize(frames[0], (48, 32), interpolation=cv2.INTER_AREA)
    first = halves[0][0]
    assert np.array_equal(first[8:, :, :3], small[:16, 8:32])
    # To the left it is known, above the picture ends.
    assert first[8:, :8, 3].max() == 0
    assert first[8:, 8:, 3].min() == 255
    assert np.array_equal(first[:8, :, :3], np.broadcast_to(small[:1, 8:32], (8, 24, 3)))


def test_a_long_walk_gives_no_more_windows_than_another():
    assert len(hidden_windows(np.tile(walk(0), (5, 1, 1, 1)), np.tile(HIDDEN, (5, 1, 1)), 0)) == 400


def test_too_little_has_no_area(truth):
    theirs = windows(truth, 0)
    assert np.isnan(two_sample_auc(theirs[:1], theirs[:1]))
    assert np.isnan(two_sample_auc([], []))
    few = [each[:40] for each in theirs]
    assert np.isnan(two_sample_auc(few, theirs))
    with pytest.raises(ValueError, match="windows: expected those of as many walks, got 3 and 4"):
        two_sample_auc(theirs[:3], theirs)


def test_a_run_compares_answers_to_the_same_cases(truth, tmp_path):
    for number, frames in enumerate(truth):
        keep(tmp_path, WINDOWS, f"walk-{number}", hidden_windows(frames, HIDDEN, 0))
        keep(tmp_path, WINDOWS, f"walk-{number}", hidden_windows(fog(frames), HIDDEN, 1), "mirage")
    assert kept_auc(tmp_path, "mirage") > 0.95
    assert np.isnan(kept_auc(tmp_path, "copy"))
    keep(tmp_path, WINDOWS, "another", hidden_windows(truth[0], HIDDEN, 0))
    assert np.isnan(kept_auc(tmp_path, "mirage"))
