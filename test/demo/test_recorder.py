"""What the demo's planner hears of imagined frames."""

from contextlib import closing

import numpy as np
import torch
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.ros.conversions import camera_to_info, depth_from_metres, numpy_to_image, pose_to_stamped, stamp_from_ns


def test_parts_of_one_stamp_make_a_frame_with_its_camera(ros, tmp_path):
    from mirage_ros.demo.bag_writer import BagWriter
    from mirage_ros.demo.recorder import Recorder

    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, 3] = torch.tensor([1.0, 2.0, 3.0])
    camera = pinhole(4, 6, focal=5.0, cam2world=pose)
    header = Header(stamp=stamp_from_ns(7 * 10**9), frame_id="camera")
    metres = np.full((4, 6), 2.0, np.float32)
    metres[0] = np.inf
    visible = np.zeros((4, 6), np.float32)
    visible[:, :3] = 1
    messages = {
        "imagined/image": numpy_to_image(np.full((4, 6, 3), 9, np.uint8), "rgb8", header),
        "imagined/camera_info": camera_to_info(camera, header),
        "imagined/depth": depth_from_metres(metres, header=header),
        "imagined/visibility": numpy_to_image(visible, "32FC1", header),
        "imagined/pose": pose_to_stamped(pose, Header(stamp=header.stamp, frame_id="map")),
    }
    with BagWriter(tmp_path / "bag") as bag, closing(Recorder(bag)) as recorder:
        for name, message in messages.items():
            assert not recorder.frames
            recorder.record(name, message)
    (frame,) = recorder.frames
    assert frame.stamp == 7 * 10**9
    assert frame.coverage == 0.5
    np.testing.assert_array_equal(frame.depth, metres)
    torch.testing.assert_close(frame.camera.cam2world, pose)
    torch.testing.assert_close(frame.camera.intrinsics, camera.intrinsics.double())
