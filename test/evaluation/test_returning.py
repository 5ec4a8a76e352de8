"""What was invented and is gone on return is told from what stays, and fog from both."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mirage_ros.evaluation.returning import AWAY, kept_on_return, returns
from mirage_ros.geometry import pinhole

SIZE = (64, 96)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """(6, 64, 96, 3) three views of other places, and the same backwards."""
    noise = np.random.default_rng(0).normal(size=(3, *SIZE))
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in noise])
    there = (128 + smooth / smooth.std() * 40).clip(0, 255).astype(np.uint8)[..., None].repeat(3, -1)
    return np.concatenate([there, there[::-1]])


PAIRS = [(0, 5), (1, 4), (2, 3)]
HIDDEN = np.zeros((6, *SIZE), bool)
HIDDEN[:, :, 40:] = True


def test_what_is_there_again_counts_whatever_its_brightness(truth):
    darker = truth.copy()
    darker[3:] = truth[3:] // 4 * 3
    assert kept_on_return(truth, truth, HIDDEN, PAIRS) == 1
    assert kept_on_return(darker, truth, HIDDEN, PAIRS) == pytest.approx(1, abs=0.01)
    # A pixel beside is the same place, ten are not.
    assert kept_on_return(np.concatenate([truth[:3], np.roll(truth[3:], 1, 2)]), truth, HIDDEN, PAIRS) > 0.95
    assert kept_on_return(np.concatenate([truth[:3], np.roll(truth[3:], 10, 2)]), truth, HIDDEN, PAIRS) < 0.3


def test_something_else_in_one_of_three_views_is_not_kept(truth):
    changed = truth.copy()
    changed[4] = truth[0]
    assert kept_on_return(changed, truth, HIDDEN, PAIRS) == pytest.approx(2 / 3, abs=0.1)


def test_fog_keeps_nothing_though_it_stays(truth):
    fog = np.stack([cv2.GaussianBlur(image, (0, 0), 8) for image in truth])
    assert kept_on_return(fog, truth, HIDDEN, PAIRS) < 0.1


def test_what_was_never_hidden_does_not_count(truth):
    spoiled = truth.copy()
    spoiled[3:, :, :30] = 255 - truth[3:, :, :30]
    assert kept_on_return(spoiled, truth, HIDDEN, PAIRS) == 1
    assert np.isnan(kept_on_return(truth, truth, np.zeros_like(HIDDEN), PAIRS))
    assert np.isnan(kept_on_return(truth, truth, HIDDEN, []))


def test_a_return_is_the_same_place_and_direction_long_after():
    count = 2 * AWAY + 1
    poses = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    poses[:, 0, 3] = 0.1 * (AWAY - (torch.arange(count) - AWAY).abs())
    camera = pinhole(*SIZE, focal=40.0, cam2world=poses)
    # Nearer to the far end it is the same chunk's view, or the next one's.
    assert returns(camera) == [(first, count - 1 - first) for first in range(AWAY // 2 + 1)]
    turn = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]], dtype=torch.float64)
    poses[AWAY + 1 :, :3, :3] = turn
    assert returns(pinhole(*SIZE, focal=40.0, cam2world=poses)) == []
