"""Depth and colours of bags come with the right values, however they were packed."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from mirage_ros.recordings.bags import rosbag_frames

MILLIMETRES = np.full((48, 64), 2000, np.uint16)
MILLIMETRES[:, 40:], MILLIMETRES[:4] = 65535, 0
METRES = np.where(MILLIMETRES == 2000, 2, 0).astype(np.float32)


def png(array):
    return cv2.imencode(".png", array)[1].tobytes()


def one_frame(bag, format, data, topic="/cam/depth/image_raw/compressedDepth"):
    bag.info("/cam/camera_info")
    bag.frames()
    for index in range(5):
        bag.compressed(topic, 1 + index / 10, data, format)
    return next(rosbag_frames(bag.write()))


def test_floats_in_compressed_depth_are_inverse_depth_in_steps(bag):
    """As compressed_depth_image_transport packs them: value = A / metres + B with A = q (q + 1) and B = 1 - A / far."""
    truth = np.linspace(0.5, 6, 64, dtype=np.float32)[None].repeat(48, 0)
    a = 100.0 * 101.0
    b = 1 - a / 10
    values = np.rint(a / truth + b).astype(np.uint16)
    values[0] = 0
    frame = one_frame(bag, "32FC1; compressedDepth png", struct.pack("<iff", 0, a, b) + png(values))
    np.testing.assert_allclose(frame.depth[1:], truth[1:], rtol=0.01)
    assert (frame.depth[0] == 0).all()


@pytest.mark.parametrize(
    "format", [f"{kind}; compressedDepth{codec}" for kind in ("16UC1", "mono16") for codec in ("", " png")]
)
def test_millimetres_in_compressed_depth(bag, format):
    np.testing.assert_allclose(one_frame(bag, format, bytes(12) + png(MILLIMETRES)).depth, METRES)


@pytest.mark.parametrize("format", ["16UC1; png compressed ", "png"])
def test_a_png_of_16_bits_is_depth_and_no_picture(bag, format):
    frame = one_frame(bag, format, png(MILLIMETRES), "/cam/depth/image_raw/compressed")
    np.testing.assert_allclose(frame.depth, METRES)


def test_65535_is_unknown_as_0_is(bag):
    bag.info("/cam/camera_info")
    bag.frames(depth=MILLIMETRES)
    np.testing.assert_allclose(next(rosbag_frames(bag.write())).depth, METRES)


@pytest.mark.parametrize(
    ("format", "data", "message"),
    [
        ("16UC1; compressedDepth rvl", bytes(12) + b"\x00" * 40, "expected 16 bits in PNG"),
        ("8UC1; compressedDepth png", bytes(12) + png(MILLIMETRES), "expected a format like .* got '8UC1"),
        ("16UC1; compressedDepth png", bytes(12) + png(MILLIMETRES.astype(np.uint8)), "expected 16 bits in PNG"),
        ("32FC1; compressedDepth png", bytes(12) + png(MILLIMETRES), "expected quantisation above 0"),
    ],
)
def test_other_compressed_depth_is_refused_by_name(bag, format, data, message):
    with pytest.raises(ValueError, match=f"depth: {message}"):
        one_frame(bag, format, data)


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (np.full((48, 64), 2000, np.float32), "beyond 2000 m; expected metres, are these millimetres"),
        (np.full((48, 64), 2, np.uint16), "nearer than 2 mm; was the unit converted twice"),
    ],
)
def test_depth_in_another_unit_is_said(bag, depth, words):
    bag.info("/cam/camera_info")
    bag.frames(depth=depth)
    with pytest.warns(UserWarning, match=f"depth: half of it lies {words}"):
        next(rosbag_frames(bag.write()))


def test_pixels_are_as_stored_whatever_exif_says(bag, turned_jpeg):
    data, stored = turned_jpeg
    bag.info("/cam/camera_info")
    for index in range(5):
        bag.compressed("/cam/image_raw/compressed", 1 + index / 10, data, "jpeg")
        bag.transform(1 + index / 10, "map", "optical", (0.1 * index, 0, 0))
    np.testing.assert_array_equal(next(rosbag_frames(bag.write())).rgb, stored)
