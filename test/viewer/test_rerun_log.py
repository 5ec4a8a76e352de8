"""Rerun gets every topic of a node."""

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped
from mirage_ros.msg import MemoryStatus
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.ros.conversions import (
    camera_to_info,
    depth_from_metres,
    numpy_to_image,
    points_to_cloud,
    poses_to_path,
    stamp_from_ns,
)
from mirage_ros.ros.topics import topic

rerun = pytest.importorskip("rerun")


def test_what_a_node_publishes_is_recorded(ros, tmp_path):
    from mirage_ros.viewer.rerun_log import RerunLog

    rerun.init("test", recording_id="test", spawn=False)
    rerun.save(tmp_path / "view.rrd")
    viewer = RerunLog(rerun, "bot", context=ros.context)
    ros.executor.add_node(viewer)
    tester = ros.node("tester", namespace="bot")
    header = Header(stamp=stamp_from_ns(10**18), frame_id="map")
    rgb, share = np.zeros((8, 12, 3), np.uint8), np.ones((8, 12), np.float32)
    points = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32)
    messages = {
        "image": numpy_to_image(rgb, "rgb8", header),
        "imagined/image": numpy_to_image(rgb, "rgb8", header),
        "preview/image": numpy_to_image(rgb, "rgb8", header),
        "imagined/visibility": numpy_to_image(share, "32FC1", header),
        "imagined/depth": depth_from_metres(share, header=header),
        "imagined/camera_info": camera_to_info(pinhole(8, 12, focal=10.0), header),
        "imagined/pose": PoseStamped(header=header),
        "imagined/path": poses_to_path(torch.eye(4).repeat(3, 1, 1), header),
        "memory/points": points_to_cloud(points, np.zeros((500, 3), np.uint8), np.ones(500, np.float32), header),
        "memory/status": MemoryStatus(header=header),
    }
    publishers = {}
    for name, message in messages.items():
        row = topic(name)
        publishers[name] = tester.create_publisher(type(message), name, row.qos())
    try:
        ros.spin_until(lambda: all(publisher.get_subscription_count() for publisher in publishers.values()))
        for name, message in messages.items():
            publishers[name].publish(message)
        ros.spin_until(lambda: set(viewer.shown) == set(messages))
        # A message that contradicts itself is left out and nothing else happens.
        publishers["image"].publish(numpy_to_image(rgb[..., 0].copy(), "mono8", header))
        broken = numpy_to_image(rgb, "rgb8", header)
        broken.step = 1
        publishers["image"].publish(broken)
        ros.spin_until(lambda: viewer.shown["image"] == 2)
    finally:
        viewer.destroy_node()
    rerun.disconnect()
    assert (tmp_path / "view.rrd").stat().st_size > points.nbytes
