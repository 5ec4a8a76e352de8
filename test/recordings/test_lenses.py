"""Intrinsics of a bag are those of its pictures, whatever camera_info was made for."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from mirage_ros.recordings.bags import rosbag_frames

DEPTH = np.full((48, 64), 2000, np.uint16)
# Of 256x192: four times the pictures.
LARGE = {"size": (256, 192), "k": (240.0, 240.0, 127.5, 95.5)}


def first_of(bag, **info):
    bag.info("/cam/camera_info", **info)
    bag.frames(rgb=np.full((48, 64, 3), 200, np.uint8), depth=DEPTH)
    return next(rosbag_frames(bag.write()))


def check(frame, fx, cx, cy):
    matrix = frame.camera.intrinsics
    assert matrix[0, 0] == pytest.approx(fx)
    assert matrix[:2, 2].tolist() == pytest.approx([cx, cy])
    # Nothing of the picture is lost.
    assert (frame.rgb[8:-8, 8:-8] == 200).all()


def test_pictures_that_are_smaller_than_their_camera_info(bag):
    with pytest.warns(UserWarning, match="camera_info: expected that of the pictures, 64x48, got 256x192; .* copies"):
        check(first_of(bag, **LARGE), 60, 32, 24)


def test_a_smaller_picture_is_straightened_with_its_own_intrinsics(bag):
    with pytest.warns(UserWarning, match="copies of the whole"):
        check(first_of(bag, **LARGE, d=(-0.1, 0.01, 0, 0, 0)), 60, 32, 24)


def test_binning_and_a_region_of_interest_are_applied(bag, recwarn):
    check(first_of(bag, **LARGE, binning=2, roi=(64, 48, 96, 128)), 120, 32, 24)
    assert not [each for each in recwarn if "camera_info" in str(each.message)]


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"size": (256, 160), "k": LARGE["k"]}, "camera_info: expected that of the pictures, 64x48, got 256x160"),
        ({**LARGE, "roi": (0, 0, 96, 96)}, "camera_info: expected that of the pictures, 64x48, .* roi 96x96"),
        ({**LARGE, "roi": (200, 0, 48, 64)}, "camera_info.roi: expected a window inside 256x192, got 64x48"),
        ({"model": "omni"}, "camera_info: expected distortion .* got 'omni'"),
        ({"d": (0.1, 0.2, 0.3)}, "camera_info: expected .* coefficients of plumb_bob, got 3"),
        ({"k": (0.0, 0.0, 0.0, 0.0)}, "camera_info.k: expected positive focal lengths"),
    ],
)
def test_what_is_not_of_the_pictures_is_refused_by_name(bag, info, message):
    with pytest.raises(ValueError, match=message):
        first_of(bag, **info)


def test_intrinsics_that_hardly_belong_to_the_pictures_are_said(bag):
    with pytest.warns(UserWarning, match=r"camera_info.k: the principal point \(127.5, 95.5\) lies far from"):
        first_of(bag, k=(60.0, 60.0, 127.0, 95.0))


def test_a_fisheye_is_one_with_zero_coefficients(bag):
    """An equidistant lens: angles, not their tangents, are in proportion to the distance from the middle."""
    columns, rows = np.meshgrid(np.arange(64) - 31.5, np.arange(48) - 23.5)
    radius = np.hypot(columns, rows) / 40
    bend = np.tan(radius) / radius
    shades = np.stack([128 + 80 * columns / 40 * bend, 128 + 80 * rows / 40 * bend, 0 * rows], axis=-1)
    bag.info("/cam/camera_info", k=(40.0, 40.0, 31.5, 23.5), model="equidistant", d=(0, 0, 0, 0))
    bag.frames(rgb=np.clip(shades, 0, 255).round().astype(np.uint8))
    frame = next(rosbag_frames(bag.write()))
    rays = 128 + 80 * frame.camera.rays()[..., :2].numpy()
    assert np.abs(frame.rgb[..., :2] - rays)[4:-4, 4:-4].max() < 3
    assert np.abs(shades[..., :2] - rays)[4:-4, 4:-4].max() > 6


@pytest.mark.parametrize("topic", ["/cam/image_rect", "/cam/rect/image", "/cam/image_undistorted"])
def test_rectified_pictures_have_p(bag, topic):
    bag.info("/cam/camera_info", p=(50.0, 50.0, 30.0, 22.0), d=(-0.3, 0.1, 0, 0, 0))
    rgb = np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)
    bag.frames(rgb=rgb, depth=DEPTH, topic=topic)
    frame = next(rosbag_frames(bag.write()))
    assert frame.camera.intrinsics[0].tolist() == [50, 0, 30.5]
    np.testing.assert_array_equal(frame.rgb, rgb)


def test_a_wall_seen_by_a_second_camera_is_registered(bag):
    """Depth of 32x24 pixels, 10 cm to the left of the colours and 1 cm behind them: a box before a wall."""
    depth = np.full((24, 32), 3010, np.uint16)
    # From x = -0.05 to 0.15 m and y = -0.1 to 0.1 m at 1.01 m, as the depth camera sees it.
    x, y = np.meshgrid((np.arange(32) - 15.5) / 30 * 1.01 - 0.1, (np.arange(24) - 11.5) / 30 * 1.01)
    depth[(x > -0.05) & (x < 0.15) & (np.abs(y) < 0.1)] = 1010
    bag.info("/cam/camera_info")
    bag.info("/depth/camera_info", size=(32, 24), k=(30.0, 30.0, 15.5, 11.5))
    bag.frames(depth=depth, depth_topic="/depth/image_raw", depth_frame="depth_optical")
    bag.transform(0.5, "/optical", "depth_optical", (-0.1, 0, -0.01), still=True)
    frame = next(rosbag_frames(bag.write()))
    assert frame.depth.shape == (48, 64)
    box = np.isclose(frame.depth, 1.0, atol=1e-3)
    points = frame.camera.lift(torch.from_numpy(frame.depth)).numpy() - frame.camera.cam2world[:3, 3].numpy()
    assert np.isclose(frame.depth[~box & (frame.depth > 0)], 3.0, atol=1e-3).all()
    assert points[box][:, :2].min(0) == pytest.approx([-0.05, -0.1], abs=0.04)
    assert points[box][:, :2].max(0) == pytest.approx([0.15, 0.1], abs=0.04)
    # A finer picture has no gaps.
    rows, columns = np.nonzero(box)
    assert box[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].mean() > 0.95


def test_two_parents_above_both_cameras_do_not_hinder_registration(bag):
    """Poses come from a topic; two trees stand over the base that carries both."""
    bag.info("/cam/camera_info")
    bag.info("/depth/camera_info")
    bag.frames(depth=DEPTH, depth_topic="/depth/image_raw", depth_frame="depth_optical", child="base")
    for frame in ("optical", "depth_optical"):
        bag.transform(0.5, "base", frame, (0.1 * (frame == "optical"), 0, 0), still=True)
    bag.transform(1.0, "odom", "base")
    with pytest.raises(ValueError, match="tf: expected one parent of 'base'"):
        next(rosbag_frames(bag.write()))
    for index in range(5):
        bag.pose("/pose", 1 + index / 10, (0.1 * index, 0, 0))
    bag.folder = bag.folder.with_name("with_poses")
    frames = list(rosbag_frames(bag.write(), {"pose": "/pose"}))
    assert [round(float(frame.camera.cam2world[0, 3]), 4) for frame in frames] == [0, 0.1, 0.2, 0.3, 0.4]
    # The depth camera stands 10 cm, 3 pixels, to the left: its wall ends before the picture does.
    assert (frames[0].depth[:, 61:] == 0).all()
    np.testing.assert_allclose(frames[0].depth[:, :61], 2.0)


def test_depth_of_another_frame_is_refused_where_it_cannot_be_registered(bag):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH, depth_frame="depth_optical")
    with pytest.raises(ValueError, match="depth: expected in the frame of the picture, 'optical', .* 'depth_optical'"):
        next(rosbag_frames(bag.write()))


def test_a_transform_that_depth_lacks_is_named(bag):
    bag.info("/cam/camera_info")
    bag.info("/cam/depth/camera_info")
    bag.frames(depth=DEPTH, depth_frame="depth_optical")
    with pytest.raises(ValueError, match="depth: expected a transform between 'depth_optical', .* 'optical'"):
        next(rosbag_frames(bag.write()))


def test_registered_depth_of_another_size_is_taken_as_it_is(bag):
    depth = np.full((24, 32), 2000, np.uint16)
    depth[:, 16:] = 3000
    bag.info("/cam/camera_info")
    bag.frames(depth=depth)
    frame = next(rosbag_frames(bag.write()))
    np.testing.assert_allclose(frame.depth, cv2.resize(depth, (64, 48), interpolation=cv2.INTER_NEAREST) / 1000.0)
