"""Camera frames: poses between poses, distortion, contradictions."""

import cv2
import numpy as np
import pytest
import torch
from sensor_msgs.msg import CameraInfo, CompressedImage
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.recordings.registration import register_depth
from mirage_ros.ros.camera_input import CameraInput, doubts_of_units
from mirage_ros.ros.conversions import camera_to_info, depth_from_metres, numpy_to_image, stamp_from_ns
from mirage_ros.ros.parameters import ObservationParameters

SECOND = 10**9
NOW = 1_700_000_000 * SECOND


def at(x):
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = x
    return pose


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
    camera_input.settle()
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


def test_of_frames_that_wait_for_their_pose_the_oldest_stay():
    camera_input = CameraInput(ObservationParameters(depth="estimated", queue=2))
    for index in range(4):
        parts = messages(NOW + index)
        camera_input.add("image", parts["image"])
        camera_input.add("camera_info", parts["camera_info"])
        camera_input.settle()
    assert camera_input.take(at(1.0)).stamp == NOW
    assert camera_input.take(at(1.0)).stamp == NOW + 1
    assert camera_input.waiting() is None


def test_depth_of_another_frame_is_registered_or_refused_by_name():
    def renamed():
        parts = messages()
        parts["depth"].header = Header(stamp=stamp_from_ns(NOW), frame_id="depth_camera")
        return parts

    camera_input = CameraInput(ObservationParameters())
    with pytest.raises(ValueError, match=r"depth.header.frame_id: expected 'camera' like the image.*'depth_camera'"):
        feed(camera_input, renamed())
    assert (feed(CameraInput(ObservationParameters(registered=True)), renamed()).depth == 2.0).all()
    info = camera_to_info(pinhole(40, 60, focal=50.0), Header(frame_id="depth_camera"))
    camera_input.add("depth/camera_info", info)
    for name, message in renamed().items():
        camera_input.add(name, message)
    camera_input.settle()
    # A wall 2 m away, seen from 10 cm to the right: 2.5 columns of it at the left are unknown.
    assert camera_input.depth_frames() == ("camera", "depth_camera")
    depth = camera_input.take(at(0.0), at(0.1)).depth
    assert set(np.unique(depth)) == {0.0, 2.0}
    assert (depth[:, 4:] == 2.0).mean() > 0.99
    assert (depth[:, 0] == 0.0).all()


def test_depth_of_other_optics_in_the_same_frame_is_registered():
    camera_input, parts = CameraInput(ObservationParameters()), messages()
    wide = camera_to_info(pinhole(40, 60, focal=25.0), parts["depth"].header)
    camera_input.add("depth/camera_info", wide)
    metres = np.full((40, 60), 4.0, np.float32)
    # Twice the view: what the colour camera sees is the middle of it.
    metres[10:30, 15:45] = 2.0
    parts["depth"] = depth_from_metres(metres, header=parts["image"].header)
    depth = feed(camera_input, parts).depth
    assert (depth[2:-2, 2:-2] == 2.0).mean() > 0.98
    camera_input.add("depth/camera_info", camera_to_info(pinhole(20, 30, focal=25.0), parts["image"].header))
    parts = messages()
    parts["depth"] = depth_from_metres(np.full((20, 30), 2.0, np.float32), header=parts["image"].header)
    assert (feed(camera_input, parts).depth == 2.0).all()


def test_the_nearer_of_two_surfaces_is_what_a_camera_beside_sees():
    camera = pinhole(40, 60, focal=50.0)
    depth = np.full((40, 60), 4.0, np.float32)
    depth[:, 20:40] = 1.0
    seen = register_depth(depth, camera.at(at(0.2).float()), camera)
    # 1 m away 0.2 m are ten columns, 4 m away two and a half.
    assert (seen[:, 32:48] == 1.0).mean() > 0.99
    assert (seen[:, 4:22] == 4.0).mean() > 0.99
    assert (seen[:, 23:28] == 0.0).mean() > 0.9


def test_what_is_too_far_to_measure_stays_so_and_a_pixel_right_before_the_camera_covers_little():
    camera = pinhole(40, 60, focal=50.0)
    depth = np.full((40, 60), np.inf, np.float32)
    depth[:, :30] = 2.0
    # A millimetre before the camera beside.
    depth[20, 30] = 1.001
    ahead = torch.eye(4, dtype=torch.float64)
    ahead[2, 3] = 1.0
    seen = register_depth(depth, camera, camera.at(ahead.float()))
    assert np.isinf(seen[:, 36:]).all()
    assert (seen[:, :24] == 1.0).all()
    assert 0 < (seen < 0.01).sum() <= 64


def test_units_that_cannot_be_meant_are_doubted():
    wall = np.full((4, 4), 2000.0, np.float32)
    assert "2000 m; 32FC1 is metres (REP-118): are these millimetres" in doubts_of_units(wall, "32FC1")
    assert not doubts_of_units(wall / 1000, "32FC1")
    assert "2 millimetres, the unit of 16UC1: are these metres" in doubts_of_units(wall / 1e6, "16UC1")
    assert not doubts_of_units(wall / 1000, "16UC1")
    assert not doubts_of_units(np.zeros((4, 4), np.float32), "32FC1")


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
    assert camera_input.waiting() is None


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

    @pytest.mark.parametrize("coefficients", [[0.02, -0.01, 0.0, 0.0], [0.0] * 4, []])
    def test_rays_of_a_fisheye_are_bent_back_whatever_its_coefficients(self, coefficients):
        matrix = np.array([[20.0, 0, 29.5], [0, 20.0, 19.5], [0, 0, 1]])
        line = np.stack([np.linspace(-1.2, 1.2, 600), np.full(600, 0.5), np.ones(600)], axis=-1)[None]
        pixels, _ = cv2.fisheye.projectPoints(
            line, np.zeros(3), np.zeros(3), matrix, np.array(coefficients or [0.0] * 4)
        )
        rgb = np.zeros((40, 60, 3), np.uint8)
        columns, rows = np.rint(pixels[0]).astype(int).T
        rgb[rows, columns] = 255
        parts = self.distorted(rgb)
        info = parts["camera_info"]
        info.distortion_model, info.d, info.k = "equidistant", coefficients, matrix.ravel().tolist()
        found = np.argwhere(feed(CameraInput(ObservationParameters(undistort=True)), parts).rgb[:, 8:52, 0] > 100)[:, 0]
        assert len(found) > 30
        # The line is at row 19.5 + 20 x 0.5 = 29.5; bent, its ends would be three rows off.
        assert np.abs(found - 29.5).max() <= 1.5

    def test_models_that_are_not_known_are_refused(self):
        parts = self.distorted()
        parts["camera_info"].distortion_model = "omni"
        with pytest.raises(ValueError, match="camera_info.d: expected distortion plumb_bob, .* got 'omni'"):
            feed(CameraInput(ObservationParameters(undistort=True)), parts)


def test_an_uncalibrated_camera_is_refused():
    parts = messages()
    parts["camera_info"] = CameraInfo(header=parts["image"].header, height=40, width=60)
    with pytest.raises(ValueError, match="calibrated"):
        feed(CameraInput(ObservationParameters()), parts)


def test_cameras_on_one_topic_may_have_clocks_of_their_own():
    """One stamps by the wall, the other since it was switched on: neither says that the other's clock was set back."""
    camera_input = CameraInput(ObservationParameters(depth="estimated"))

    def show(stamp, frame):
        image = messages(stamp)["image"]
        image.header.frame_id = frame
        return camera_input.add("image", image)

    for second in range(3):
        assert show(NOW + second * SECOND, "front") is None
        assert show((100 + second) * SECOND, "rear") is None
    assert show(50 * SECOND, "rear") == 50 * SECOND
    assert show(NOW + 3 * SECOND, "front") is None


def test_a_clock_that_is_set_back_leaves_other_cameras_frames():
    camera_input = CameraInput(ObservationParameters(depth="estimated"))
    for stamp, frame in ((NOW, "front"), (100 * SECOND, "rear")):
        for name in ("image", "camera_info"):
            message = messages(stamp)[name]
            message.header.frame_id = frame
            camera_input.add(name, message)
        camera_input.settle()
    camera_input.restart(50 * SECOND, "rear")
    assert camera_input.take(at(1.0)).stamp == NOW
    assert camera_input.waiting() is None
