"""2,000 malformed messages: each is refused with an error that names its field, or converted right."""

import math
import re
import struct

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
    camera_from_info,
    cloud_to_points,
    compressed_depth_to_metres,
    compressed_to_numpy,
    depth_to_metres,
    image_to_numpy,
    numpy_to_compressed,
    path_to_poses,
    points_to_cloud,
    pose_from_stamped,
)

NAMED = re.compile(
    r"^(image|depth|compressed image|compressed depth|camera_info|pose|path|cloud)[.\w\[\]]*: .*(got|damaged|convert)"
)
SIZES = st.one_of(st.integers(0, 9), st.sampled_from([255, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]))
NUMBERS = st.one_of(
    st.floats(-10, 10), st.sampled_from([0.0, 1.0, math.nan, math.inf, -math.inf, 1e-300, 1e300, -1.0, 600.0])
)
BYTES = st.binary(max_size=200)
STRUCT_CODES = {"8UC1": "B", "mono8": "B", "mono16": "H", "16UC1": "H", "32FC1": "f"}


def outcome(convert, *arguments):
    """The result, or None after a refusal in the agreed form; anything else that is raised fails the test."""
    try:
        return convert(*arguments)
    except ValueError as error:
        assert NAMED.match(str(error)), f"unclear: {error}"
        return None


@st.composite
def images(draw):
    message = Image(
        height=draw(SIZES),
        width=draw(SIZES),
        step=draw(SIZES),
        is_bigendian=draw(st.sampled_from([0, 0, 1, 1, 2, 255])),
        encoding=draw(
            st.sampled_from(["rgb8", "bgra8", "mono8", "mono16", "16UC1", "32FC1", "8UC3", "", "yuv422", "rgb8 "])
        ),
    )
    if draw(st.booleans()):
        # Near misses: consistent but for a few bytes more or less.
        message.height, message.width = draw(st.integers(1, 4)), draw(st.integers(1, 4))
        message.step = max(0, message.width * draw(st.sampled_from([1, 2, 3, 4])) + draw(st.integers(-1, 3)))
        message.data.frombytes(bytes(max(0, message.step * message.height + draw(st.integers(-2, 1)))))
    else:
        message.data.frombytes(draw(BYTES))
    return message


def slow_image(message):
    """Pixel by pixel with struct."""
    channels = {"rgb8": 3, "8UC3": 3, "bgra8": 4}.get(message.encoding, 1)
    code = (">" if message.is_bigendian else "<") + STRUCT_CODES.get(message.encoding, "B")
    size, data = struct.calcsize(code), bytes(message.data)
    return [
        [
            [struct.unpack_from(code, data, i * message.step + (j * channels + c) * size)[0] for c in range(channels)]
            for j in range(message.width)
        ]
        for i in range(message.height)
    ]


@settings(max_examples=500)
@given(images())
def test_images(message):
    pixels = outcome(image_to_numpy, message)
    if pixels is not None:
        np.testing.assert_array_equal(pixels.reshape(message.height, message.width, -1), np.array(slow_image(message)))
    metres = outcome(depth_to_metres, message)
    assert metres is None or (np.isfinite(metres).all() and (metres >= 0).all())
    colours = outcome(image_to_numpy, message, "rgb8")
    assert colours is None or colours.shape == (message.height, message.width, 3)


VALID = [bytes(numpy_to_compressed(np.full((4, 6, 3), 77, np.uint8), codec=codec).data) for codec in ("jpeg", "png")]


@st.composite
def compressed(draw):
    data = bytearray(draw(st.sampled_from([*VALID, b""])) or draw(BYTES))
    for _ in range(draw(st.integers(0, 4))):
        if data:
            data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    message = CompressedImage(
        format=draw(st.sampled_from(["jpeg", "", "png", "16UC1; compressedDepth png", "compressedDepth"]))
    )
    message.data.frombytes(bytes(data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data))
    return message


@settings(max_examples=400)
@given(compressed())
def test_compressed_images(message):
    pixels = outcome(compressed_to_numpy, message)
    assert pixels is None or (pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3)
    metres = outcome(compressed_depth_to_metres, message)
    assert metres is None or np.isfinite(metres).all()


@st.composite
def camera_infos(draw):
    message = CameraInfo(height=draw(SIZES), width=draw(SIZES), binning_x=draw(SIZES), binning_y=draw(SIZES))
    good = [600.0, 0, 320, 0, 610, 240, 0, 0, 1]
    message.k = [draw(NUMBERS) if draw(st.integers(0, 9)) == 0 else value for value in good]
    message.p = [draw(NUMBERS) for _ in range(12)] if draw(st.booleans()) else [0.0] * 12
    message.d = [draw(NUMBERS) for _ in range(draw(st.integers(0, 5)))]
    message.roi = RegionOfInterest(x_offset=draw(SIZES), y_offset=draw(SIZES), height=draw(SIZES), width=draw(SIZES))
    return message


@settings(max_examples=400)
@given(camera_infos())
def test_camera_infos(message):
    camera = outcome(camera_from_info, message, torch.eye(4))
    if camera is not None:
        assert camera.intrinsics.isfinite().all()
        assert 0 < camera.height <= 65536
        assert 0 < camera.width <= 65536
        assert (camera.intrinsics[[0, 1], [0, 1]] > 0).all()


@st.composite
def stamped_poses(draw):
    orientation = Quaternion(w=1.0)
    if draw(st.booleans()):
        orientation = Quaternion(**{axis: draw(NUMBERS) for axis in "xyzw"})
    header = Header(frame_id=draw(st.sampled_from(["", "map", "odom"])))
    header.stamp = Time(sec=draw(st.sampled_from([0, 5, -1, 2**31 - 1])), nanosec=draw(SIZES))
    return PoseStamped(
        header=header, pose=Pose(position=Point(**{axis: draw(NUMBERS) for axis in "xyz"}), orientation=orientation)
    )


@settings(max_examples=300)
@given(st.lists(stamped_poses(), max_size=3))
def test_poses_and_paths(poses):
    for message in poses:
        result = outcome(pose_from_stamped, message)
        if result is not None:
            q = message.pose.orientation
            w, x, y, z = np.array([q.w, q.x, q.y, q.z]) / np.linalg.norm([q.w, q.x, q.y, q.z])
            first_column = [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)]
            np.testing.assert_allclose(result[0][:3, 0], first_column, atol=1e-9)
    path = outcome(path_to_poses, Path(poses=poses))
    assert path is None or path[0].shape == (len(poses), 4, 4)


@st.composite
def clouds(draw):
    points = np.arange(12, dtype=np.float32).reshape(4, 3)
    message = points_to_cloud(points, np.zeros((4, 3), np.uint8), np.ones(4, np.float32))
    for name in draw(st.sets(st.sampled_from(["height", "width", "point_step", "row_step"]), max_size=2)):
        setattr(message, name, draw(SIZES))
    message.is_bigendian = draw(st.booleans())
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(["x", "y", "z", "rgb", "rgba", "confidence", ""]), max_size=6))
        message.fields = [
            PointField(
                name=n,
                offset=draw(SIZES),
                datatype=draw(st.integers(0, 9)),
                count=draw(st.sampled_from([0, 1, 2, 2**32 - 1])),
            )
            for n in names
        ]
    if draw(st.booleans()):
        message.data = message.data[: draw(st.integers(0, 80))]
    return message


@settings(max_examples=400)
@given(clouds())
def test_clouds(message):
    result = outcome(cloud_to_points, message)
    if result is not None:
        points, colours, confidence = result
        assert len(points) == len(colours) == len(confidence) == message.height * message.width
        (x,) = [field for field in message.fields if field.name == "x"][-1:]
        codes = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I", 7: "f", 8: "d"}
        code = (">" if message.is_bigendian else "<") + codes[x.datatype]
        for i, value in enumerate(points[:, 0]):
            row, column = divmod(i, message.width)
            (expected,) = struct.unpack_from(
                code, bytes(message.data), row * message.row_step + column * message.point_step + x.offset
            )
            np.testing.assert_equal(value, np.float64(expected).astype(np.float32))


def test_the_examples_are_two_thousand():
    tests = [test_images, test_compressed_images, test_camera_infos, test_poses_and_paths, test_clouds]
    assert sum(test._hypothesis_internal_use_settings.max_examples for test in tests) >= 2000


@pytest.mark.parametrize(
    "convert", [image_to_numpy, compressed_to_numpy, cloud_to_points, path_to_poses, pose_from_stamped]
)
@pytest.mark.parametrize("thing", [None, 3, b"", "text", Header()])
def test_other_objects_are_refused_by_type(convert, thing):
    with pytest.raises(TypeError, match="expected .*_msgs/"):
        convert(thing)
