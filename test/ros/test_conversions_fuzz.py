"""2,000 malformed messages: each is refused with an error that names its field, or converted right.

What converts is compared with a slow reading of the same message by struct and plain Python.
"""

import math
import re
import struct

import cv2
import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion
from hypothesis import given, settings
from hypothesis import strategies as st
from nav_msgs.msg import Path
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointField, RegionOfInterest
from std_msgs.msg import Header

from mirage_ros.ros.conversions import (
    ENCODINGS,
    camera_from_info,
    cloud_to_points,
    compressed_to_numpy,
    depth_to_metres,
    image_to_numpy,
    numpy_to_compressed,
    path_to_poses,
    points_to_cloud,
    pose_from_stamped,
)

NAMED = re.compile(
    r"^(image|depth|compressed image|camera_info|pose|path|cloud)[.\w\[\]]*: "
    r"(expected .* got .*|\w+ does not convert to \w+)$",
    re.DOTALL,
)
SIZES = st.one_of(st.integers(0, 9), st.sampled_from([255, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]))
NUMBERS = st.one_of(
    st.floats(-10, 10), st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf, 1e-300, 1e300, -1.0, 600.0])
)
BYTES = st.binary(max_size=200)
STRUCT_CODES = {"mono16": "H", "16UC1": "H", "32FC1": "f"}


def outcome(convert, *arguments):
    """The result, or None after a refusal in the agreed form; anything else that is raised fails the test."""
    try:
        return convert(*arguments)
    except ValueError as error:
        assert NAMED.match(str(error)), f"unclear: {error}"
        return None


def rarely(draw, strange, usual):
    """A strange value one time in six."""
    return draw(strange) if draw(st.integers(0, 5)) == 0 else usual


@st.composite
def images(draw):
    encoding = draw(st.sampled_from([*ENCODINGS, "", "yuv422", "rgb8 "]))
    pixel = ENCODINGS[encoding].pixel_bytes if encoding in ENCODINGS else 1
    height, width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    step = max(0, width * pixel + draw(st.sampled_from([0, 0, 0, 1, 3, -1])))
    length = max(0, step * height + draw(st.sampled_from([0, 0, 0, -1, -2, 1])))
    message = Image(encoding=encoding, height=rarely(draw, SIZES, height), width=rarely(draw, SIZES, width))
    message.step = rarely(draw, SIZES, step)
    message.is_bigendian = draw(st.sampled_from([0, 0, 0, 1, 1, 1, 2, 255]))
    seed = draw(st.integers(0, 99))
    message.data.frombytes(rarely(draw, BYTES, np.random.default_rng(seed).bytes(length)))
    return message


def slow_image(message):
    """Lists of rows of pixels of channels."""
    channels = ENCODINGS[message.encoding].channels
    code = (">" if message.is_bigendian else "<") + STRUCT_CODES.get(message.encoding, "B")
    size, data = struct.calcsize(code), bytes(message.data)
    return [
        [
            [struct.unpack_from(code, data, i * message.step + (j * channels + c) * size)[0] for c in range(channels)]
            for j in range(message.width)
        ]
        for i in range(message.height)
    ]


def slow_metres(value, encoding):
    if encoding == "32FC1":
        return value if value > 0 else 0.0
    return value / 1000 if value < 65535 else 0.0


@settings(max_examples=500)
@given(images())
def test_images(message):
    pixels = outcome(image_to_numpy, message)
    metres = outcome(depth_to_metres, message)
    colours = outcome(image_to_numpy, message, "rgb8")
    if pixels is None:
        assert metres is None
        assert colours is None
        return
    expected = slow_image(message)
    np.testing.assert_array_equal(pixels.reshape(message.height, message.width, -1), np.array(expected))
    assert (metres is not None) == (message.encoding in ("32FC1", "16UC1", "mono16"))
    if metres is not None:
        np.testing.assert_allclose(
            metres, [[slow_metres(pixel[0], message.encoding) for pixel in row] for row in expected], rtol=1e-6
        )
    order = ENCODINGS[message.encoding].order
    assert (colours is not None) == (order != "" and message.encoding != "mono16")
    if colours is not None:
        expected = [[[pixel[order.find(c) if c in order else 0] for c in "rgb"] for pixel in row] for row in expected]
        np.testing.assert_array_equal(colours, expected if order != "mono" else np.repeat(pixels[..., None], 3, -1))


COLOUR = np.full((4, 6, 3), 77, np.uint8)
JPEG, PNG = bytes(numpy_to_compressed(COLOUR).data), cv2.imencode(".png", COLOUR)[1].tobytes()


@st.composite
def compressed(draw):
    """A seed, and a message of it with some bytes changed, cut off or in front."""
    seed = draw(st.sampled_from([JPEG, PNG, b""]))
    data = bytearray(seed or draw(BYTES))
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 4]))):
        if data:
            # Headers are where the claims are.
            place = draw(st.integers(0, min(40, len(data) - 1)) | st.integers(0, len(data) - 1))
            data[place] = draw(st.integers(0, 255))
    if rarely(draw, st.just(True), False):
        data = data[: draw(st.integers(0, len(data)))]
    message = CompressedImage(format=draw(st.sampled_from(["jpeg", "", "32FC1", ";"])))
    message.data.frombytes(bytes(data))
    return seed, message


@settings(max_examples=400)
@given(compressed())
def test_compressed_images(seed_and_message):
    seed, message = seed_and_message
    data = bytes(message.data)
    pixels = outcome(compressed_to_numpy, message)
    if pixels is not None:
        assert pixels.dtype == np.uint8
        assert pixels.shape[2:] == (3,)
        # A PNG checks its own bytes, so it is the whole picture or refused; a JPEG does not.
        if seed is PNG or data == JPEG:
            assert np.abs(pixels.astype(int) - COLOUR).max() <= 1
    assert pixels is not None or data not in (JPEG, PNG)


@st.composite
def camera_infos(draw):
    message = CameraInfo(height=rarely(draw, SIZES, 480), width=rarely(draw, SIZES, 640))
    message.binning_x = rarely(draw, SIZES, draw(st.sampled_from([0, 1, 2])))
    message.binning_y = rarely(draw, SIZES, draw(st.sampled_from([0, 1, 2])))
    k = [600.0, 0.0, 320.0, 0.0, 610.0, 240.0, 0.0, 0.0, 1.0]
    p = [500.0, 0.0, 300.0, draw(NUMBERS), 0.0, 510.0, 200.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    spoil = draw(st.sampled_from([0, 0, 0, 1, 2]))
    for _ in range(spoil):
        matrix = draw(st.sampled_from([k, p]))
        matrix[draw(st.integers(0, len(matrix) - 1))] = draw(NUMBERS)
    message.k = draw(st.sampled_from([k, k, k, [0.0] * 9]))
    message.p = draw(st.sampled_from([p, [0.0] * 12]))
    message.d = draw(st.sampled_from([[], [0.0] * 5, [draw(NUMBERS)]]))
    if draw(st.booleans()):
        message.roi = RegionOfInterest(x_offset=draw(SIZES), y_offset=draw(SIZES))
        message.roi.height, message.roi.width = rarely(draw, SIZES, 100), rarely(draw, SIZES, 200)
    return message


@settings(max_examples=400)
@given(camera_infos(), st.booleans())
def test_camera_infos(message, rectified):
    camera = outcome(camera_from_info, message, torch.eye(4), rectified)
    if camera is None:
        return
    if rectified and message.p[0] != 0:
        fx, skew, cx, fy, cy = (message.p[i] for i in (0, 1, 2, 5, 6))
    else:
        fx, skew, cx, fy, cy = (message.k[i] for i in (0, 1, 2, 4, 5))
        assert not any(message.d)
    roi, across, down = message.roi, message.binning_x or 1, message.binning_y or 1
    width, height = roi.width or message.width, roi.height or message.height
    assert (camera.width * across, camera.height * down) == (width, height)
    assert roi.x_offset + roi.width <= message.width
    assert roi.y_offset + roi.height <= message.height
    expected = [
        [fx / across, skew / across, (cx + 0.5 - roi.x_offset) / across],
        [0, fy / down, (cy + 0.5 - roi.y_offset) / down],
        [0, 0, 1],
    ]
    assert all(map(math.isfinite, (fx, skew, cx, fy, cy)))
    assert min(fx, fy) > 0
    np.testing.assert_allclose(camera.intrinsics, expected, rtol=1e-12)


@st.composite
def stamped_poses(draw):
    axis = np.random.default_rng(draw(st.integers(0, 99))).normal(size=4)
    unit = (axis / np.linalg.norm(axis) * draw(st.sampled_from([1.0, 1.0, 1.0, 0.995, 1.02, 0.5]))).tolist()
    position = [rarely(draw, NUMBERS, draw(st.floats(-10, 10))) for _ in range(3)]
    orientation = [rarely(draw, NUMBERS, value) if draw(st.integers(0, 3)) == 0 else value for value in unit]
    header = Header(frame_id=draw(st.sampled_from(["", "map", "map", "map", "odom"])))
    header.stamp = Time(sec=draw(st.sampled_from([0, 5, 7, -1, 2**31 - 1])), nanosec=rarely(draw, SIZES, 20))
    x, y, z, w = orientation
    pose = Pose(position=Point(**dict(zip("xyz", position, strict=True))), orientation=Quaternion(x=x, y=y, z=z, w=w))
    return PoseStamped(header=header, pose=pose)


def slow_pose(pose):
    """Rows of the matrix, from the textbook formula."""
    p, q = pose.position, pose.orientation
    length = math.sqrt(q.x**2 + q.y**2 + q.z**2 + q.w**2)
    x, y, z, w = q.x / length, q.y / length, q.z / length, q.w / length
    return [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y), p.x],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x), p.y],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y), p.z],
        [0, 0, 0, 1],
    ]


@settings(max_examples=300)
@given(st.lists(stamped_poses(), max_size=3))
def test_poses_and_paths(messages):
    results = [outcome(pose_from_stamped, message) for message in messages]
    for message, result in zip(messages, results, strict=True):
        if result is not None:
            pose, frame, stamp = result
            np.testing.assert_allclose(pose, slow_pose(message.pose), atol=1e-9)
            assert frame == message.header.frame_id
            assert stamp == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
    path = outcome(path_to_poses, Path(poses=messages))
    frames = {message.header.frame_id for message in messages} - {""}
    good = bool(messages) and all(result is not None for result in results) and len(frames) <= 1
    assert (path is not None) == good
    if path is not None:
        poses, frame, stamps = path
        np.testing.assert_allclose(poses, [slow_pose(message.pose) for message in messages], atol=1e-9)
        assert frame == "".join(frames)
        assert stamps == [stamp for _, _, stamp in results]


FIELD_CODES = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}


@st.composite
def clouds(draw):
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    points, colours = rng.normal(size=(4, 3)).astype(np.float32), rng.integers(0, 256, (4, 3), dtype=np.uint8)
    message = points_to_cloud(points, colours, rng.random(4, np.float32))
    if draw(st.booleans()):
        message.height, message.width, message.row_step = 2, 2, 40
    for name in draw(st.sets(st.sampled_from(["height", "width", "point_step", "row_step"]), max_size=1)):
        setattr(message, name, draw(SIZES))
    if rarely(draw, st.just(True), False):
        message.height, message.width, message.row_step, message.point_step = (draw(SIZES) for _ in range(4))
    message.is_bigendian = draw(st.booleans())
    if draw(st.booleans()):
        names = draw(st.permutations(["x", "y", "z", draw(st.sampled_from(["rgb", "rgba"])), "confidence", "_", "_"]))
        message.fields = [
            PointField(
                name=name,
                offset=rarely(draw, SIZES, draw(st.integers(0, 16))),
                datatype=rarely(draw, st.integers(0, 9), draw(st.sampled_from([6, 7, 7]))),
                count=rarely(draw, st.sampled_from([0, 2, 2**32 - 1]), 1),
            )
            for name in names[draw(st.sampled_from([0, 0, 0, 1, 3])) :]
        ]
    if rarely(draw, st.just(True), False):
        message.data = message.data[: draw(st.integers(0, 80))]
    return message


def slow_column(message, name, code=None):
    """The values of the one field of this name, or None."""
    for field in message.fields:
        if field.name == name:
            order, data = ">" if message.is_bigendian else "<", bytes(message.data)
            code = order + (code or FIELD_CODES[field.datatype])
            starts = [
                i * message.row_step + j * message.point_step + field.offset
                # No rows at all where they are empty: their number may be anything.
                for i in range(message.height if message.width else 0)
                for j in range(message.width)
            ]
            return [struct.unpack_from(code, data, start)[0] for start in starts]
    return None


@settings(max_examples=400)
@given(clouds())
def test_clouds(message):
    result = outcome(cloud_to_points, message)
    if result is None:
        return
    points, colours, confidence = result
    assert len(points) == len(colours) == len(confidence) == message.height * message.width
    for axis, name in enumerate("xyz"):
        np.testing.assert_array_equal(points[:, axis], np.array(slow_column(message, name), np.float32))
    bits = slow_column(message, "rgb", "I") or slow_column(message, "rgba", "I") or [0xFFFFFF] * len(points)
    assert colours.tolist() == [[value >> 16 & 255, value >> 8 & 255, value & 255] for value in bits]
    expected = slow_column(message, "confidence") or [1.0] * len(points)
    np.testing.assert_array_equal(confidence, np.array(expected, np.float32))


def test_the_examples_are_two_thousand():
    tests = [test_images, test_compressed_images, test_camera_infos, test_poses_and_paths, test_clouds]
    assert sum(test._hypothesis_internal_use_settings.max_examples for test in tests) >= 2000


@pytest.mark.parametrize(
    "convert",
    [
        image_to_numpy,
        depth_to_metres,
        compressed_to_numpy,
        cloud_to_points,
        path_to_poses,
        pose_from_stamped,
        lambda message: camera_from_info(message, torch.eye(4)),
    ],
)
@pytest.mark.parametrize("thing", [None, 3, b"", "text", Header()])
def test_other_objects_are_refused_by_type(convert, thing):
    with pytest.raises(TypeError, match="expected .*_msgs/"):
        convert(thing)
