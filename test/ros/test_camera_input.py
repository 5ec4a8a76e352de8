"""Camera frames: poses between poses, distortion, contradictions."""

import cv2
import numpy as np
import pytest
import torch
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Pose
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.ros.camera_input import CameraInput, PoseBuffer, StampSynchroniser
from mirage_ros.ros.conversions import camera_to_info, depth_from_metres, numpy_to_image, pose_from_msg, stamp_from_ns
from mirage_ros.ros.parameters import ObservationParameters

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def at(x):
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    return pose


class TestPoseBuffer:
    def test_between_two_poses_it_interpolates(self):
        buffer = PoseBuffer()
        buffer.add(NOW, at(0.0))
        buffer.add(NOW + SECOND // 10, at(1.0))
        torch.testing.assert_close(buffer.at(NOW + SECOND // 40), at(0.25))
        torch.testing.assert_close(buffer.at(NOW), at(0.0))

    def test_rotations_are_interpolated_too(self):
        turned = pose_from_msg(Pose())
        angle = 0.6
        turned[0, 0] = turned[2, 2] = np.cos(angle)
        turned[0, 2], turned[2, 0] = np.sin(angle), -np.sin(angle)
        buffer = PoseBuffer()
        buffer.add(NOW, at(0.0))
        buffer.add(NOW + 100, turned)
        half = buffer.at(NOW + 50)
        assert half[0, 2] == pytest.approx(np.sin(angle / 2))

    def test_it_waits_for_a_later_pose_and_refuses_what_came_too_early(self):
        buffer = PoseBuffer()
        assert buffer.at(NOW) is None
        buffer.add(NOW, at(0.0))
        assert buffer.at(NOW + 1) is None
        with pytest.raises(ValueError, match="camera_pose: expected a pose from before the image"):
            buffer.at(NOW - SECOND)
        assert buffer.latest(NOW + SECOND // 4) is not None
        assert buffer.latest(NOW + SECOND) is None

    def test_late_poses_are_left_out_and_a_clock_set_back_starts_anew(self):
        buffer = PoseBuffer()
        buffer.add(NOW, at(0.0))
        buffer.add(NOW - SECOND, at(9.0))
        torch.testing.assert_close(buffer.at(NOW), at(0.0))
        buffer.add(NOW - 60 * SECOND, at(5.0))
        torch.testing.assert_close(buffer.at(NOW - 60 * SECOND), at(5.0))


def as_png(rgb, header):
    message = CompressedImage(header=header, format="rgb8; png compressed bgr8")
    message.data.frombytes(cv2.imencode(".png", rgb[..., ::-1])[1].tobytes())
    return message


def messages(stamp=NOW, rgb=None, depth=2.0, camera=None, compressed=False):
    header = Header(stamp=stamp_from_ns(stamp), frame_id="camera")
    rgb = np.zeros((40, 60, 3), np.uint8) if rgb is None else rgb
    image = as_png(rgb, header) if compressed else numpy_to_image(rgb, "rgb8", header)
    return {
        "image": image,
        "camera_info": camera_to_info(pinhole(40, 60, focal=50.0) if camera is None else camera, header),
        "depth": depth_from_metres(np.full((40, 60), depth, np.float32), header=header),
    }


def feed(camera_input, parts, pose=None):
    pose = at(0.0) if pose is None else pose
    for name, message in parts.items():
        camera_input.add(name, message)
    return camera_input.take(pose)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_frame_keeps_its_pixels_pose_and_optics(compressed):
    rgb = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    observation = feed(CameraInput(ObservationParameters()), messages(rgb=rgb, compressed=compressed), at(3.0))
    np.testing.assert_array_equal(observation.rgb, rgb)
    assert observation.rgb.flags.writeable
    assert observation.stamp == NOW
    assert (observation.depth == 2.0).all()
    torch.testing.assert_close(observation.camera.cam2world, at(3.0))
    torch.testing.assert_close(observation.camera.intrinsics, pinhole(40, 60, focal=50.0).intrinsics.double())


def test_the_oldest_frame_goes_when_too_many_wait():
    camera_input = CameraInput(ObservationParameters(depth="estimated", queue=2))
    for index in range(3):
        parts = messages(NOW + index)
        camera_input.add("image", parts["image"])
        camera_input.add("camera_info", parts["camera_info"])
    assert camera_input.dropped == 1
    assert camera_input.take(at(1.0)).stamp == NOW + 1
    assert camera_input.waiting_stamp() == NOW + 2


def test_depth_of_another_resolution_is_brought_to_the_image_without_mixing_surfaces():
    parts = messages()
    depth = np.ones((20, 30), np.float32)
    depth[:, 15:] = 3.0
    parts["depth"] = depth_from_metres(depth, header=parts["image"].header)
    frame = feed(CameraInput(ObservationParameters()), parts)
    np.testing.assert_array_equal(frame.depth, np.where(np.arange(60) < 30, 1.0, 3.0)[None].repeat(40, 0))
    parts["depth"] = depth_from_metres(np.ones((30, 30), np.float32), header=parts["image"].header)
    with pytest.raises(ValueError, match="depth: expected the shape of the image, 60x40, at any resolution, got 30x30"):
        feed(CameraInput(ObservationParameters()), parts)


def test_other_sizes_are_refused_and_gone():
    camera_input = CameraInput(ObservationParameters())
    with pytest.raises(ValueError, match="camera_info: expected 60x40 like the image, got 30x20"):
        feed(camera_input, messages(camera=pinhole(20, 30, focal=50.0)))
    assert camera_input.waiting_stamp() is None


class TestDistortion:
    D = (-0.3, 0.1, 0.001, -0.001, 0.0)

    def distorted(self, rgb=None):
        parts = messages(rgb=rgb)
        parts["camera_info"].d = list(self.D)
        return parts

    def test_it_is_refused_unless_something_is_said_about_it(self):
        with pytest.raises(ValueError, match="camera_info.d: expected zeros"):
            feed(CameraInput(ObservationParameters()), self.distorted())

    def test_rectified_images_use_p(self):
        parts = self.distorted()
        parts["camera_info"].p[0] = parts["camera_info"].p[5] = 40.0
        observation = feed(CameraInput(ObservationParameters(rectified=True)), parts)
        assert observation.camera.intrinsics[0, 0] == 40.0

    def test_undistorting_makes_straight_what_is_straight(self):
        # Where a straight line of the world falls in the distorted image, and where it should be.
        matrix = np.array([[50.0, 0, 29.5], [0, 50.0, 19.5], [0, 0, 1]])
        line = np.stack([np.linspace(-0.5, 0.5, 400), np.full(400, 0.25), np.ones(400)], axis=-1)
        pixels, _ = cv2.projectPoints(line, np.zeros(3), np.zeros(3), matrix, np.array(self.D))
        rgb = np.zeros((40, 60, 3), np.uint8)
        columns, rows = np.rint(pixels[:, 0]).astype(int).T
        inside = (columns >= 0) & (columns < 60) & (rows >= 0) & (rows < 40)
        rgb[rows[inside], columns[inside]] = 255
        observation = feed(CameraInput(ObservationParameters(undistort=True)), self.distorted(rgb))
        found = np.argwhere(observation.rgb[:, 6:54, 0] > 100)[:, 0]
        assert len(found) > 30
        # The line is at row 19.5 + 50 x 0.25 = 32.
        assert np.abs(found - 32).max() <= 1
        assert set(np.unique(observation.depth)) <= {0.0, 2.0}

    def test_models_that_are_not_known_are_refused(self):
        parts = self.distorted()
        parts["camera_info"].distortion_model = "equidistant"
        with pytest.raises(ValueError, match="expected plumb_bob or rational_polynomial"):
            feed(CameraInput(ObservationParameters(undistort=True)), parts)


def test_an_uncalibrated_camera_is_refused():
    parts = messages()
    parts["camera_info"] = CameraInfo(header=parts["image"].header, height=40, width=60)
    with pytest.raises(ValueError, match="calibrated"):
        feed(CameraInput(ObservationParameters()), parts)


class Message:
    def __init__(self, second):
        self.header = Header(stamp=Time(sec=second))


def test_a_set_is_complete_when_every_topic_has_the_stamp():
    synchroniser = StampSynchroniser(["image", "depth"])
    image, depth = Message(1), Message(1)
    assert synchroniser.add("image", image) is None
    assert synchroniser.add("depth", Message(2)) is None
    assert synchroniser.add("depth", depth) == {"image": image, "depth": depth}
    assert synchroniser.dropped == 0


def test_overtaken_sets_are_dropped_and_counted():
    synchroniser = StampSynchroniser(["image", "depth"])
    synchroniser.add("image", Message(1))
    synchroniser.add("image", Message(2))
    assert synchroniser.add("depth", Message(2)) is not None
    assert synchroniser.dropped == 1
    assert synchroniser.add("depth", Message(1)) is None


def test_the_queue_is_bounded():
    synchroniser = StampSynchroniser(["image", "depth"], size=3)
    for second in range(10):
        synchroniser.add("image", Message(second))
    assert synchroniser.dropped == 7
    assert synchroniser.add("depth", Message(6)) is None
    assert synchroniser.add("depth", Message(9)) is not None


def test_a_clock_that_jumps_back_does_not_block_it():
    synchroniser = StampSynchroniser(["image", "depth"], size=3)
    for second in range(100, 110):
        synchroniser.add("image", Message(second))
    synchroniser.add("image", Message(1))
    assert synchroniser.add("depth", Message(1)) is not None


def test_topics_that_were_not_announced_are_refused():
    with pytest.raises(ValueError, match="topic: expected"):
        StampSynchroniser(["image"]).add("depth", Message(1))
