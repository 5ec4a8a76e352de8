"""Bags: what is recorded comes back bit for bit."""

import pytest
from geometry_msgs.msg import PoseStamped
from mirage_ros.msg import MemoryStatus
from rclpy.serialization import deserialize_message
from rosbags.rosbag2 import Reader
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from mirage_ros.demo.bag_writer import BagWriter


def recorded():
    image = Image(header=Header(frame_id="camera"), height=2, width=3, step=9, encoding="rgb8")
    image.data.frombytes(bytes(range(18)))
    pose = PoseStamped(header=Header(frame_id="map"))
    pose.pose.position.x = 1.5
    return [("/image", image), ("/true_pose", pose), ("/memory/status", MemoryStatus(elements=7)), ("/image", image)]


def test_messages_come_back_unchanged(tmp_path):
    with BagWriter(tmp_path / "bag") as bag:
        for stamp, (topic, message) in enumerate(recorded()):
            bag.write(topic, message, stamp)
    with Reader(tmp_path / "bag") as reader:
        read = [(connection.topic, stamp, bytes(data)) for connection, stamp, data in reader.messages()]
    assert [(topic, stamp) for topic, stamp, _ in read] == [(topic, i) for i, (topic, _) in enumerate(recorded())]
    for (_, message), (_, _, data) in zip(recorded(), read, strict=True):
        assert deserialize_message(data, type(message)) == message
    assert list((tmp_path / "bag").glob("*.mcap"))


def test_an_old_bag_is_replaced_but_nothing_else(tmp_path):
    for _ in range(2):
        with BagWriter(tmp_path / "bag") as bag:
            bag.write("/status", MemoryStatus(), 0)
    # What a killed writer leaves is a bag too.
    (tmp_path / "bag" / "metadata.yaml").unlink()
    with BagWriter(tmp_path / "bag") as bag:
        bag.write("/status", MemoryStatus(), 0)
    assert (tmp_path / "bag" / "metadata.yaml").is_file()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "keep.txt").touch()
    with pytest.raises(FileExistsError, match="not just a bag"):
        BagWriter(tmp_path / "notes")
    (tmp_path / "notes" / "metadata.yaml").touch()
    with pytest.raises(FileExistsError, match="keep.txt"):
        BagWriter(tmp_path / "notes")
    assert (tmp_path / "notes" / "keep.txt").exists()
