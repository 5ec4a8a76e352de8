"""The distance between patches sees fog and streaks that PSNR prefers to a wall."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from mirage_ros.evaluation.hidden_regions import (
    LEAST_PATCHES,
    PATCH,
    PATCHES,
    frechet_distance,
    hidden_distance,
    hidden_patches,
)
from mirage_ros.evaluation.kept_parts import keep


def walls(seed: int, count: int = 24) -> np.ndarray:
    """(T, 128, 192, 3) brick walls, each with bricks of its own and shifted."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        image = np.full((128, 192, 3), 200, np.uint8)
        shift, height, width = rng.integers(0, 16, 2), 10, 22
        for row, top in enumerate(range(-16, 128, height)):
            for left in range(-40 + 11 * (row % 2), 192, width):
                colour = tuple(int(c) for c in np.array([150, 80, 60]) + rng.integers(-25, 25))
                x, y = left + int(shift[0]), top + int(shift[1])
                cv2.rectangle(image, (x, y), (x + width - 3, y + height - 3), colour, -1)
        images.append(image)
    return np.stack(images)


EVERYWHERE = np.ones((24, 128, 192), bool)


def test_other_walls_are_nearer_than_fog_or_streaks():
    truth = hidden_patches(walls(0), EVERYWHERE)
    fog = np.stack([cv2.GaussianBlur(image, (0, 0), 8) for image in walls(0)])
    streaks = np.repeat(walls(0)[:, :, :1], 192, axis=2)
    others, blurred, streaked = (
        frechet_distance([hidden_patches(images, EVERYWHERE)], [truth]) for images in (walls(1), fog, streaks)
    )
    assert frechet_distance([truth], [truth[:500], truth[500:]]) == pytest.approx(0, abs=1e-3)
    assert others < 0.2 * blurred
    assert others < 0.2 * streaked


def test_only_patches_that_are_mostly_hidden_count():
    hidden = np.zeros((24, 128, 192), bool)
    hidden[:, : 2 * PATCH, : PATCH // 2] = True
    assert len(hidden_patches(walls(0), hidden)) == 0
    hidden[:, : 2 * PATCH, :PATCH] = True
    patches = hidden_patches(walls(0), hidden)
    assert patches.shape == (24 * 2, 192)
    first = cv2.resize(walls(0)[0, :PATCH, :PATCH], (8, 8), interpolation=cv2.INTER_AREA)
    assert np.array_equal(patches[0], first.reshape(-1))


def test_too_few_patches_have_no_distance():
    few = hidden_patches(walls(0), EVERYWHERE)[: LEAST_PATCHES - 1]
    assert np.isnan(frechet_distance([few], [few]))


def test_a_picture_smaller_than_a_patch_has_none():
    assert hidden_patches(walls(0)[:, : PATCH - 1], EVERYWHERE[:, : PATCH - 1]).shape == (0, 192)


def test_answers_are_compared_with_the_truth_of_the_same_cases(tmp_path):
    """Also those of the method that is the truth: a run may keep both."""
    for case, seed in (("a", 0), ("b/first", 1)):
        keep(tmp_path, PATCHES, case, hidden_patches(walls(seed), EVERYWHERE))
        keep(tmp_path, PATCHES, case, hidden_patches(walls(seed), EVERYWHERE), "truth")
        keep(tmp_path, PATCHES, case, hidden_patches(walls(seed + 5), EVERYWHERE), "mirage")
    assert hidden_distance(tmp_path, "truth") == pytest.approx(0, abs=1e-6)
    assert hidden_distance(tmp_path, "mirage") > 0
    assert np.isnan(hidden_distance(tmp_path, "copy"))
    keep(tmp_path, PATCHES, "c", hidden_patches(walls(2), EVERYWHERE))
    assert np.isnan(hidden_distance(tmp_path, "mirage"))
