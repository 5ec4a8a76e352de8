"""Bags as robots record them, written by `rosbags`, give the frames that were seen."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from mirage_ros.geometry import Camera
from mirage_ros.recordings.bags import rosbag_frames
from mirage_ros.training.data import cut
from mirage_ros.training.render import ClipSettings
from mirage_ros.training.shards import read_shard, shard_paths

STORE = get_typestore(Stores.ROS2_KILTED)
T = STORE.types
# The camera looks along the robot's x axis, 20 cm before its middle.
OPTICAL = torch.tensor([[0.0, 0, 1, 0.2], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]], dtype=torch.float64)
OPTICAL_QUATERNION = (-0.5, 0.5, -0.5, 0.5)


def header(seconds, frame):
    nanoseconds = round(seconds * 1e9)
    stamp = T["builtin_interfaces/msg/Time"](nanoseconds // 10**9, nanoseconds % 10**9)
    return T["std_msgs/msg/Header"](stamp, frame)


def image(array, encoding, seconds, frame="camera_optical", padding=0):
    rows = np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    data = rows.reshape(-1)
    return T["sensor_msgs/msg/Image"](header(seconds, frame), *array.shape[:2], encoding, 0, rows.shape[1], data)


def camera_info(camera, distortion=()):
    k = camera.intrinsics.double().numpy().copy()
    k[:2, 2] -= 0.5
    return T["sensor_msgs/msg/CameraInfo"](
        header=header(0, "camera_optical"),
        height=camera.height,
        width=camera.width,
        distortion_model="plumb_bob",
        d=np.array(distortion, np.float64),
        k=k.reshape(-1),
        r=np.eye(3).reshape(-1),
        p=np.eye(3, 4).reshape(-1),
        binning_x=0,
        binning_y=0,
        roi=T["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False),
    )


def vector(x, y, z, kind="Vector3"):
    return T[f"geometry_msgs/msg/{kind}"](float(x), float(y), float(z))


def quaternion(x=0.0, y=0.0, z=0.0, w=1.0):
    return T["geometry_msgs/msg/Quaternion"](x, y, z, w)


def transforms(seconds, parent, child, place, turn):
    transform = T["geometry_msgs/msg/Transform"](vector(*place), turn)
    stamped = T["geometry_msgs/msg/TransformStamped"](header(seconds, parent), child, transform)
    return T["tf2_msgs/msg/TFMessage"]([stamped])


def pose(place, turn):
    return T["geometry_msgs/msg/Pose"](vector(*place, "Point"), turn)


def odometry(seconds, place):
    covariance = np.zeros(36)
    twist = T["geometry_msgs/msg/Twist"](vector(0, 0, 0), vector(0, 0, 0))
    return T["nav_msgs/msg/Odometry"](
        header(seconds, "odom"),
        "base",
        T["geometry_msgs/msg/PoseWithCovariance"](pose(place, quaternion()), covariance),
        T["geometry_msgs/msg/TwistWithCovariance"](twist, covariance),
    )


def pose_stamped(seconds, matrix, frame="map"):
    return T["geometry_msgs/msg/PoseStamped"](header(seconds, frame), pose(matrix[:3, 3].tolist(), quaternion()))


def write(folder, messages, plugin=StoragePlugin.MCAP):
    with Writer(folder, version=9, storage_plugin=plugin) as writer:
        connections = {}
        for topic, seconds, message in sorted(messages, key=lambda entry: entry[1]):
            name = message.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, name, typestore=STORE)
            writer.write(connections[topic], round(seconds * 1e9), STORE.serialize_cdr(message, name))
    return folder


def pictures(clip):
    """Colour at 10 Hz from 1 s on, depth 4 ms later, and the camera's facts."""
    yield "/camera/camera_info", 0.5, camera_info(clip.camera)
    for index in range(len(clip)):
        seconds = 1 + index / 10
        bgr = np.ascontiguousarray(clip.rgb[index][..., ::-1])
        yield "/camera/image_raw", seconds, image(bgr, "bgr8", seconds, padding=5)
        millimetres = np.round(clip.depth[index] * 1000).astype(np.uint16)
        yield "/camera/depth/image_raw", seconds + 0.004, image(millimetres, "16UC1", seconds + 0.004)


def seen(clip):
    """The clip's cameras as they are if the robot drives along x of `odom`."""
    poses = torch.eye(4, dtype=torch.float64).repeat(len(clip), 1, 1)
    poses[:, 0, 3] = torch.arange(len(clip)) * 0.1
    return (poses @ OPTICAL).float()


def check(frames, clip, poses):
    frames = list(frames)
    assert len(frames) == len(clip) > 3
    for index, frame in enumerate(frames):
        np.testing.assert_array_equal(frame.rgb, clip.rgb[index])
        np.testing.assert_allclose(frame.depth, clip.depth[index], atol=0.0006)
        torch.testing.assert_close(frame.camera.cam2world, poses[index], atol=1e-5, rtol=0)
        torch.testing.assert_close(frame.camera.intrinsics, clip.camera.intrinsics, atol=1e-4, rtol=0)
        assert frame.stamp == 1_000_000_000 + index * 100_000_000


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_transforms_place_the_camera_between_their_stamps(new_clip, tmp_path, plugin):
    clip = new_clip()
    messages = [*pictures(clip)]
    messages.append(
        ("/tf_static", 0, transforms(0, "base", "camera_optical", (0.2, 0, 0), quaternion(*OPTICAL_QUATERNION)))
    )
    # At other times than the pictures, one of them twice.
    for index in (-1, 1, 3, 5, 5, 7, 9, 11):
        seconds = 1 + index / 20
        messages.append(("/tf", seconds, transforms(seconds, "odom", "base", (index * 0.05, 0, 0), quaternion())))
    bag = write(tmp_path / "bag", messages, plugin)
    check(rosbag_frames(bag), clip, seen(clip))


def test_odometry_places_the_robot_and_static_transforms_its_camera(new_clip, tmp_path):
    clip = new_clip()
    messages = [*pictures(clip)]
    messages.append(
        ("/tf_static", 0, transforms(0, "base", "camera_optical", (0.2, 0, 0), quaternion(*OPTICAL_QUATERNION)))
    )
    messages += [("/odom", 1 + i / 10, odometry(1 + i / 10, (i * 0.1, 0, 0))) for i in range(len(clip))]
    # A goal is a pose, too.
    messages.append(("/goal_pose", 1.0, pose_stamped(1.0, torch.eye(4))))
    check(rosbag_frames(write(tmp_path / "bag", messages)), clip, seen(clip))


def test_poses_of_the_camera_compressed_pictures_and_the_same_samples_as_other_walks(new_clip, tmp_path):
    clip = new_clip(frames=6)
    messages = [entry for entry in pictures(clip) if "image_raw" not in entry[0]]
    for index in range(len(clip)):
        seconds = 1 + index / 10
        png = cv2.imencode(".png", clip.rgb[index][..., ::-1])[1].reshape(-1)
        compressed = T["sensor_msgs/msg/CompressedImage"]
        messages.append(("/camera/image/compressed", seconds, compressed(header(seconds, "lens"), "png", png)))
        depth = cv2.imencode(".png", np.round(clip.depth[index] * 1000).astype(np.uint16))[1].reshape(-1)
        depth = np.concatenate([np.zeros(12, np.uint8), depth])
        name = "16UC1; compressedDepth png"
        messages.append(("/camera/depth/compressedDepth", seconds, compressed(header(seconds, "lens"), name, depth)))
        messages.append(("/pose", seconds, pose_stamped(seconds, clip.camera.cam2world[index])))
    bag = write(tmp_path / "bag", messages, StoragePlugin.SQLITE3)
    check(rosbag_frames(bag), clip, clip.camera.cam2world)
    settings = ClipSettings(frames=3, height=32, width=48)
    cut(tmp_path / "shards", bag, "rosbag", None, settings, 2, 1, {"pose": "/pose"})
    first, second = (clip for path in shard_paths(tmp_path / "shards") for clip in read_shard(path))
    np.testing.assert_array_equal(np.concatenate([first.rgb, second.rgb]), clip.rgb)
    assert first.fps == pytest.approx(10)


def test_frames_without_depth_or_pose_are_left_out_and_a_bag_without_depth_has_none(new_clip, tmp_path):
    clip = new_clip()
    everything = [*pictures(clip)]
    last = max(entry[1] for entry in everything if "depth" in entry[0])
    poses = [("/pose", 1 + i / 10, pose_stamped(1 + i / 10, clip.camera.cam2world[i])) for i in range(1, len(clip))]
    bag = write(tmp_path / "some", [entry for entry in everything if entry[1] != last] + poses)
    assert [frame.stamp // 10**8 for frame in rosbag_frames(bag)] == [11, 12, 13, 14]
    bag = write(tmp_path / "none", [entry for entry in everything if "depth" not in entry[0]] + poses)
    frames = list(rosbag_frames(bag))
    assert len(frames) == len(clip) - 1
    assert all(frame.depth is None for frame in frames)


def painted_rays(camera: Camera, matrix: np.ndarray, distortion: np.ndarray) -> np.ndarray:
    """The directions of a lens's rays as colours, pixel by pixel."""
    grid = np.stack(np.meshgrid(np.arange(camera.width), np.arange(camera.height)), axis=-1).astype(np.float64)
    straight = cv2.undistortPoints(grid.reshape(-1, 1, 2), matrix, distortion).reshape(*grid.shape)
    return np.clip(128 + 100 * np.concatenate([straight, straight[..., :1]], axis=-1), 0, 255).round().astype(np.uint8)


def one_camera_bag(folder, topic, shades, info):
    messages = [(topic.rsplit("/", 1)[0] + "/camera_info", 0.5, info)]
    for index in range(4):
        seconds = 1 + index / 10
        messages.append((topic, seconds, image(shades, "rgb8", seconds)))
        messages.append(("/pose", seconds, pose_stamped(seconds, torch.eye(4))))
    return write(folder, messages)


def ray_error(frame, shades) -> np.ndarray:
    """How far colours are from what the rays of the frame's camera are painted with, without the border."""
    rays = 128 + 100 * frame.camera.rays()[..., :2].numpy()
    # Beyond the border nothing was seen.
    return np.abs(shades[..., :2].astype(float) - rays)[5:-5, 7:-7]


def test_distorted_pictures_become_pinhole_pictures(new_clip, tmp_path):
    """Ray directions painted as a picture, seen through a lens: straightened, they are those of the pinhole."""
    camera: Camera = new_clip(moving=False).camera[0]
    distortion = np.array([0.3, 0.05, 0.002, -0.002, 0.0])
    info = camera_info(camera, distortion)
    shades = painted_rays(camera, info.k.reshape(3, 3), distortion)
    frame = next(iter(rosbag_frames(one_camera_bag(tmp_path / "bag", "/camera/image_raw", shades, info))))
    assert ray_error(frame, frame.rgb).max() < 3
    assert ray_error(frame, shades).max() > 4


@pytest.mark.parametrize("topic", ["/camera/image_rect", "/left/rectified/image", "/camera/image_rect_color"])
def test_pictures_of_a_rectified_topic_are_not_rectified_again(new_clip, tmp_path, topic):
    """Their CameraInfo still tells of the driver's lens; p, not k and d, is theirs."""
    camera: Camera = new_clip(moving=False).camera[0]
    info = camera_info(camera, (0.3, 0.05, 0.002, -0.002, 0.0))
    matrix = info.k.reshape(3, 3) * np.array([[0.8], [0.8], [1.0]])
    info.p[:] = np.hstack([matrix, np.zeros((3, 1))]).reshape(-1)
    shades = painted_rays(camera, matrix, np.zeros(5))
    frame = next(iter(rosbag_frames(one_camera_bag(tmp_path / "bag", topic, shades, info))))
    np.testing.assert_array_equal(frame.rgb, shades)
    assert frame.camera.intrinsics[0, 0] == pytest.approx(0.8 * float(camera.intrinsics[0, 0]), rel=1e-5)
    assert ray_error(frame, frame.rgb).max() < 1


def test_what_is_missing_or_ambiguous_is_named(new_clip, tmp_path):
    clip = new_clip()
    with pytest.raises(FileNotFoundError, match="rosbag: .* is missing"):
        next(rosbag_frames(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="is no usable bag"):
        next(rosbag_frames(tmp_path / "empty"))
    bag = write(tmp_path / "bag", [*pictures(clip)])
    with pytest.raises(ValueError, match="rosbag: expected the folder of a bag, .* got the file .*bag.mcap"):
        next(rosbag_frames(bag / "bag.mcap"))
    with pytest.raises(
        ValueError,
        match=r"pose: expected a topic of geometry_msgs/PoseS.* got none in the bag, which holds /",
    ):
        next(rosbag_frames(bag))
    with pytest.raises(ValueError, match=r"topics: expected names for image, depth, .*, pose, got \['sound'\]"):
        next(rosbag_frames(bag, {"sound": "/x"}))
    with pytest.raises(ValueError, match="topics: expected with the format rosbag"):
        cut(tmp_path / "shards", bag, "tum", None, ClipSettings(frames=3), 1, 1, {"pose": "/pose"})
    second = [("/rear/image_raw", 1.0, image(clip.rgb[0], "rgb8", 1.0))]
    two = write(tmp_path / "two", [*pictures(clip), *second])
    with pytest.raises(
        ValueError, match=r"image: expected the name of one of \['/camera/image_raw', '/rear/image_raw'\]"
    ):
        next(rosbag_frames(two))
    with pytest.raises(ValueError, match="image: expected .* one of .*, got '/front', which is not in the bag"):
        next(rosbag_frames(two, {"image": "/front"}))
    # Odometry of a robot whose camera nobody has placed.
    loose = [("/odom", 1 + i / 10, odometry(1 + i / 10, (0, 0, 0))) for i in range(3)]
    with pytest.raises(ValueError, match="pose: expected transforms from 'camera_optical' to 'base'"):
        next(rosbag_frames(write(tmp_path / "loose", [*pictures(clip), *loose])))


def test_reading_a_bag_needs_no_ros():
    import subprocess
    import sys

    code = "import sys, mirage_ros.training.data; sys.exit('rclpy' in sys.modules or 'sensor_msgs' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
