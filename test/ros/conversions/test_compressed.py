"""JPEG and PNG colour images."""

import struct

import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from mirage_ros.ros.conversions import compressed_to_numpy, numpy_to_compressed
from mirage_ros.ros.conversions.colours import COLOURS


def smooth(encoding):
    y, x = np.mgrid[:24, :32]
    channels = [x * 7, y * 9, 255 - x * 5, np.full_like(x, 200)][: COLOURS[encoding][0]]
    return np.stack(channels, axis=-1).squeeze().astype(np.uint8)


@pytest.mark.parametrize("encoding", COLOURS)
def test_png_is_lossless(encoding):
    message = numpy_to_compressed(smooth(encoding), encoding, "png")
    assert message.format.startswith(f"{encoding}; png compressed")
    np.testing.assert_array_equal(compressed_to_numpy(message, encoding), smooth(encoding))


@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "mono8"])
def test_jpeg_is_close_and_keeps_the_channel_order(encoding):
    message = numpy_to_compressed(smooth(encoding), encoding, "jpeg", quality=95)
    difference = compressed_to_numpy(message, encoding).astype(int) - smooth(encoding)
    assert np.abs(difference).mean() < 3
    assert len(message.data) < smooth(encoding).size


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected a JPEG or PNG, got bytes starting nowhere"),
        (b"GIF89a..", "expected a JPEG or PNG"),
        (b"\x89PNG\r\n\x1a\n", "pixels, got a png that claims 0x0"),
        (b"\xff\xd8\xff\xe0", "pixels, got a jpeg that claims 0x0"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", 2**31, 2**31) + bytes(20), "claims 2147483648x"),
        (b"\xff\xd8\xff\xc0\0\x11\x08" + struct.pack(">HH", 65535, 65535) + bytes(20), "claims 65535x65535"),
    ],
)
def test_foreign_and_hostile_data_is_refused(data, message):
    image = CompressedImage(format="jpeg")
    image.data.frombytes(data)
    with pytest.raises(ValueError, match=message):
        compressed_to_numpy(image)


def test_depth_is_not_taken_for_colour():
    from mirage_ros.ros.conversions import compressed_depth_from_metres

    depth = compressed_depth_from_metres(np.ones((4, 4)))
    depth.data = depth.data[12:]
    with pytest.raises(ValueError, match="8-bit colours, got uint16"):
        compressed_to_numpy(depth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoding": "yuv"}, "encoding: expected"),
        ({"codec": "webp"}, "codec: expected jpeg or png"),
        ({"quality": 0}, "quality: expected 1 to 100"),
        ({"encoding": "rgba8"}, "array: expected uint8 rgba8 pixels"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        numpy_to_compressed(smooth("rgb8"), **arguments)
