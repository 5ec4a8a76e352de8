"""What a robot's other nodes bring: late listeners, loop closures, clicks in RViz, planners' paths, odd depth."""

import math

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped, PoseWithCovarianceStamped
from nav_msgs.msg import Path
from rclpy.qos import QoSProfile
from std_msgs.msg import Header

from mirage_ros.poses import optical_to_body
from mirage_ros.ros.conversions import (
    depth_from_metres,
    image_to_numpy,
    ns_from_stamp,
    numpy_to_image,
    pose_from_msg,
    pose_to_stamped,
    stamp_from_ns,
)
from mirage_ros.ros.topics import topic


def turned(x=0.0, yaw=0.0):
    """A camera pose: metres to the right, radians about its vertical axis."""
    pose = torch.eye(4, dtype=torch.float64)
    cosine, sine = math.cos(yaw), math.sin(yaw)
    pose[0, 0] = pose[2, 2] = cosine
    pose[0, 2], pose[2, 0] = sine, -sine
    pose[0, 3] = x
    return pose


@pytest.fixture
def seen(mirage):
    mirage.listen("imagined/image", "imagined/pose", "preview/image", "memory/status", "/diagnostics")
    assert mirage.call("reset").success
    mirage.observe()
    mirage.spin(0.1)
    for messages in mirage.received.values():
        messages.clear()
    return mirage


@pytest.mark.parametrize("name", ["memory/points", "imagined/path"])
def test_late_listeners_get_the_last_one_whatever_their_durability(seen, name):
    path = Path(header=Header(frame_id="map"), poses=[pose_to_stamped(turned(), Header())])
    seen.publish("path", path)
    seen.spin_until(lambda: seen.received["imagined/image"])
    late = []
    for _ in range(2):
        got = []
        subscription = seen.tester.create_subscription(topic(name).kind, name, got.append, QoSProfile(depth=1))
        seen.spin_until(lambda got=got: got)
        seen.tester.destroy_subscription(subscription)
        late += got[:1]
    assert late[0] == late[1]


def test_robots_that_publish_best_effort_are_heard(seen):
    """As sensor data is sent by most drivers; poses of visual odometry too."""
    from rclpy.qos import qos_profile_sensor_data

    session, frame = seen.node.configured.context.session, seen.camera_frame(seed=11, x=0.7)
    names = list(frame)
    publishers = {name: seen.tester.create_publisher(topic(name).kind, name, qos_profile_sensor_data) for name in names}
    seen.spin_until(lambda: all(each.get_subscription_count() for each in publishers.values()))
    seen.spin(0.3)
    before = session.snapshot.changes
    for name in names:
        publishers[name].publish(frame[name])
    seen.spin_until(lambda: session.snapshot.changes > before, timeout=30.0)
    assert "QoS mismatch" not in seen.diagnosis("inputs")
    for each in publishers.values():
        seen.tester.destroy_publisher(each)


def test_cameras_on_one_topic_may_have_clocks_of_their_own(new_node):
    """One stamps by the wall, the other since it was switched on, and its depth comes late."""
    node = new_node("clocks", **{"observation.pose": "origin"}).start()
    session = node.node.configured.context.session
    boot, wall = node.camera_frame(seed=5, metres=1.0), node.camera_frame(seed=6)
    for name in ("image", "camera_info", "depth"):
        boot[name].header = Header(stamp=stamp_from_ns(100 * 10**9), frame_id="boot")
    for name in ("image", "camera_info"):
        node.publish(name, boot[name])
    node.spin(0.2)
    for name in ("image", "camera_info", "depth"):
        node.publish(name, wall[name])
    node.spin_until(lambda: session.snapshot.changes)
    # What comes while one is being written is let go.
    node.spin(0.3)
    node.publish("depth", boot["depth"])
    node.spin_until(lambda: len(session.memory.frames()) == 2, timeout=30.0)
    assert session.memory.frames()[-1].stamp == 100 * 10**9


def test_a_camera_info_that_is_sent_once_is_not_missed(new_node):
    node = new_node("latched", **{"status.silence": 0.5}).start()
    node.listen("/diagnostics")
    node.spin_until(lambda: "no camera_info for" in node.diagnosis("inputs"))
    node.publish("camera_info", node.camera_frame()["camera_info"])
    node.spin_until(lambda: "no camera_info for" not in node.diagnosis("inputs"))
    node.spin(1.5)
    assert "no image for" in node.diagnosis("inputs")
    assert "no camera_info for" not in node.diagnosis("inputs")


def observe_at(node, pose, seed):
    """A wall 2 m in front of the start, seen truly from a pose; what the node is told is up to the caller."""
    from mirage_ros.geometry import pinhole

    frame = node.camera_frame(seed=seed)
    camera = pinhole(80, 120, vertical_fov=0.9).to(dtype=torch.float64)
    x, y = ((camera.pixel_centres().double() - camera.intrinsics[:2, 2]) / camera.intrinsics[0, 0]).unbind(-1)
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ pose[:3, :3].T
    depth = ((2.0 - pose[2, 3]) / rays[..., 2]).numpy().astype(np.float32)
    frame["depth"] = depth_from_metres(depth, header=frame["image"].header)
    return frame


@pytest.mark.parametrize("by", ["id", "stamp", "topic"])
def test_a_loop_closure_puts_the_scene_together_again(seen, by):
    session = seen.node.configured.context.session
    true = turned(0.3, -0.1)
    drifted = turned(0.5, 0.2) @ true
    frame = observe_at(seen, true, seed=4)
    frame["camera_pose"] = pose_to_stamped(drifted, frame["camera_pose"].header)
    before = session.snapshot.changes
    for name, message in frame.items():
        seen.publish(name, message)
    seen.spin_until(lambda: session.snapshot.changes > before)
    # Something imagined from there, which must not stay behind.
    seen.publish("pose", pose_to_stamped(drifted, Header(frame_id="map")))
    seen.spin_until(lambda: seen.received["imagined/image"])

    def off():
        elements = session.memory.elements().positions
        return float((elements[:, 2] - 2.0).abs().max())

    assert off() > 0.1
    newest = [record for record in session.memory.frames() if record.kind == "observation"][-1]
    corrected = pose_to_stamped(true, Header(stamp=frame["image"].header.stamp, frame_id="map"))
    if by == "topic":
        moved, unknown = session.snapshot.changes, pose_to_stamped(true, Header(stamp=stamp_from_ns(10**9)))
        seen.publish("repose/frames", Path(header=Header(frame_id="map"), poses=[unknown, corrected]))
        seen.spin_until(lambda: session.snapshot.changes > moved)
    else:
        answer = seen.call("repose", poses=[corrected], frames=[newest.id] if by == "id" else [])
        assert answer.success, answer.message
        assert answer.elements
    observed = [record.id for record in session.memory.frames() if record.kind == "observation"]
    cameras = [record.camera.cam2world for record in session.memory.frames() if record.id in observed]
    torch.testing.assert_close(cameras[-1], true, atol=1e-6, rtol=0)
    rows = session.memory.elements()
    positions = rows.positions[~rows.imagined]
    assert float((positions[:, 2] - 2.0).abs().max()) < 0.03
    # The history looks from where the frames are now.
    places = torch.stack([past.camera.cam2world[:3, 3].cpu().double() for past in session.history._frames])
    assert float((places - drifted[:3, 3]).norm(dim=1).min()) > 0.1


def test_a_loop_closure_that_names_no_frame_is_refused(seen):
    here = pose_to_stamped(turned(), Header(stamp=stamp_from_ns(5), frame_id="map"))
    answer = seen.call("repose", poses=[here])
    assert not answer.success
    assert "poses[0].header.stamp: expected that of an observed frame, got 0.000; the nearest is" in answer.message
    answer = seen.call("repose", poses=[here], frames=[1, 2])
    assert "frames: expected none or one for each pose, got 2 and 1 poses" in answer.message
    assert "id" in seen.call("repose", poses=[here], frames=[99]).message


def test_the_camera_frames_of_the_memory_are_told_with_their_stamps(seen):
    seen.listen("memory/frames")
    frame = seen.camera_frame(seed=7, x=0.4)
    for name, message in frame.items():
        seen.publish(name, message)
    stamp = frame["image"].header.stamp
    seen.spin_until(
        lambda: any(pose.header.stamp == stamp for path in seen.received["memory/frames"] for pose in path.poses)
    )
    path = seen.received["memory/frames"][-1]
    assert path.header.frame_id == "map"
    (own,) = [pose for pose in path.poses if pose.header.stamp == stamp]
    assert own.pose.position.x == pytest.approx(0.4)


def test_new_poses_of_frames_that_are_not_there_are_refused(seen):
    unknown = pose_to_stamped(turned(), Header(stamp=stamp_from_ns(10**9), frame_id="map"))
    memory = seen.node.configured.context.session.memory
    before = memory.elements().positions.clone()
    seen.publish("repose/frames", Path(header=Header(frame_id="map"), poses=[unknown]))
    seen.spin_until(lambda: "repose/frames: refused: expected stamps of camera frames" in seen.diagnosis("inputs"))
    assert torch.equal(memory.elements().positions, before)


def test_a_click_in_rviz_means_a_camera_that_stands_there(seen):
    goal = PoseStamped(header=Header(frame_id="map"))
    goal.pose.position.x = 1.0
    goal.pose.orientation.z, goal.pose.orientation.w = math.sin(0.35), math.cos(0.35)
    seen.publish("standing/pose", goal)
    seen.spin_until(lambda: seen.received["imagined/pose"])
    body = optical_to_body(pose_from_msg(seen.received["imagined/pose"][-1].pose))
    assert body[:3, 3].tolist() == pytest.approx([1.0, 0.0, 1.2], abs=1e-6)
    assert body[:3, 0].tolist() == pytest.approx([math.cos(0.7), math.sin(0.7), 0.0], abs=1e-6)
    seen.received["preview/image"].clear()
    estimate = PoseWithCovarianceStamped(header=goal.header)
    estimate.pose.pose = goal.pose
    seen.publish("standing/preview", estimate)
    seen.spin_until(lambda: seen.received["preview/image"])


@pytest.mark.parametrize("stamps", [[0, 0, 0], [7, 7, 7], [0, 0, 7]])
def test_paths_of_planners_are_imagined_whatever_their_stamps(seen, stamps):
    now = seen.tester.get_clock().now().nanoseconds
    poses = [pose_to_stamped(turned(0.1), Header(stamp=stamp_from_ns(now * bool(s)))) for s in stamps]
    seen.publish("path", Path(header=Header(stamp=stamp_from_ns(now), frame_id="/map"), poses=poses))
    seen.spin_until(lambda: len(seen.received["imagined/image"]) == 3)
    came = [ns_from_stamp(message.header.stamp) for message in seen.received["imagined/image"]]
    assert came == sorted(set(came))


def test_a_wall_at_two_kilometres_is_doubted(seen):
    seen.observe(seed=3, x=1.0, metres=900.0)
    seen.spin_until(lambda: "depth: half of it is beyond 900 m; 32FC1 is metres" in seen.diagnosis("inputs"))
    # Doubted, not refused: it may be so.
    assert seen.node.configured.context.session.memory.elements().positions[:, 2].max() > 890


def test_images_of_unusable_encodings_are_told_only_what_works():
    depth = numpy_to_image(np.zeros((4, 4), np.float32), "32FC1")
    with pytest.raises(ValueError, match=r"expected one of rgb8, bgr8, rgba8, bgra8, mono8, got '32FC1'"):
        image_to_numpy(depth, "rgb8")
    depth.encoding = "yuv422_yuy2"
    with pytest.raises(ValueError, match=r"expected one of rgb8, bgr8, rgba8, bgra8, mono8, got 'yuv422_yuy2'"):
        image_to_numpy(depth, "rgb8")


def test_stamp_zero_means_now(seen):
    before = seen.tester.get_clock().now().nanoseconds
    seen.publish("pose", pose_to_stamped(turned(), Header(stamp=stamp_from_ns(0), frame_id="map")))
    seen.spin_until(lambda: seen.received["preview/image"])
    assert ns_from_stamp(seen.received["preview/image"][0].header.stamp) >= before
