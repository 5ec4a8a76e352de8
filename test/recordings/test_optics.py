"""What a recording does not tell of its cameras is found in it, and nothing is found where it was told right."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.recordings.optics import RUNS, estimate, pairs_of, report, runs_of
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

HEIGHT, WIDTH, COUNT = 240, 320, 14
# Of the depth camera: focal length by the colour camera's, metres to the right of it.
TIMES, RIGHT = 1.1, 0.04


@pytest.fixture(scope="module")
def walks() -> dict[str, list[RgbdFrame]]:
    """A walk whose depth is a camera's of its own, told as one camera, by either one's poses; and one told right."""
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
    as_one = [replace(frame, depth=metres) for frame, metres in zip(right, measured, strict=True)]
    tracked = [replace(frame, camera=frame.camera.at(frame.camera.cam2world @ aside)) for frame in as_one]
    return {"right": right, "colour": as_one, "depth": tracked}


@pytest.mark.sim
@pytest.mark.slow
@pytest.mark.parametrize("poses_of", ["colour", "depth"])
def test_two_cameras_told_as_one_are_found(walks, poses_of):
    found = estimate(list(pairs_of(runs_of(walks[poses_of]))), poses_of)
    # On a short walk both may be a little off together.
    assert found.depth / found.colour == pytest.approx(TIMES, abs=0.015)
    assert found.colour == pytest.approx(1.0, abs=0.03)
    assert found.shift == pytest.approx(RIGHT, abs=0.015)


@pytest.mark.sim
@pytest.mark.slow
def test_the_report_says_what_to_write_and_how_sure_it_is(walks):
    said = report(walks["colour"], draws=3)
    told = float(walks["right"][0].camera.intrinsics[0, 0])
    focal, spread = map(float, re.search(r"focal length of depth (\d+) \+- (\d+) pixels", said).groups())
    assert focal == pytest.approx(TIMES * told, rel=0.02)
    assert spread < 0.03 * told
    for name in ("camera-intrinsics.txt", "depth-intrinsics.txt", "depth-to-color.txt"):
        assert name in said


@pytest.mark.sim
@pytest.mark.slow
def test_what_was_told_right_is_left_as_it_is(walks):
    said = report(walks["right"], draws=2)
    assert "nothing that was told is surely wrong" in said
    assert "depth-intrinsics.txt" not in said


def plain(x: float) -> RgbdFrame:
    """A striped wall at two metres."""
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    rgb[:, ::9] = 200
    camera = pinhole(HEIGHT, WIDTH, vertical_fov=1.0).to(dtype=torch.float64)
    return RgbdFrame(rgb, np.full((HEIGHT, WIDTH), 2.0, np.float32), camera.at(pose))


def test_a_camera_that_hardly_moves_and_a_walk_without_depth_are_refused():
    for walk in (
        [],
        [plain(0.0)] * 12,
        [plain(0.001 * index) for index in range(20)],
        [plain(4.0 * i) for i in range(9)],
    ):
        with pytest.raises(ValueError, match="at least 6 pairs of frames that overlap .* moved, got 0"):
            report(walk)
    with pytest.raises(ValueError, match="walk: expected frames with depth"):
        report([replace(plain(0.0), depth=None)])
    with pytest.raises(ValueError, match="draws: expected at least 2, got 1"):
        report([plain(0.0)], draws=1)


def test_of_a_long_walk_a_few_runs_of_neighbours_are_kept():
    runs = runs_of(plain(0.05 * index) for index in range(400))
    assert RUNS <= len(runs) < 2 * RUNS
    for run in runs:
        places = [float(frame.camera.cam2world[0, 3]) for frame in run]
        np.testing.assert_allclose(np.diff(places), 0.05)
    assert float(runs[-1][0].camera.cam2world[0, 3]) > 10
