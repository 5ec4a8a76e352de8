"""Pictures of the window."""

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import ImaginedFrame
from mirage_ros.viewer.drawing import compared, letterboxed, nearest, tinted


def batch(depth: float, visible: float) -> ImaginedFrame:
    plain = np.ones((3, 6, 9), np.float32)
    rgb = np.full((3, 6, 9, 3), 100, np.uint8)
    camera = pinhole(6, 9, focal=5.0, cam2world=torch.eye(4).repeat(3, 1, 1))
    return ImaginedFrame(rgb, depth * plain, camera, visible=visible * plain, coverage=visible * plain[:, 0, 0])


def test_only_what_was_invented_is_tinted():
    visible = np.array([[1.0, 0.0]], np.float32)
    grey, orange = tinted(np.full((1, 2, 3), 100, np.uint8), visible)[0].astype(int)
    assert (grey == 100).all()
    assert orange[0] > orange[1] > orange[2]


@pytest.mark.parametrize("aspect", [0.5, 1.5, 3.0])
def test_a_letterboxed_picture_keeps_its_shape_in_a_window_of_any(aspect):
    boxed = letterboxed(np.full((100, 150, 3), 255, np.uint8), aspect)
    height, width = boxed.shape[:2]
    assert width / height == pytest.approx(aspect, rel=0.02)
    lit = boxed[..., 0] > 128
    assert lit.any(axis=0).sum() / lit.any(axis=1).sum() == pytest.approx(1.5, rel=0.02)


def test_candidates_are_compared_by_what_is_new_and_what_is_near():
    frames = batch(2.0, 0.25)
    frames.depth[1, 3, 4] = 0.5
    frames.depth[2, 3, 4] = 0.0
    text, sheet = compared(["left", "right"], [frames, batch(np.inf, 1.0)])
    assert nearest(frames) == 0.5
    assert "| left | 75% | 0.5 m |" in text
    assert "| right | 0% | inf m |" in text
    assert sheet.shape[2] == 3
