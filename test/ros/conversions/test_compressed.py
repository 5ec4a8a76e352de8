"""JPEG and PNG colour images."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from mirage_ros.ros.conversions import compressed_depth_from_metres, compressed_to_numpy, numpy_to_compressed
from mirage_ros.ros.conversions.colours import COLOURS


def as_message(data):
    message = CompressedImage(format="jpeg")
    message.data.frombytes(bytes(data))
    return message


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
    with pytest.raises(ValueError, match=message):
        compressed_to_numpy(as_message(data))


def test_a_few_bytes_cannot_claim_a_large_image():
    # A real JPEG whose header was edited: decoding it would take 7 s and 1.7 GB.
    data = bytearray(numpy_to_compressed(smooth("rgb8")).data)
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 11000, 11000)
    with pytest.raises(ValueError, match="expected 11000x11000 pixels, got .* bytes that cannot hold as many"):
        compressed_to_numpy(as_message(data))
    data = bytearray(numpy_to_compressed(smooth("rgb8"), codec="png").data)
    data[16:24] = struct.pack(">II", 11000, 11000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(ValueError, match="expected 11000x11000 pixels, got .* bytes that cannot hold as many"):
        compressed_to_numpy(as_message(data))


@pytest.mark.parametrize("options", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_OPTIMIZE, 1]])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("codec", [".jpg", ".png"])
def test_the_emptiest_real_images_are_below_that_limit(codec, channels, options):
    flat = np.full((2000, 3000, channels), 128, np.uint8)
    data = cv2.imencode(codec, flat, options if codec == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    np.testing.assert_array_equal(compressed_to_numpy(as_message(data.tobytes()), "rgb8"), 128)


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_what_is_cut_off_is_refused(codec):
    data = bytes(numpy_to_compressed(smooth("rgb8"), codec=codec).data)
    for length in (len(data) // 2, len(data) - 2):
        with pytest.raises(ValueError, match=f"compressed image.data: expected a whole {codec}, got a damaged one"):
            compressed_to_numpy(as_message(data[:length]))


def test_fill_bytes_between_segments_are_skipped():
    data = bytes(numpy_to_compressed(smooth("rgb8")).data)
    filled = data.replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1)
    np.testing.assert_array_equal(compressed_to_numpy(as_message(filled)), compressed_to_numpy(as_message(data)))


def test_a_small_claim_does_not_hide_a_large_one():
    # FF01 stands alone to a decoder; read with a length it would lead past the real header, to the one at the end.
    data = bytes(numpy_to_compressed(smooth("rgb8")).data)
    start = data.index(b"\xff\xc0")
    small = data[start : start + 19]
    large = small[:5] + struct.pack(">HH", 11000, 11000) + small[9:]
    hidden = b"\xff\xd8\xff\x01" + large
    hidden += bytes(4 + 0xFFC0 - len(hidden)) + small + data[start + 19 :]
    with pytest.raises(ValueError, match="expected 11000x11000 pixels, got .* bytes that cannot hold as many"):
        compressed_to_numpy(as_message(hidden))


def test_grey_with_alpha_is_a_colour():
    rows = b"".join(b"\0" + bytes([10, 255, 20, 255]) for _ in range(2))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 2, 8, 4, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        data += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    np.testing.assert_array_equal(compressed_to_numpy(as_message(data), "mono8"), [[10, 20], [10, 20]])


def test_depth_is_not_taken_for_colour():
    depth = compressed_depth_from_metres(np.ones((4, 4)))
    depth.data = depth.data[12:]
    with pytest.raises(ValueError, match="8-bit colours, got uint16"):
        compressed_to_numpy(depth)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"encoding": "yuv"}, "encoding: expected"),
        ({"codec": "webp"}, "codec: expected jpeg or png"),
        ({"quality": 0}, "quality: expected a whole number from 1 to 100"),
        ({"quality": 90.5}, "quality: expected a whole number"),
        ({"encoding": "rgba8"}, "array: expected uint8 rgba8 pixels"),
        ({"encoding": ["rgb8"]}, "encoding: expected"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        numpy_to_compressed(smooth("rgb8"), **arguments)


def test_unfit_arrays_are_refused():
    with pytest.raises(ValueError, match="array: expected uint8 mono8 pixels, got"):
        numpy_to_compressed([[1, 2]], "mono8")
    with pytest.raises(ValueError, match="array: expected a size that jpeg holds"):
        numpy_to_compressed(np.zeros((1, 65536), np.uint8), "mono8")
