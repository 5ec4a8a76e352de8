"""Images to arrays and back, in every encoding, byte order and padding, by every backend that is installed."""

import sys

import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from mirage_ros.ros.conversions import ENCODINGS, image_to_numpy, numpy_to_image
from mirage_ros.ros.conversions import colours as colours_module
from mirage_ros.ros.conversions.colours import COLOURS, cv_bridge_converter

NATIVE_BIG = int(sys.byteorder == "big")
BACKENDS = ["opencv"] + (["cv_bridge"] if cv_bridge_converter() else [])


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    if request.param == "opencv":
        monkeypatch.setattr(colours_module, "cv_bridge_converter", lambda: None)
    return request.param


def pixels_of(encoding, height=3, width=5):
    kind = ENCODINGS[encoding]
    shape = (height, width) + ((kind.channels,) if kind.channels > 1 else ())
    values = np.random.default_rng(1).integers(0, 250 if kind.dtype == np.uint8 else 60000, shape)
    return (values / 7).astype(kind.dtype) if kind.dtype == np.float32 else values.astype(kind.dtype)


def message_of(array, encoding, big_endian=0, padding=0, cut_last_row=False):
    """Written byte by byte, apart from the code under test."""
    rows = []
    for row in array:
        rows.append(row.astype(row.dtype.newbyteorder(">" if big_endian else "<")).tobytes() + b"\xee" * padding)
    data = b"".join(rows)
    message = Image(height=array.shape[0], width=array.shape[1], encoding=encoding, is_bigendian=big_endian)
    message.step = len(rows[0])
    message.data.frombytes(data[: len(data) - padding] if cut_last_row else data)
    return message


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("big_endian", [0, 1])
@pytest.mark.parametrize(("padding", "cut_last_row"), [(0, False), (7, False), (7, True)])
def test_every_layout_reads_the_same_pixels(encoding, big_endian, padding, cut_last_row):
    array = pixels_of(encoding)
    read = image_to_numpy(message_of(array, encoding, big_endian, padding, cut_last_row))
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_round_trip(encoding):
    array = pixels_of(encoding)
    message = numpy_to_image(array, encoding, Header(frame_id="camera"))
    assert (message.height, message.width, message.encoding) == (3, 5, encoding)
    assert message.step == 5 * ENCODINGS[encoding].pixel_bytes
    assert message.header.frame_id == "camera"
    assert message.is_bigendian == NATIVE_BIG
    np.testing.assert_array_equal(image_to_numpy(message), array)


def test_reading_is_a_read_only_view_where_nothing_changes():
    message = numpy_to_image(pixels_of("rgb8"), "rgb8")
    view = image_to_numpy(message)
    assert np.shares_memory(view, np.frombuffer(message.data, np.uint8))
    message.data[0] ^= 1
    assert view[0, 0, 0] == message.data[0]
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0, 0] = 1


@pytest.mark.parametrize(("big_endian", "padding"), [(0, 0), (1, 0), (0, 3), (1, 4)])
def test_reading_is_read_only_in_every_layout(big_endian, padding):
    assert not image_to_numpy(message_of(pixels_of("16UC1"), "16UC1", big_endian, padding)).flags.writeable


def test_writing_takes_views_and_flipped_arrays():
    array = pixels_of("rgb8", 6, 10)
    for view in (array[::2], array[:, ::-1], np.asfortranarray(array)):
        np.testing.assert_array_equal(image_to_numpy(numpy_to_image(view, "rgb8")), view)


@pytest.mark.parametrize("source", COLOURS)
@pytest.mark.parametrize("target", COLOURS)
@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("big_endian", [0, 1])
def test_colours_convert(backend, source, target, padding, big_endian):
    array = pixels_of(source)
    converted = image_to_numpy(message_of(array, source, big_endian, padding), target)
    # Reference: through red, green, blue, alpha by index; brightness by Rec. 601.
    rgba = np.full((3, 5, 4), 255.0)
    if source == "mono8":
        rgba[..., :3] = array[..., None]
    else:
        for i, name in enumerate(ENCODINGS[source].order):
            rgba[..., "rgba".index(name)] = array[..., i]
    if target == "mono8":
        expected = rgba[..., :3] @ [0.299, 0.587, 0.114]
    else:
        expected = rgba[..., ["rgba".index(name) for name in ENCODINGS[target].order]]
    assert converted.dtype == np.uint8
    assert converted.shape == expected.shape
    assert np.abs(converted - expected).max() <= (1 if "mono8" in (source, target) else 0)


def test_single_channels_of_one_type_are_the_same_pixels():
    array = pixels_of("16UC1")
    np.testing.assert_array_equal(image_to_numpy(numpy_to_image(array, "16UC1"), "mono16"), array)


@pytest.mark.parametrize(
    ("source", "target"), [("16UC1", "rgb8"), ("rgb8", "32FC1"), ("8UC3", "rgb8"), ("mono8", "mono16")]
)
def test_meaningless_conversions_are_refused(source, target):
    # Either names what there is, or what would be taken instead.
    words = f"image.encoding: ({source} does not convert to {target}|expected one of .*, got '{source}')"
    with pytest.raises(ValueError, match=words):
        image_to_numpy(numpy_to_image(pixels_of(source), source), target)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoding": "yuv422"}, "image.encoding: expected one of rgb8, .* got 'yuv422'"),
        ({"encoding": ""}, "image.encoding: expected one of"),
        ({"height": 0}, "image.height: expected 1 to 65536 pixels, got 0"),
        ({"width": 2**32 - 1}, "image.width: expected"),
        ({"step": 14}, "image.step: expected at least 15 bytes for 5 pixels of rgb8, got 14"),
        ({"step": 2**32 - 1}, "image.data: expected .* got 45"),
        ({"height": 4}, "image.data: expected 60 bytes .* got 45"),
        ({"height": 2}, "image.data: expected 30 bytes .* got 45"),
        ({"is_bigendian": 7}, "image.is_bigendian: expected 0 or 1, got 7"),
    ],
)
def test_contradictory_messages_are_refused(change, message):
    image = numpy_to_image(pixels_of("rgb8"), "rgb8")
    for field, value in change.items():
        setattr(image, field, value)
    with pytest.raises(ValueError, match=message):
        image_to_numpy(image)


@pytest.mark.parametrize(
    ("array", "encoding", "message"),
    [
        (np.zeros((2, 2), np.uint8), "rgb8", r"array: expected \(H, W, 3\) uint8 for rgb8, got \(2, 2\)"),
        (np.zeros((2, 2, 3)), "rgb8", "got .* float64"),
        (np.zeros((0, 2, 3), np.uint8), "rgb8", "array: expected"),
        (np.zeros(3, np.uint8), "mono8", "array: expected"),
        (np.zeros((2, 2), np.uint8), "yuv", "encoding: expected one of"),
    ],
)
def test_unfit_arrays_are_refused(array, encoding, message):
    with pytest.raises(ValueError, match=message):
        numpy_to_image(array, encoding)


def test_another_class_is_refused():
    with pytest.raises(TypeError, match="image: expected sensor_msgs/Image, got Header"):
        image_to_numpy(Header())


def test_rows_that_start_between_numbers_are_copied_into_place():
    # Three bytes of padding after 16-bit pixels: a view of them would be unaligned, which torch refuses.
    read = image_to_numpy(message_of(pixels_of("16UC1"), "16UC1", NATIVE_BIG, padding=3))
    assert read.flags.aligned
    np.testing.assert_array_equal(read, pixels_of("16UC1"))


def test_a_frame_name_is_no_header():
    with pytest.raises(TypeError, match="header: expected std_msgs/Header, got str"):
        numpy_to_image(pixels_of("rgb8"), "rgb8", "map")
