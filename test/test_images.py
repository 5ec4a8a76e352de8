import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirage_ros.geometry import Camera, pinhole
from mirage_ros.images import (
    centre_window,
    check_depth,
    depth_like,
    doubt_of_depth,
    doubt_of_optics,
    enlarge,
    fit,
    fit_camera,
    fit_colour,
    fit_nearest,
)
from mirage_ros.rgbd import RgbdFrame


@settings(deadline=None, derandomize=True, max_examples=60)
@given(height=st.integers(20, 200), width=st.integers(20, 200))
def test_the_fitted_camera_sees_the_fitted_image(height, width):
    """An image that holds its own ray directions must hold them still after fitting."""
    camera = pinhole(height, width, focal=100.0)
    x, y = (camera.rays()[..., axis] for axis in (0, 1))
    fitted = fit_camera(camera, 32, 48)
    for rays, expected in zip((x, y), (fitted.rays()[..., axis] for axis in (0, 1)), strict=True):
        sampled = fit_nearest(rays, 32, 48)
        pixel = 1.5 / 100 * max(1.0, min(height / 32, width / 48))
        assert (sampled - expected).abs().max() < pixel


def test_a_window_keeps_the_shape_and_as_much_as_it_can():
    window = centre_window((480, 640), (128, 192))
    assert (window.width, window.height) == (640, 427)
    assert abs(window.top - (480 - 427) / 2) <= 1
    tall = centre_window((640, 480), (128, 192))
    assert (tall.width, tall.height) == (480, 320)


def test_colours_keep_their_mean_when_the_image_shrinks():
    rgb = torch.randint(0, 256, (128, 192, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    fitted = fit_colour(rgb, 32, 48)
    assert fitted.shape == (3, 32, 48)
    torch.testing.assert_close(fitted.mean((1, 2)) * 255, rgb.float().mean((0, 1)), atol=1.0, rtol=0)


def test_depth_is_never_mixed():
    depth = torch.where(torch.arange(96) % 2 == 0, 1.0, 5.0).expand(64, 96)
    assert set(fit_nearest(depth, 32, 48).unique().tolist()) <= {1.0, 5.0}


def test_enlarging_repeats_cells():
    cells = torch.arange(6.0).reshape(2, 3)
    big = enlarge(cells, 8, 12)
    assert big.shape == (8, 12)
    assert torch.equal(big[::4, ::4], cells)
    assert torch.equal(big[3::4, 3::4], cells)


def test_depth_in_millimetres_is_warned_of():
    metres = np.full((4, 6), 2.3, np.float32)
    assert torch.equal(check_depth("depth", metres), torch.from_numpy(metres))
    with pytest.warns(UserWarning, match="depth: half of it lies beyond 2300 m; expected metres"):
        check_depth("depth", metres * 1000)


def test_a_batch_of_frames_is_fitted_like_each_of_them():
    generator = np.random.default_rng(0)
    rgb = generator.integers(0, 256, (2, 60, 70, 3), dtype=np.uint8)
    depth = generator.uniform(1, 5, (2, 60, 70)).astype(np.float32)
    depth[0, 20:30] = np.inf
    camera = pinhole(60, 70, focal=50.0, cam2world=torch.eye(4).repeat(2, 1, 1))
    frames = fit(RgbdFrame(rgb, depth, camera, np.array([3, 4], np.int64)), 32, 48)
    assert (frames.camera.height, frames.camera.width) == (32, 48)
    for index, frame in enumerate(frames):
        alone = fit(RgbdFrame(rgb[index], depth[index], camera[index], index + 3), 32, 48)
        np.testing.assert_array_equal(frame.rgb, alone.rgb)
        np.testing.assert_array_equal(frame.depth, alone.depth)
        torch.testing.assert_close(frame.camera.intrinsics, fit_camera(camera[index], 32, 48).intrinsics)
        assert frame.stamp == alone.stamp
        assert set(frame.depth.ravel()) <= set(depth[index].ravel())
    assert fit(RgbdFrame(rgb, None, camera), 32, 48).depth is None


def test_depth_of_another_resolution_is_brought_to_that_of_its_image():
    camera = pinhole(60, 80, focal=50.0)
    coarse = np.arange(12, dtype=np.float64).reshape(3, 4)
    assert np.array_equal(depth_like(camera, coarse), coarse.repeat(20, axis=0).repeat(20, axis=1))
    assert depth_like(camera, coarse).dtype == np.float32
    with pytest.raises(ValueError, match="depth: expected the shape of the camera, 60x80, .* got 60x60"):
        depth_like(camera, np.ones((60, 60), np.float32))
    with pytest.raises(ValueError, match=r"depth: expected \(H, W\) floating-point metres"):
        depth_like(camera, np.ones((60, 80), np.uint16))


@pytest.mark.parametrize(
    ("fx", "fy", "cx", "cy", "words"),
    [
        (500, 500, 320, 240, None),
        (517, 516, 318, 255, None),
        # The optical middle of a good lens may be off along one side.
        (500, 500, 320, 330, None),
        (500, 500, 800, 600, r"principal point \(800.0, 600.0\) lies far from the middle of pictures of 640x480"),
        (250, 250, 160, 120, "principal point"),
        # Of the same picture on its side.
        (500, 500, 240, 320, "principal point"),
        (0.8, 1.1, 0.5, 0.5, "principal point"),
        (500, 300, 320, 240, "focal lengths fx 500.0 and fy 300.0 differ widely"),
        (9000, 9000, 320, 240, "focal length 9000.0 hardly fits"),
        (20, 20, 320, 240, "focal length 20.0 hardly fits"),
    ],
)
def test_intrinsics_that_are_hardly_those_of_the_picture_are_doubted(fx, fy, cx, cy, words):
    matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    camera = Camera(torch.stack([pinhole(480, 640, focal=500).intrinsics, matrix]), torch.eye(4), 480, 640)
    doubt = doubt_of_optics(camera)
    assert (doubt is None) == (words is None)
    assert words is None or re.search(words, doubt)


@pytest.mark.parametrize(
    ("median", "words"),
    [(2.0, None), (120.0, None), (2000.0, "are these millimetres"), (0.002, "converted twice"), (0.0, None)],
)
def test_depth_in_another_unit_is_doubted(median, words):
    doubt = doubt_of_depth(torch.full((4, 4), median))
    assert (doubt is None) == (words is None)
    assert words is None or words in doubt
