"""Depth messages follow REP-118; invalid never becomes a number."""

import numpy as np
import pytest
from sensor_msgs.msg import Image

from mirage_ros.ros.conversions import depth_from_metres, depth_to_metres, image_to_numpy, numpy_to_image

METRES = np.array([[0.5, 1.2345, 65.534], [0.0, 3.0, 0.001]], np.float32)


def test_millimetres_and_metres():
    millimetres = np.array([[500, 0, 65535, 65534]], np.uint16)
    for encoding in ("16UC1", "mono16"):
        np.testing.assert_allclose(depth_to_metres(numpy_to_image(millimetres, encoding)), [[0.5, 0, 0, 65.534]])
    metres = np.array([[0.5, np.nan, np.inf, -np.inf, -1, 0]], np.float32)
    np.testing.assert_array_equal(depth_to_metres(numpy_to_image(metres, "32FC1")), [[0.5, 0, np.inf, 0, 0, 0]])


@pytest.mark.parametrize(("encoding", "tolerance"), [("32FC1", 0), ("16UC1", 0.00051)])
def test_round_trip(encoding, tolerance):
    message = depth_from_metres(METRES, encoding)
    assert message.encoding == encoding
    np.testing.assert_allclose(depth_to_metres(message), METRES, rtol=0, atol=tolerance)


def test_what_millimetres_cannot_hold_becomes_invalid():
    far = np.array([[70.0, np.nan, -1.0, 0.0004]])
    np.testing.assert_array_equal(depth_to_metres(depth_from_metres(far, "16UC1")), np.zeros((1, 4)))


@pytest.mark.filterwarnings("error")
def test_invalid_is_sent_as_each_encoding_has_it():
    # REP-118: NaN in metres. A reader such as depth_image_proc takes any finite value for a measurement.
    invalid = np.array([[0.0, -1.0, np.nan, -np.inf]])
    assert np.isnan(image_to_numpy(depth_from_metres(invalid, "32FC1"))).all()
    assert (image_to_numpy(depth_from_metres(invalid, "16UC1")) == 0).all()
    np.testing.assert_array_equal(depth_to_metres(depth_from_metres(invalid, "32FC1")), np.zeros((1, 4)))


@pytest.mark.filterwarnings("error")
def test_too_far_stays_infinite_in_metres():
    far = np.array([[np.inf, 1e300, 2.0]])
    np.testing.assert_array_equal(image_to_numpy(depth_from_metres(far, "32FC1")), [[np.inf, np.inf, 2]])
    np.testing.assert_array_equal(depth_to_metres(depth_from_metres(far, "32FC1")), [[np.inf, np.inf, 2]])
    np.testing.assert_array_equal(image_to_numpy(depth_from_metres(far, "16UC1")), [[0, 0, 2000]])


def test_refusals_name_the_field():
    with pytest.raises(ValueError, match="depth.encoding: expected one of 32FC1"):
        depth_to_metres(numpy_to_image(np.zeros((1, 1, 3), np.uint8), "rgb8"))
    short = depth_from_metres(METRES, "32FC1")
    short.data = short.data[:-4]
    with pytest.raises(ValueError, match="^depth.data: expected"):
        depth_to_metres(short)
    with pytest.raises(TypeError, match="depth: expected sensor_msgs/Image"):
        depth_to_metres(Image)
    with pytest.raises(ValueError, match="encoding: expected 32FC1 or 16UC1"):
        depth_from_metres(METRES, "8UC1")
    with pytest.raises(ValueError, match="metres: expected"):
        depth_from_metres(np.zeros((2, 2), np.uint16))
