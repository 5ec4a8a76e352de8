"""The node over DDS: what it does with camera frames and commands, and what its messages look like."""

import re

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped
from std_msgs.msg import Header, String
from std_srvs.srv import Trigger

from mirage_ros.ros.conversions import (
    camera_from_info,
    cloud_to_points,
    depth_to_metres,
    image_to_numpy,
    ns_from_stamp,
    pose_to_stamped,
    poses_to_path,
)

FRAMES = ("imagined/image", "imagined/camera_info", "imagined/depth", "imagined/visibility", "imagined/pose")


def poses(count, step=0.02, x=0.0):
    result = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    result[:, 0, 3] = x + step * torch.arange(count)
    return result


@pytest.fixture
def seen(mirage):
    """A node that has seen one camera frame and nothing else, with empty lists of what was received."""
    mirage.listen(*FRAMES, "imagined/path", "preview/image", "preview/visibility", "memory/status", "/diagnostics")
    assert mirage.call("reset").success
    mirage.observe()
    mirage.spin(0.1)
    for messages in mirage.received.values():
        messages.clear()
    return mirage


def test_a_path_becomes_frames_that_look_like_a_camera(seen):
    now = seen.tester.get_clock().now().nanoseconds
    stamps = [now + index * 100_000_000 for index in range(11)]
    seen.publish("path", poses_to_path(poses(11), Header(frame_id="map"), stamps))
    seen.spin_until(lambda: all(len(seen.received[name]) >= 11 for name in FRAMES))
    seen.spin(0.2)
    for name in FRAMES:
        assert [ns_from_stamp(message.header.stamp) for message in seen.received[name]] == stamps, name
    ids = {message.header.frame_id for name in FRAMES[:4] for message in seen.received[name]}
    assert ids == {"imagined_camera_optical_frame"}
    world = seen.node.configured.context.session.world
    for index in range(11):
        image = image_to_numpy(seen.received["imagined/image"][index], "rgb8")
        assert image.shape == (world.height, world.width, 3)
        depth = depth_to_metres(seen.received["imagined/depth"][index])
        assert depth.shape == image.shape[:2]
        visible = image_to_numpy(seen.received["imagined/visibility"][index])
        assert 0 <= visible.min() <= visible.max() <= 1
        pose = seen.received["imagined/pose"][index]
        assert pose.header.frame_id == "map"
        assert pose.pose.position.x == pytest.approx(0.02 * index, abs=1e-5)
        camera = camera_from_info(seen.received["imagined/camera_info"][index], torch.eye(4))
        # Field of view of the camera that was seen: 80 x 120 is cut to the model's shape without loss.
        assert camera.intrinsics[1, 1] / camera.height == pytest.approx(1 / (2 * np.tan(0.45)), rel=1e-3)
    path = seen.received["imagined/path"][-1]
    assert [ns_from_stamp(pose.header.stamp) for pose in path.poses] == stamps


def test_the_known_wall_is_remembered_and_the_unknown_is_not(seen):
    turned = poses(1)[0]
    turned[:3, :3] = torch.tensor([[-1.0, 0, 0], [0, 1, 0], [0, 0, -1]])
    seen.publish("preview/pose", pose_to_stamped(poses(1)[0], Header(stamp=seen.stamp(), frame_id="map")))
    seen.spin_until(lambda: len(seen.received["preview/visibility"]) == 1)
    seen.publish("preview/pose", pose_to_stamped(turned, Header(stamp=seen.stamp(), frame_id="")))
    seen.spin_until(lambda: len(seen.received["preview/visibility"]) == 2)
    wall, nothing = (image_to_numpy(message) for message in seen.received["preview/visibility"])
    assert wall.mean() > 0.9
    assert nothing.mean() == 0
    assert not seen.received["imagined/image"]


def test_a_pose_stream_gives_previews_at_once_and_frames_when_it_pauses(seen):
    sent = []
    for pose in poses(3):
        stamp = seen.stamp()
        sent.append(ns_from_stamp(stamp))
        seen.publish("pose", pose_to_stamped(pose, Header(stamp=stamp, frame_id="map")))
        seen.spin_until(lambda: len(seen.received["preview/image"]) == len(sent))
    seen.spin_until(lambda: len(seen.received["imagined/image"]) == 3)
    assert [ns_from_stamp(message.header.stamp) for message in seen.received["preview/image"]] == sent
    assert [ns_from_stamp(message.header.stamp) for message in seen.received["imagined/image"]] == sent


def test_a_fast_stream_keeps_the_newest_poses_and_counts_the_others(seen):
    seen.spin_until(lambda: seen.received["memory/status"])
    before = seen.received["memory/status"][-1].dropped
    stamps = []
    for pose in poses(60, step=0.005):
        stamp = seen.stamp()
        stamps.append(ns_from_stamp(stamp))
        seen.publish("pose", pose_to_stamped(pose, Header(stamp=stamp, frame_id="map")))
        # Of more than ten at once, DDS itself would lose some that nobody counts.
        seen.spin(0.01)
    seen.spin_until(
        lambda: (
            seen.received["imagined/image"]
            and ns_from_stamp(seen.received["imagined/image"][-1].header.stamp) == stamps[-1]
        )
    )
    shown = [ns_from_stamp(message.header.stamp) for message in seen.received["imagined/image"]]
    assert shown == sorted(shown)
    assert set(shown) <= set(stamps)
    seen.spin_until(lambda: seen.received["memory/status"][-1].dropped - before >= 60 - len(shown))


def test_a_new_path_replaces_the_one_under_way(seen):
    now = seen.tester.get_clock().now().nanoseconds
    long, short = poses(200, step=0.002), poses(5)
    seen.publish("path", poses_to_path(long, Header(frame_id="map"), [now + index for index in range(200)]))
    seen.spin_until(lambda: len(seen.received["imagined/image"]) >= 5)
    stamps = [now + 10**9 + index for index in range(5)]
    seen.publish("path", poses_to_path(short, Header(frame_id="map"), stamps))
    seen.spin_until(lambda: ns_from_stamp(seen.received["imagined/image"][-1].header.stamp) == stamps[-1])
    assert len(seen.received["imagined/image"]) < 200


def test_status_tells_what_the_memory_holds(seen):
    seen.publish("path", poses_to_path(poses(9), Header(frame_id="map")))
    seen.spin_until(lambda: len(seen.received["imagined/image"]) == 9)
    old = len(seen.received["memory/status"])
    seen.spin_until(lambda: any(status.backlog == 0 for status in seen.received["memory/status"][old:]))
    status = seen.received["memory/status"][-1]
    memory = seen.node.configured.context.session.memory
    assert (status.elements, status.bytes) == (len(memory), memory.nbytes)
    assert status.observed_frames == 1
    assert status.max_bytes == memory.max_bytes
    assert status.header.frame_id == "map"
    assert 0 <= status.visibility <= 1
    assert status.denoise_time > 0


def test_real_frames_win_over_imagined_ones(seen):
    seen.publish("path", poses_to_path(poses(9, step=0.1), Header(frame_id="map")))
    seen.spin_until(lambda: len(seen.received["imagined/image"]) == 9)
    imagined = sum(f.elements for f in seen.node.configured.context.session.memory.frames() if f.kind == "imagination")
    assert imagined > 0
    seen.observe(seed=2, x=0.8)
    left = sum(f.elements for f in seen.node.configured.context.session.memory.frames() if f.kind == "imagination")
    assert left <= imagined / 2


def test_the_cloud_is_the_memory_and_waits_for_listeners(seen):
    seen.listen("memory/points")
    seen.spin_until(lambda: seen.received["memory/points"])
    message = seen.received["memory/points"][-1]
    points, colours, confidence = cloud_to_points(message)
    assert message.header.frame_id == "map"
    assert len(points) == len(seen.node.configured.context.session.memory)
    np.testing.assert_allclose(points[:, 2], 2.0, atol=0.01)
    # The stored colours are those of noise around mid grey.
    assert 100 < colours.mean() < 155
    assert set(np.unique(confidence)) <= {np.float32(1 / 3), np.float32(0.5), np.float32(0.6)}


def test_frames_of_reference_are_checked(seen):
    seen.publish("pose", pose_to_stamped(poses(1)[0], Header(frame_id="odom")))
    seen.spin_until(lambda: "expected 'map' or empty, got 'odom'" in seen.diagnosis("inputs"))
    assert "tf2_ros is not installed" in seen.diagnosis("inputs")


def test_poses_of_the_base_are_brought_to_the_camera(new_node):
    from mirage_ros.poses import body_to_optical

    other = new_node("based", pose_of="base", **{"extrinsics.z": 0.5, "extrinsics.x": 0.1}).start()
    other.listen("preview/image", "imagined/pose")
    other.observe()
    base = torch.eye(4, dtype=torch.float64)
    base[0, 3] = 1.0
    other.publish("pose", pose_to_stamped(base, Header(frame_id="map")))
    other.spin_until(lambda: other.received["imagined/pose"])
    pose = other.received["imagined/pose"][-1].pose
    place = pose.position
    assert (place.x, place.y, place.z) == pytest.approx((1.1, 0.0, 0.5), abs=1e-5)
    expected = pose_to_stamped(body_to_optical(base), Header()).pose.orientation
    assert abs(pose.orientation.x) == pytest.approx(abs(expected.x), abs=1e-5)


def test_parameters_change_while_running_and_wrong_ones_are_refused(seen):
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter import Parameter

    client = seen.tester.create_client(SetParameters, "mirage/set_parameters")
    seen.spin_until(client.service_is_ready)

    def set_parameter(name, value):
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name, value=value).to_parameter_msg()]))
        seen.spin_until(future.done)
        return future.result().results[0]

    assert set_parameter("observation.enabled", False).successful
    changes = seen.node.configured.context.session.snapshot.changes
    for name, message in seen.camera_frame(seed=5).items():
        seen.publish(name, message)
    seen.spin(0.5)
    assert seen.node.configured.context.session.snapshot.changes == changes
    # A frame that is asked for is taken all the same.
    observe = seen.tester.create_client(Trigger, "observe")
    seen.spin_until(observe.service_is_ready)
    asked = observe.call_async(Trigger.Request())
    while not asked.done():
        for name, message in seen.camera_frame(seed=6, x=0.1).items():
            seen.publish(name, message)
        seen.spin(0.3)
    assert "elements added" in asked.result().message
    assert seen.node.configured.context.session.snapshot.changes > changes
    assert set_parameter("observation.enabled", True).successful
    # What the command line sends for a whole number.
    assert set_parameter("imagine.pause", 5).successful
    assert seen.node.configured.context.parameters.imagine.pause == 5.0
    assert set_parameter("imagine.pause", 0.3).successful
    for name, value, reason in (
        ("imagine.steps", -1, "range"),
        ("imagine.steps", 51, "range"),
        ("preset", "default", "read-only"),
        ("imagine.pause", "soon", "type"),
    ):
        answer = set_parameter(name, value)
        assert not answer.successful, name
        assert reason in answer.reason.lower(), answer.reason


def test_prompts_are_refused_where_the_preset_takes_none(seen):
    answer = seen.call("set_prompt", prompt="a kitchen")
    assert not answer.success
    assert answer.message.startswith("prompt: expected none, preset 'test' takes no text")
    assert seen.call("set_prompt", prompt="").success
    seen.publish("prompt", String(data="a kitchen"))
    seen.spin_until(lambda: "takes no text" in seen.diagnosis("inputs"))


def test_silent_topics_are_named(new_node):
    other = new_node("quiet", **{"status.silence": 0.5}).start()
    other.listen("/diagnostics")
    other.spin_until(lambda: "no image for" in other.diagnosis("inputs"))
    assert "/quiet/image (nobody publishes it)" in other.diagnosis("inputs")
    assert "empty: nothing can be imagined before the first camera frame" in other.diagnosis("memory")


def test_a_publisher_that_cannot_be_heard_is_named_until_it_is_gone(new_node, monkeypatch):
    from rclpy.qos import QoSProfile, ReliabilityPolicy

    from mirage_ros.ros import status

    other = new_node("strict").start()
    other.listen("/diagnostics")
    unreliable = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    # Other reports end after this time.
    monkeypatch.setattr(status, "FRESH", 0.1)
    publisher = other.tester.create_publisher(PoseStamped, "pose", unreliable)
    other.spin_until(lambda: "pose: QoS mismatch: a publisher offers less" in other.diagnosis("inputs"))
    other.spin(2.5)
    assert "pose: QoS mismatch: a publisher offers less" in other.diagnosis("inputs")
    assert "(reliability of tester)" in other.diagnosis("inputs")
    other.tester.destroy_publisher(publisher)
    other.spin_until(lambda: "QoS mismatch" not in other.diagnosis("inputs"))


def test_stamps_that_do_not_advance_are_named_until_they_do(new_node):
    other = new_node("stuck").start()
    other.listen("/diagnostics")
    frame = other.camera_frame()
    frame["camera_info"].header = Header(frame_id="camera")
    for _ in range(6):
        for name in ("image", "camera_info"):
            other.publish(name, frame[name])
    other.spin_until(lambda: "camera_info: stamps do not advance, the last 6 are zero" in other.diagnosis("inputs"))
    assert re.search(r"image: stamps do not advance, the last 6 are \d+\.\d+ s", other.diagnosis("inputs"))
    for name, message in other.camera_frame().items():
        other.publish(name, message)
    other.spin_until(lambda: "stamps do not advance" not in other.diagnosis("inputs"))


def test_two_nodes_in_two_namespaces_do_not_mix(new_node, seen):
    other = new_node("second").start()
    other.listen("imagined/image", "memory/status")
    other.observe(seed=9, metres=1.0)
    now = seen.tester.get_clock().now().nanoseconds
    mine, theirs = [[now + shift + index for index in range(9)] for shift in (0, 10**9)]
    seen.publish("path", poses_to_path(poses(9), Header(frame_id="map"), mine))
    other.publish("path", poses_to_path(poses(9), Header(frame_id="map"), theirs))
    seen.spin_until(lambda: len(seen.received["imagined/image"]) == 9)
    other.spin_until(lambda: len(other.received["imagined/image"]) == 9)
    for graph, stamps in ((seen, mine), (other, theirs)):
        assert [ns_from_stamp(message.header.stamp) for message in graph.received["imagined/image"]] == stamps
    depth = seen.node.configured.context.session.memory.elements().positions[:, 2]
    assert depth.min() > 1.9
    other_depth = other.node.configured.context.session.memory.elements().positions[:, 2]
    assert other_depth.min() < 1.1
