"""Depth as PNG, in the layouts of compressed_depth_image_transport."""

import struct

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from mirage_ros.ros.conversions import (
    compressed_depth_from_metres,
    compressed_depth_to_metres,
    numpy_to_compressed,
)

METRES = np.array([[0.5, 1.2345, 65.534], [0.0, 3.0, 0.001]], np.float32)


def test_round_trip_and_layout():
    message = compressed_depth_from_metres(METRES)
    assert message.format == "16UC1; compressedDepth png"
    assert bytes(message.data[:12]) == bytes(12)
    assert bytes(message.data[12:16]) == b"\x89PNG"
    np.testing.assert_allclose(compressed_depth_to_metres(message), METRES, rtol=0, atol=0.00051)


@pytest.mark.parametrize("name", ["16UC1; compressedDepth", "16UC1", "mono16; compressedDepth png", ""])
def test_older_names_of_the_format_read_the_same(name):
    message = compressed_depth_from_metres(METRES)
    message.format = name
    # The transport leaves the parameters of 16UC1 uninitialised.
    message.data[:12] = type(message.data)("B", b"\xff" * 12)
    np.testing.assert_allclose(compressed_depth_to_metres(message), METRES, rtol=0, atol=0.00051)


@pytest.mark.parametrize("name", ["16UC1; png compressed", "png", ""])
def test_a_png_without_the_header(name):
    message = compressed_depth_from_metres(METRES)
    message.format, message.data = name, message.data[12:]
    np.testing.assert_allclose(compressed_depth_to_metres(message), METRES, rtol=0, atol=0.00051)


def quantised(metres, quantisation=100.0, farthest=10.0):
    """Pixel by pixel, as the transport stores 32FC1: in steps of inverse depth."""
    a = quantisation * (quantisation + 1)
    b = 1 - a / farthest
    values = [[int(a / z + b) if 0 < z < farthest else 0 for z in row] for row in metres.tolist()]
    message = CompressedImage(format="32FC1; compressedDepth png")
    png = cv2.imencode(".png", np.array(values, np.uint16))[1].tobytes()
    message.data.frombytes(struct.pack("<iff", 0, a, b) + png)
    return message


def test_quantised_metres():
    metres = np.array([[0.5, 1.0, 2.0], [9.5, 12.0, np.nan]])
    read = compressed_depth_to_metres(quantised(metres))
    np.testing.assert_allclose(read[0], metres[0], rtol=1e-3)
    # One step of inverse depth is 1 / 10100 per metre: 9 mm at 9.5 m.
    np.testing.assert_allclose(read[1], [9.5, 0, 0], atol=0.01)


@pytest.mark.filterwarnings("error")
def test_a_value_on_the_pole_is_invalid():
    message = CompressedImage(format="32FC1; compressedDepth png")
    png = cv2.imencode(".png", np.array([[7, 5, 8]], np.uint16))[1].tobytes()
    message.data.frombytes(struct.pack("<iff", 0, 1.0, 7.0) + png)
    np.testing.assert_array_equal(compressed_depth_to_metres(message), [[0, 0, 1]])


def changed(name=None, data=None):
    message = compressed_depth_from_metres(METRES)
    message.format = message.format if name is None else name
    if data is not None:
        message.data = message.data[:0]
        message.data.frombytes(data)
    return message


WHOLE = bytes(compressed_depth_from_metres(METRES).data)


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (changed(data=WHOLE[:5]), "compressed depth.data: expected a PNG, .* got 5 bytes"),
        (changed(data=b""), "compressed depth.data: expected a PNG, .* got 0 bytes"),
        (changed(data=WHOLE[:-9]), "compressed depth.data: expected a whole png, got a damaged one"),
        (changed("16UC1; compressedDepth rvl", struct.pack("<iffII", 0, 0, 0, 4, 4) + bytes(40)), "of format '.*rvl'"),
        (changed("32FC1", WHOLE[12:]), "compressed depth.format: expected 16UC1 for a bare PNG, got '32FC1'"),
        (
            changed("32FC1; compressedDepth png"),
            "compressed depth.data: expected finite parameters a > 0 and b, got a=0",
        ),
        (changed("32FC1", struct.pack("<iff", 0, 1, float("nan")) + WHOLE[12:]), "got a=1.0 and b=nan"),
        (numpy_to_compressed(np.zeros((2, 2, 3), np.uint8), codec="png"), "one channel of 16 bits, got .* uint8"),
        (numpy_to_compressed(np.zeros((2, 2, 3), np.uint8)), "compressed depth.data: expected a PNG"),
    ],
)
def test_refusals_name_the_field(message, error):
    with pytest.raises(ValueError, match=error):
        compressed_depth_to_metres(message)


def test_depth_must_be_metres():
    with pytest.raises(ValueError, match="metres: expected"):
        compressed_depth_from_metres(np.zeros((2, 2), np.uint16))
    with pytest.raises(TypeError, match="header: expected std_msgs/Header, got str"):
        compressed_depth_from_metres(METRES, "map")
