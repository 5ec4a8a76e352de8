"""Frames of a bag: names, parents, and what is said where the camera's place does not follow."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from mirage_ros.recordings.bags import rosbag_frames
from mirage_ros.recordings.transform_tree import TransformTree

DEPTH = np.full((48, 64), 2000, np.uint16)


def places(bag, topics=None):
    return [round(float(frame.camera.cam2world[0, 3]), 4) for frame in rosbag_frames(bag.write(), topics)]


@pytest.mark.parametrize(
    ("frame", "child"), [("optical", "/optical"), ("/optical", "optical"), ("/optical", "/optical")]
)
def test_a_leading_slash_means_nothing(bag, frame, child):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH, frame=frame, child=child)
    assert places(bag) == [0, 0.1, 0.2, 0.3, 0.4]


def two_trees(bag):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH, child="base")
    for index in range(5):
        bag.transform(1.02 + index / 10, "odom", "base", (50 + 0.1 * index, 0, 0))
    bag.transform(0.5, "base", "optical", still=True)


def test_two_parents_of_one_frame_are_refused_with_both_names(bag):
    two_trees(bag)
    with pytest.raises(ValueError, match="tf: expected one parent of 'base', got 'map' and 'odom'"):
        places(bag)


def test_two_parents_elsewhere_do_no_harm(bag):
    two_trees(bag)
    bag.entries = [entry for entry in bag.entries if entry[0] != "/tf_static"]
    for index in range(5):
        bag.transform(1 + index / 10, "map", "optical", (0.1 * index, 0, 0))
    assert places(bag) == [0, 0.1, 0.2, 0.3, 0.4]


def test_pictures_without_a_pose_are_counted(bag):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH)
    bag.entries = [(topic, seconds + 60 * (topic == "/tf"), each) for topic, seconds, each in bag.entries]
    for topic, _, message in bag.entries:
        if topic == "/tf":
            message.transforms[0].header.stamp.sec += 60
    with pytest.raises(ValueError, match="rosbag: expected pictures with a pose, got 5 .*, 5 of them with depth"):
        places(bag)


def test_a_tree_that_does_not_lead_to_the_camera_is_named(bag):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH, child="base")
    with pytest.raises(
        ValueError, match="pose: expected transforms .* from 'optical', .* got transforms from map to base"
    ):
        places(bag)


def test_stamps_that_do_not_advance_are_refused(bag):
    bag.info("/cam/camera_info")
    bag.frames()
    for _, _, message in bag.entries:
        for each in (message, *getattr(message, "transforms", ())):
            if hasattr(each, "header"):
                each.header.stamp.sec = each.header.stamp.nanosec = 0
    with pytest.raises(ValueError, match="image: expected stamps that advance in /cam/image_raw, got 0"):
        places(bag)


def test_a_topic_of_another_type_is_named(bag):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH)
    with pytest.raises(ValueError, match=r"pose: expected a topic of .* got '/tf', which is tf2_msgs/msg/TFMessage"):
        places(bag, {"pose": "/tf"})


@pytest.mark.parametrize(
    ("plugin", "compression"),
    [(plugin, each) for plugin in StoragePlugin for each in ("FILE", "MESSAGE")] + [(StoragePlugin.MCAP, "STORAGE")],
)
def test_compressed_bags(bag, plugin, compression):
    bag.info("/cam/camera_info")
    bag.frames(depth=DEPTH)
    bag.write(plugin, compression)
    assert len(list(rosbag_frames(bag.folder))) == 5


def stamped(x, seconds):
    """What the tree reads of a stamped transform."""
    header = SimpleNamespace(stamp=SimpleNamespace(sec=int(seconds), nanosec=round(seconds % 1 * 1e9)), frame_id="map")
    transform = SimpleNamespace(
        translation=SimpleNamespace(x=x, y=0.0, z=0.0), rotation=SimpleNamespace(x=0.0, y=0.0, z=0.0, w=1.0)
    )
    return SimpleNamespace(header=header, transform=transform)


def test_nothing_is_interpolated_over_a_gap_in_which_the_robot_moved():
    tree = TransformTree()
    for seconds, x in ((1, 0.0), (60, 0.0), (61, 1.0), (100, 5.0)):
        tree.add(stamped(x, seconds), "base", still=False)
    known = [tree.pose("base", round(seconds * 1e9)) for seconds in (30, 60.5, 80, 100)]
    assert [None if pose is None else float(pose[0, 3]) for pose in known] == [0.0, 0.5, None, 5.0]


def test_a_frame_that_is_static_at_first_may_move_later():
    tree = TransformTree()
    tree.add(stamped(0.0, 1), "base", still=True)
    tree.add(stamped(1.0, 2), "base", still=False)
    assert tree.moves("base")
    assert float(tree.pose("base", 1_500_000_000)[0, 3]) == 0.5
