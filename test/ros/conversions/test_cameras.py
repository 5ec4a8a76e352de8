"""CameraInfo and Camera describe the same rays."""

import math

import numpy as np
import pytest
import torch
from sensor_msgs.msg import CameraInfo, RegionOfInterest

from mirage_ros.geometry import pinhole
from mirage_ros.ros.conversions import camera_from_info, camera_to_info

EYE = torch.eye(4, dtype=torch.float64)


def info(**changes):
    message = CameraInfo(height=480, width=640)
    message.k = [600.0, 0, 320, 0, 610, 240, 0, 0, 1]
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def test_the_principal_point_moves_by_half_a_pixel():
    camera = camera_from_info(info(), EYE)
    assert camera.intrinsics[:2, 2].tolist() == [320.5, 240.5]
    assert (camera.height, camera.width) == (480, 640)
    # A point straight ahead falls on ROS's pixel (320, 240), whose centre is at 320.5, 240.5 here.
    pixels, _ = camera.project(torch.tensor([[0.0, 0, 1]], dtype=torch.float64))
    assert pixels.tolist() == [[320.5, 240.5]]


def test_round_trip():
    camera = pinhole(48, 64, vertical_fov=1.0, cam2world=EYE)
    back = camera_from_info(camera_to_info(camera), EYE)
    torch.testing.assert_close(back.intrinsics, camera.intrinsics)
    message = camera_to_info(camera)
    assert list(message.p[:3]) == list(message.k[:3])
    assert message.distortion_model == "plumb_bob"


def test_the_projection_of_the_rectified_image_comes_first():
    message = info(d=[0.1, 0, 0, 0, 0], p=[500.0, 0, 300, 0, 0, 500, 200, 0, 0, 0, 1, 0])
    assert camera_from_info(message, EYE).intrinsics[0, 0] == 500


def test_the_drivers_own_images_follow_k():
    message = info(p=[500.0, 0, 300, 0, 0, 500, 200, 0, 0, 0, 1, 0])
    assert camera_from_info(message, EYE, rectified=False).intrinsics[0, 0] == 600
    message.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="camera_info.d: expected zeros"):
        camera_from_info(message, EYE, rectified=False)


def test_window_then_binning():
    message = info(roi=RegionOfInterest(x_offset=100, y_offset=50, width=200, height=100), binning_x=2, binning_y=2)
    camera = camera_from_info(message, EYE)
    expected = camera_from_info(info(), EYE).cropped(50, 100, 100, 200).resized(50, 100)
    assert torch.equal(camera.intrinsics, expected.intrinsics)
    assert (camera.height, camera.width) == (50, 100)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"k": [0.0] * 9}, "camera_info.k: expected a calibrated camera"),
        ({"k": [math.nan] + [0.0] * 8}, "camera_info.k: expected finite"),
        ({"k": [600.0, 0, 320, 0, -610, 240, 0, 0, 1]}, "camera_info.k: expected positive focal"),
        ({"k": [600.0, 0, 320, 0, 610, 240, 0, 1, 1]}, "camera_info.k: expected \\[\\[fx"),
        ({"p": [math.inf] * 12}, "camera_info.p: expected finite"),
        ({"p": [600.0] * 12}, "camera_info.p: expected"),
        ({"d": [0.1, 0, 0, 0, 0]}, "camera_info.d: expected zeros, got .*; rectify the images first"),
        ({"d": [math.nan]}, "camera_info.d: expected finite"),
        ({"height": 0}, "camera_info.height: expected"),
        ({"width": 2**31}, "camera_info.width: expected"),
        ({"roi": RegionOfInterest(x_offset=600, width=100, height=10)}, "camera_info.roi: expected a window inside"),
        ({"binning_x": 7}, "camera_info.binning: expected divisors"),
    ],
)
def test_unusable_messages_are_refused_by_field(changes, message):
    with pytest.raises(ValueError, match=message):
        camera_from_info(info(**changes), EYE)


def test_other_objects_are_refused():
    for pose in (None, np.eye(4), torch.eye(3), EYE * 2):
        with pytest.raises(ValueError, match="cam2world: expected"):
            camera_from_info(info(), pose)
    with pytest.raises(TypeError, match="camera: expected a Camera, got NoneType"):
        camera_to_info(None)


def test_a_batch_of_cameras_has_no_message():
    with pytest.raises(ValueError, match="camera: expected a single one"):
        camera_to_info(pinhole(4, 4, focal=4.0).at(torch.eye(4).repeat(2, 1, 1)))
