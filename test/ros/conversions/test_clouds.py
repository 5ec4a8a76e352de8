"""Point clouds."""

import struct

import numpy as np
import pytest
from sensor_msgs.msg import PointCloud2, PointField

from mirage_ros.ros.conversions import cloud_to_points, points_to_cloud


def sample(count=100):
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(count, 3)).astype("f4"),
        rng.integers(0, 256, (count, 3), dtype=np.uint8),
        rng.random(count, "f4"),
    )


def test_round_trip():
    for count in (0, 1, 100):
        points, colours, confidence = sample(count)
        cloud = points_to_cloud(points, colours, confidence)
        assert (cloud.height, cloud.width, cloud.point_step) == (1, count, 20)
        for read, written in zip(cloud_to_points(cloud), (points, colours, confidence), strict=True):
            np.testing.assert_array_equal(read, written)


def test_colours_are_packed_as_rviz_reads_them():
    cloud = points_to_cloud(np.zeros((1, 3)), np.array([[1, 2, 3]], np.uint8), np.ones(1))
    assert [field.name for field in cloud.fields] == ["x", "y", "z", "rgb", "confidence"]
    assert bytes(cloud.data[12:16]) == bytes([3, 2, 1, 0])
    assert cloud.is_dense
    assert not points_to_cloud(np.full((1, 3), np.nan), np.zeros((1, 3), np.uint8), np.ones(1)).is_dense


def test_other_layouts_read_the_same():
    # Big-endian, doubles, fields out of order, padding inside points and at the ends of rows.
    points, colours, _ = sample(6)
    cloud = PointCloud2(height=2, width=3, point_step=40, row_step=130, is_bigendian=True)
    places = {
        "z": (0, PointField.FLOAT64),
        "rgba": (8, PointField.UINT32),
        "x": (16, PointField.FLOAT64),
        "y": (28, PointField.FLOAT32),
    }
    cloud.fields = [PointField(name=n, offset=o, datatype=t, count=1) for n, (o, t) in places.items()]
    data = bytearray(260)
    for i, (point, colour) in enumerate(zip(points, colours, strict=True)):
        start = i // 3 * 130 + i % 3 * 40
        struct.pack_into(">d", data, start, point[2])
        struct.pack_into(">4B", data, start + 8, 9, *colour)
        struct.pack_into(">d", data, start + 16, point[0])
        struct.pack_into(">f", data, start + 28, point[1])
    cloud.data.frombytes(bytes(data))
    read = cloud_to_points(cloud)
    np.testing.assert_array_equal(read[0], points)
    np.testing.assert_array_equal(read[1], colours)
    np.testing.assert_array_equal(read[2], np.ones(6, "f4"))


@pytest.mark.filterwarnings("error")
def test_numbers_too_large_become_infinite():
    cloud = points_to_cloud(np.full((1, 3), 1e300), np.zeros((1, 3), np.uint8), np.ones(1))
    assert not cloud.is_dense
    assert np.isinf(cloud_to_points(cloud)[0]).all()
    cloud = PointCloud2(height=1, width=1, point_step=24, row_step=24)
    cloud.fields = [PointField(name=n, offset=8 * i, datatype=PointField.FLOAT64, count=1) for i, n in enumerate("xyz")]
    cloud.data.frombytes(struct.pack("<3d", 1e300, 2, 3))
    np.testing.assert_array_equal(cloud_to_points(cloud)[0], [[np.inf, 2, 3]])


def test_repeated_padding_fields_do_not_matter():
    cloud = points_to_cloud(*sample(4))
    padding = PointField(name="_", offset=0, datatype=PointField.UINT8, count=4)
    cloud.fields = [*cloud.fields, padding, padding]
    np.testing.assert_array_equal(cloud_to_points(cloud)[0], sample(4)[0])


def broken(**changes):
    cloud = points_to_cloud(*sample(4))
    for name, value in changes.items():
        setattr(cloud, name, value)
    return cloud


@pytest.mark.parametrize(
    ("cloud", "message"),
    [
        (broken(fields=[]), "cloud.fields: expected x, y, z and none of .* got \\[\\]"),
        (
            broken(fields=broken().fields + broken().fields[3:4]),
            "cloud.fields: expected .* twice, got .*'rgb', .*'rgb'",
        ),
        # Nothing is allocated for points that would all share the same bytes.
        (broken(point_step=0, width=2**31), "cloud.point_step: expected"),
        (broken(point_step=0, row_step=0, width=2**32 - 1, height=2**32 - 1), "cloud.point_step: expected"),
        (broken(width=5), "cloud.data: expected"),
        (broken(height=2**32 - 1), "cloud.data: expected"),
        (broken(point_step=8), "cloud.fields.z: expected inside a point of 8 bytes"),
        (broken(row_step=2), "cloud.data: expected"),
        (
            broken(fields=[PointField(name=n, offset=0, datatype=99, count=1) for n in "xyz"]),
            "cloud.fields.x: expected one number",
        ),
        (
            broken(fields=[PointField(name=n, offset=2**31, datatype=7, count=1) for n in "xyz"]),
            "cloud.fields.x: expected inside",
        ),
        (
            broken(
                fields=[PointField(name=n, offset=0, datatype=7, count=1) for n in "xyz"]
                + [PointField(name="rgb", datatype=8)]
            ),
            "cloud.fields.rgb: expected float32 or uint32",
        ),
    ],
)
def test_contradictory_clouds_are_refused_by_field(cloud, message):
    with pytest.raises(ValueError, match=message):
        cloud_to_points(cloud)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 2)), np.zeros((2, 3), np.uint8), np.zeros(2)), "points: expected"),
        ((np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(2)), "colours: expected"),
        ((np.zeros((2, 3)), np.zeros((2, 3), np.uint8), np.zeros(3)), "confidence: expected"),
        ((np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.array(["a"])), "confidence: expected"),
    ],
)
def test_unfit_arrays_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        points_to_cloud(*arguments)
