"""Which points views see."""

from __future__ import annotations

import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.visibility import pixels_of, sample_pixels, sees

# Two views of 4 x 6 pixels, the second one metre to the right.
POSES = torch.eye(4).repeat(2, 1, 1)
POSES[1, 0, 3] = 1.0
CAMERA = pinhole(4, 6, focal=3.0, cam2world=POSES)


def test_points_fall_into_pixels_of_views_or_outside() -> None:
    points = torch.tensor([[0.0, 0, 3], [-0.99, -0.65, 1], [-1.01, 0, 1], [0, 0, -1], [torch.nan] * 3])
    pixel, distance = pixels_of(CAMERA, points)
    assert pixel.tolist() == [[15, 0, -1, -1, -1], [14, -1, -1, -1, -1]]
    assert distance[:, :4].tolist() == [[3, 1, 1, -1]] * 2


def test_samples_are_the_pixels_values() -> None:
    image = torch.arange(24.0).reshape(4, 6)
    found = sample_pixels(image.expand(2, 4, 6), torch.tensor([[15, -1], [0, 23]]))
    assert found.nan_to_num(-1).tolist() == [[15, -1], [0, 23]]


@pytest.mark.parametrize(
    ("metres", "seen"), [(3.0, True), (3.1, True), (3.4, False), (2.6, False), (0.0, False), (torch.inf, False)]
)
def test_a_view_sees_what_stands_at_the_depth_that_it_measured(metres: float, seen: bool) -> None:
    depth = torch.full((2, 4, 6), metres)
    depth[1] = torch.nan
    assert sees(CAMERA, depth, torch.tensor([[0.0, 0, 3]]), 0.05).tolist() == [[seen], [False]]


def test_batches_of_points_meet_batches_of_views() -> None:
    points = torch.randn(5, 1, 7, 3, generator=torch.Generator().manual_seed(0)) + torch.tensor([0, 0, 2.0])
    depth = torch.full((5, 2, 4, 6), 2.0)
    together = sees(CAMERA, depth, points, 0.5)
    assert together.shape == (5, 2, 7)
    assert together.any()
    for index in range(2):
        assert torch.equal(together[:, index], sees(CAMERA[index], depth[:, index], points[:, 0], 0.5))
    # One view and one depth, points of several frames.
    alone = sees(CAMERA[0], depth[0, 0], points[:, 0], 0.5)
    assert torch.equal(alone, together[:, 0])
