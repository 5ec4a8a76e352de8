"""JPEG and PNG colour images."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from mirage_ros.ros.conversions import compressed_to_numpy, numpy_to_compressed


def as_message(data):
    message = CompressedImage(format="jpeg")
    message.data.frombytes(bytes(data))
    return message


def encoded(codec):
    """The smooth picture as a camera driver might send it."""
    return cv2.imencode(codec, SMOOTH[..., ::-1])[1].tobytes()


Y, X = np.mgrid[:24, :32]
SMOOTH = np.stack([X * 7, Y * 9, 255 - X * 5], axis=-1).astype(np.uint8)


def test_png_is_lossless():
    np.testing.assert_array_equal(compressed_to_numpy(as_message(encoded(".png"))), SMOOTH)


def test_jpeg_is_close_and_keeps_the_channel_order():
    message = numpy_to_compressed(SMOOTH, quality=95)
    assert message.format == "rgb8; jpeg compressed bgr8"
    for sent in (message, as_message(encoded(".jpg"))):
        assert np.abs(compressed_to_numpy(sent).astype(int) - SMOOTH).mean() < 3
        assert len(sent.data) < SMOOTH.size


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
    data = bytearray(encoded(".jpg"))
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 9] = struct.pack(">HH", 11000, 11000)
    with pytest.raises(ValueError, match="expected 11000x11000 pixels, got .* bytes that cannot hold as many"):
        compressed_to_numpy(as_message(data))
    data = bytearray(encoded(".png"))
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
    np.testing.assert_array_equal(compressed_to_numpy(as_message(data.tobytes())), 128)


@pytest.mark.parametrize("codec", ["jpeg", "png"])
def test_what_is_cut_off_is_refused(codec):
    data = encoded(f".{codec}")
    for length in (len(data) // 2, len(data) - 2):
        with pytest.raises(ValueError, match=f"compressed image.data: expected a whole {codec}, got a damaged one"):
            compressed_to_numpy(as_message(data[:length]))


def test_fill_bytes_between_segments_are_skipped():
    data = encoded(".jpg")
    filled = data.replace(b"\xff\xc0", b"\xff\xff\xff\xc0", 1)
    np.testing.assert_array_equal(compressed_to_numpy(as_message(filled)), compressed_to_numpy(as_message(data)))


def test_a_small_claim_does_not_hide_a_large_one():
    # FF01 stands alone to a decoder; read with a length it would lead past the real header, to the one at the end.
    data = encoded(".jpg")
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
    np.testing.assert_array_equal(compressed_to_numpy(as_message(data))[..., 0], [[10, 20], [10, 20]])


def test_depth_is_not_taken_for_colour():
    with pytest.raises(ValueError, match="8-bit colours, got uint16"):
        compressed_to_numpy(as_message(cv2.imencode(".png", np.ones((4, 4), np.uint16))[1].tobytes()))


def test_unfit_arrays_are_refused():
    with pytest.raises(ValueError, match=r"array: expected \(H, W, 3\) uint8 rgb pixels, got \(2, 2\) uint8"):
        numpy_to_compressed(np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match="array: expected a size that jpeg holds"):
        numpy_to_compressed(np.zeros((1, 65536, 3), np.uint8))
    with pytest.raises(TypeError, match="header: expected std_msgs/Header, got str"):
        numpy_to_compressed(SMOOTH, "map")
