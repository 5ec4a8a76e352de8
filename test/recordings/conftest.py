"""A bag of one camera that slides along x, written by `rosbags` as the tests wish."""

from __future__ import annotations

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_KILTED)
T = STORE.types
HEIGHT, WIDTH = 48, 64
K = (60.0, 60.0, 31.5, 23.5)


class BagMaker:
    """Messages by topic and time in seconds; `frames` adds pictures and depth, the rest is up to the test."""

    def __init__(self, folder):
        self.folder, self.entries = folder, []

    def add(self, topic, seconds, message):
        self.entries.append((topic, seconds, message))

    def header(self, seconds, frame):
        nanoseconds = round(seconds * 1e9)
        return T["std_msgs/msg/Header"](
            T["builtin_interfaces/msg/Time"](nanoseconds // 10**9, nanoseconds % 10**9), frame
        )

    def image(self, topic, seconds, array, encoding, frame="optical"):
        rows = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
        content = (*array.shape[:2], encoding, 0, rows.shape[1], rows.reshape(-1))
        self.add(topic, seconds, T["sensor_msgs/msg/Image"](self.header(seconds, frame), *content))

    def compressed(self, topic, seconds, data, format, frame="optical"):
        content = (format, np.frombuffer(bytes(data), np.uint8))
        self.add(topic, seconds, T["sensor_msgs/msg/CompressedImage"](self.header(seconds, frame), *content))

    def info(self, topic, size=(WIDTH, HEIGHT), k=K, p=None, d=(), model="plumb_bob", binning=0, roi=(0, 0, 0, 0)):
        fx, fy, cx, cy = k
        px, py, qx, qy = p or k
        self.add(
            topic,
            0.5,
            T["sensor_msgs/msg/CameraInfo"](
                header=self.header(0.5, "optical"),
                height=size[1],
                width=size[0],
                distortion_model=model,
                d=np.array(d, np.float64),
                k=np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1], np.float64),
                r=np.eye(3).reshape(-1),
                p=np.array([px, 0, qx, 0, 0, py, qy, 0, 0, 0, 1, 0], np.float64),
                binning_x=binning,
                binning_y=binning,
                roi=T["sensor_msgs/msg/RegionOfInterest"](*roi, False),
            ),
        )

    def transform(self, seconds, parent, child, place=(0, 0, 0), still=False):
        pose = T["geometry_msgs/msg/Transform"](
            T["geometry_msgs/msg/Vector3"](*map(float, place)), T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        )
        stamped = T["geometry_msgs/msg/TransformStamped"](self.header(seconds, parent), child, pose)
        self.add("/tf_static" if still else "/tf", seconds, T["tf2_msgs/msg/TFMessage"]([stamped]))

    def pose(self, topic, seconds, place, frame="map"):
        pose = T["geometry_msgs/msg/Pose"](
            T["geometry_msgs/msg/Point"](*map(float, place)), T["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
        )
        self.add(topic, seconds, T["geometry_msgs/msg/PoseStamped"](self.header(seconds, frame), pose))

    def frames(self, rgb=None, depth=None, topic="/cam/image_raw", depth_topic="/cam/depth/image_raw", **frames):
        """Five pictures a tenth of a second apart, and depth: millimetres or metres by the type; and the transforms."""
        rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8) if rgb is None else rgb
        for index in range(5):
            seconds = 1 + index / 10
            self.image(topic, seconds, rgb, "rgb8", frames.get("frame", "optical"))
            if depth is not None:
                encoding = "16UC1" if depth.dtype == np.uint16 else "32FC1"
                self.image(depth_topic, seconds, depth, encoding, frames.get("depth_frame", "optical"))
            self.transform(seconds, "map", frames.get("child", "optical"), (0.1 * index, 0, 0))

    def write(self, plugin=StoragePlugin.MCAP, compression=None):
        writer = Writer(self.folder, version=9, storage_plugin=plugin)
        if compression is not None:
            writer.set_compression(CompressionMode[compression], CompressionFormat.ZSTD)
        with writer:
            connections = {}
            for topic, seconds, message in sorted(self.entries, key=lambda entry: entry[1]):
                name = message.__msgtype__
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, name, typestore=STORE)
                writer.write(connections[topic], round(seconds * 1e9), STORE.serialize_cdr(message, name))
        return self.folder


@pytest.fixture
def bag(tmp_path):
    return BagMaker(tmp_path / "bag")
