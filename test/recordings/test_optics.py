"""What a recording does not tell of its cameras is found in it, and nothing is found where it was told right."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.recordings.optics import estimate, pairs_of, report
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

HEIGHT, WIDTH, COUNT = 240, 320, 8
# Of the depth camera: focal length by the colour camera's, metres to the right of it.
TIMES, RIGHT = 1.1, 0.04


@pytest.fixture(scope="module")
def walks() -> dict[str, list[RgbdFrame]]:
    """A walk whose depth is a camera's of its own, told as one camera, and the same told right."""
    scene = build_scene(3, moving=0)
    poses = plan_path(scene, 4 * COUNT, 3).double()[::4]
    colour = pinhole(HEIGHT, WIDTH, vertical_fov=1.0).to(dtype=torch.float64)
    focal = float(colour.intrinsics[1, 1])
    right: list[RgbdFrame] = []
    with Renderer(scene, HEIGHT, WIDTH, vertical_fov=1.0, shadows=False) as camera:
        for pose in poses:
            frame = camera.render(pose)
            right.append(RgbdFrame(frame.rgb, np.nan_to_num(frame.depth, posinf=0), colour.at(pose)))
    aside = torch.eye(4, dtype=torch.float64)
    aside[0, 3] = RIGHT
    fov = 2 * np.arctan(HEIGHT / 2 / (focal * TIMES))
    with Renderer(scene, HEIGHT, WIDTH, vertical_fov=fov, shadows=False) as camera:
        measured = [np.nan_to_num(camera.render(pose @ aside).depth, posinf=0) for pose in poses]
    return {
        "right": right,
        "as one": [replace(frame, depth=metres) for frame, metres in zip(right, measured, strict=True)],
    }


@pytest.mark.sim
@pytest.mark.slow
def test_two_cameras_told_as_one_are_found(walks):
    found = estimate(list(pairs_of(walks["as one"])), "colour")
    assert found.colour == pytest.approx(1.0, abs=0.01)
    assert found.depth == pytest.approx(TIMES, abs=0.015)
    assert found.shift == pytest.approx(RIGHT, abs=0.015)


@pytest.mark.sim
@pytest.mark.slow
def test_the_report_says_what_to_write_and_how_sure_it_is(walks):
    said = report(walks["as one"], draws=4)
    told = float(walks["right"][0].camera.intrinsics[0, 0])
    focal, spread = map(float, re.search(r"focal length of depth (\d+) \+- (\d+) pixels", said).groups())
    assert focal == pytest.approx(TIMES * told, rel=0.02)
    assert spread < 0.03 * told
    for name in ("camera-intrinsics.txt", "depth-intrinsics.txt", "depth-to-color.txt"):
        assert name in said


@pytest.mark.sim
@pytest.mark.slow
def test_what_was_told_right_is_left_as_it_is(walks):
    said = report(walks["right"], draws=4)
    assert "nothing that was told is surely wrong" in said
    assert "depth-intrinsics.txt" not in said


def test_a_walk_without_depth_is_refused(walks):
    blind = [replace(frame, depth=None) for frame in walks["right"][:2]]
    with pytest.raises(ValueError, match="walk: expected frames with depth"):
        report(blind)
    with pytest.raises(ValueError, match="expected at least 6 pairs of frames with depth, got 1"):
        report(walks["right"][:2])
