"""TF in and out over real DDS: late, missing, future and jumping transforms, two cameras, a moving base."""

import math

import numpy as np
import pytest
import torch
from nav_msgs.msg import Path
from std_msgs.msg import Header

from mirage_ros.ros.conversions import ns_from_stamp, pose_to_stamped, stamp_from_ns

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def robot(tf, new_node):
    node = new_node("tf", **{"observation.pose": "tf", "pose_of": "base", "tf_tolerance": 1.5}).start()
    node.listen("/diagnostics", "imagined/pose", "preview/camera_info", "imagined/image")
    return tf(node)


def test_poses_of_the_base_wait_for_a_first_image_and_say_so(robot):
    robot.node.publish("preview/pose", pose_to_stamped(robot.at(), Header(frame_id="map")))
    robot.node.spin_until(lambda: "no image has come yet" in robot.node.diagnosis("inputs"))
    assert not robot.node.received["preview/camera_info"]


def test_a_missing_link_is_named_by_its_own_key(robot):
    robot.show(robot.now())
    robot.node.spin_until(lambda: "tf camera -> map: " in robot.node.diagnosis("inputs"))
    assert "incomplete" not in robot.node.diagnosis("inputs")
    assert not robot.seen


@pytest.mark.parametrize("late", [0.1, 0.8])
def test_a_late_transform_is_waited_for(robot, late):
    robot.mount()
    stamp = robot.now()
    robot.send("map", "base_link", robot.at(1.0), stamp - 10**8)
    robot.show(stamp)
    robot.node.spin(late)
    robot.send("map", "base_link", robot.at(1.2), stamp + 10**8)
    robot.node.spin_until(lambda: stamp in robot.seen)
    torch.testing.assert_close(robot.seen[stamp], robot.at(1.1) @ robot.camera)


def test_two_cameras_on_one_topic_have_each_its_own_pose(robot):
    robot.mount()
    stamp = robot.now()
    robot.show(stamp, "camera", seed=1)
    # Equally old, and the last one when the first gets its transform.
    robot.show(stamp, "rear", seed=2)
    robot.node.spin(0.2)
    for shift in (-1, 1):
        robot.send("map", "base_link", robot.at(2.0), stamp + shift * 10**8)
    robot.node.spin_until(lambda: stamp in robot.seen)
    torch.testing.assert_close(robot.seen[stamp], robot.at(2.0) @ robot.camera)
    stamp += 10**7
    robot.show(stamp, "rear", seed=2)
    robot.node.spin_until(lambda: stamp in robot.seen)
    torch.testing.assert_close(robot.seen[stamp], robot.at(2.0, yaw=math.pi) @ robot.camera)


def test_a_command_in_another_frame_waits_and_comes_in_order(robot):
    robot.mount()
    robot.show(robot.now(), "camera", seed=3)
    robot.node.received["imagined/pose"].clear()
    stamp = robot.now()
    path = Path(header=Header(stamp=stamp_from_ns(stamp), frame_id="odom"))
    path.poses = [pose_to_stamped(robot.at(0.1 * i), Header(frame_id="odom")) for i in range(3)]
    robot.node.publish("path", path)
    robot.node.spin(0.4)
    assert not robot.node.received["imagined/pose"]
    for shift in (-1, 1):
        robot.send("map", "odom", robot.at(5.0), stamp + shift * 10**7)
    robot.node.spin_until(lambda: len(robot.node.received["imagined/pose"]) == 3)
    assert [p.pose.position.x for p in robot.node.received["imagined/pose"]] == pytest.approx([5.0, 5.1, 5.2])


def test_a_command_whose_transform_never_comes_is_refused_with_the_reason(robot):
    robot.node.received["preview/camera_info"].clear()
    robot.node.publish(
        "preview/pose", pose_to_stamped(robot.at(), Header(stamp=stamp_from_ns(robot.now()), frame_id="nowhere"))
    )
    robot.node.spin_until(lambda: "tf nowhere -> map: preview/pose.header.frame_id" in robot.node.diagnosis("inputs"))
    assert not robot.node.received["preview/camera_info"]


def test_goals_wait_too(robot):
    from mirage_ros.action import Imagine
    from mirage_ros.msg import Candidate
    from rclpy.action import ActionClient

    robot.mount()
    client = ActionClient(robot.node.tester, Imagine, "imagine")
    robot.node.spin_until(client.server_is_ready)
    stamp = robot.now()
    path = Path(
        header=Header(stamp=stamp_from_ns(stamp), frame_id="late_odom"), poses=[pose_to_stamped(robot.at(), Header())]
    )
    sent = client.send_goal_async(Imagine.Goal(candidates=[Candidate(path=path)], pose_of=Imagine.Goal.BASE))
    robot.node.spin_until(sent.done)
    answer = sent.result().get_result_async()
    robot.node.spin(0.3)
    robot.send("map", "late_odom", robot.at(3.0), stamp - 10**7)
    robot.send("map", "late_odom", robot.at(3.0), stamp + 10**7)
    robot.node.spin_until(answer.done)
    result = answer.result().result
    assert result.status == Imagine.Result.OK, result.message
    assert result.trajectories[0].path.poses[0].pose.position.x == pytest.approx(3.0)


def test_the_imagined_camera_is_on_tf_with_every_frame_and_preview(robot):
    robot.mount()
    from tf2_msgs.msg import TFMessage

    sent = []
    robot.node.tester.create_subscription(TFMessage, "/tf", lambda m: sent.extend(m.transforms), 100)
    robot.node.spin(0.5)
    robot.node.received["imagined/image"].clear()
    stamps = [robot.now() + index * 10**8 for index in range(4)]
    poses = [pose_to_stamped(robot.at(1 + 0.1 * i), Header(stamp=stamp_from_ns(s))) for i, s in enumerate(stamps)]
    robot.node.publish("path", Path(header=Header(frame_id="map"), poses=poses))
    robot.node.publish("preview/pose", pose_to_stamped(robot.at(7.0), Header(stamp=stamp_from_ns(stamps[0] - 1))))
    robot.node.spin_until(lambda: len(robot.node.received["imagined/image"]) == 4)

    def imagined():
        return [t for t in sent if t.child_frame_id == "imagined_camera_optical_frame"]

    robot.node.spin_until(lambda: len(imagined()) == 5)
    by_stamp = {ns_from_stamp(t.header.stamp): t for t in imagined()}
    assert set(by_stamp) == {stamps[0] - 1, *stamps}
    assert by_stamp[stamps[2]].header.frame_id == "map"
    assert by_stamp[stamps[2]].transform.translation.x == pytest.approx(1.2)
    assert by_stamp[stamps[2]].transform.translation.z == pytest.approx(0.5)


def test_frames_of_the_far_future_do_not_shut_out_those_of_now(robot):
    """tf2's buffers refuse what is 10 s older than the newest of a frame."""
    from tf2_msgs.msg import TFMessage

    robot.mount()
    sent, now = [], robot.now()
    robot.node.tester.create_subscription(TFMessage, "/tf", lambda m: sent.extend(m.transforms), 100)
    robot.node.spin(0.5)
    # The last one has the stamp of another, and another pose.
    for ahead, x in ((60, 1.0), (0, 2.0), (0, 3.0)):
        stamp = stamp_from_ns(now + ahead * 10**9)
        seen = len(robot.node.received["preview/camera_info"])
        robot.node.publish("preview/pose", pose_to_stamped(robot.at(x), Header(stamp=stamp)))
        robot.node.spin_until(lambda seen=seen: len(robot.node.received["preview/camera_info"]) > seen)
    places = {}
    robot.node.spin_until(
        lambda: places.update({t.transform.translation.x: ns_from_stamp(t.header.stamp) for t in sent}) or 3.0 in places
    )
    assert places == {2.0: now, 3.0: now}


def test_depth_of_a_camera_of_its_own_is_registered_with_its_optics_and_tf(tf, new_node):
    from mirage_ros.geometry import pinhole
    from mirage_ros.ros.conversions import camera_to_info, depth_from_metres

    node = new_node("rgbd").start()
    node.listen("/diagnostics")
    robot, frame = tf(node), node.camera_frame()
    # A depth camera 5 cm to the right, with a wider view; the wall ends at x = 0.2 m of the colour camera.
    depth_camera = pinhole(60, 80, vertical_fov=1.2)
    rays = depth_camera.pixel_centres()[..., 0].numpy()
    focal, centre = float(depth_camera.intrinsics[0, 0]), float(depth_camera.intrinsics[0, 2])
    wall = np.where((rays - centre) / focal * 2.0 + 0.05 < 0.2, 2.0, 4.0).astype(np.float32)
    optics = Header(stamp=frame["image"].header.stamp, frame_id="depth_camera")
    frame["depth"] = depth_from_metres(wall, header=optics)
    for name, message in frame.items():
        node.publish(name, message)
    node.spin_until(lambda: "depth.header.frame_id: expected 'camera' like the image" in node.diagnosis("inputs"))
    session = node.node.configured.context.session
    assert not len(session.memory)
    robot.send("camera", "depth_camera", tf.at(0.05), 0, static=True)
    node.publish("depth/camera_info", camera_to_info(depth_camera, optics))
    node.spin(0.3)
    stamp = node.stamp()
    for name, message in frame.items():
        message.header.stamp = stamp
        node.publish(name, message)
    node.spin_until(lambda: len(session.memory))
    points = session.memory.elements().positions
    near = points[(points[:, 2] - 2.0).abs() < 0.05]
    far = points[(points[:, 2] - 4.0).abs() < 0.1]
    assert len(near) + len(far) > 0.9 * len(points)
    assert near[:, 0].max() == pytest.approx(0.2, abs=0.12)
    assert far[:, 0].min() > 0.25


@pytest.mark.parametrize("clock", [False, True])
def test_a_clock_that_is_set_back_starts_the_node_anew(tf, new_node, clock):
    from rosgraph_msgs.msg import Clock

    options = {"use_sim_time": True} if clock else {}
    node = new_node("loop_clock" if clock else "loop", **options).start()
    node.listen("/diagnostics")
    times = node.tester.create_publisher(Clock, "/clock", 10)
    session = node.node.configured.context.session

    def play(start, x, count):
        for index in range(count):
            before = session.snapshot.changes
            stamp = start + index * 10**8
            if clock:
                times.publish(Clock(clock=stamp_from_ns(stamp)))
                node.spin(0.05)
            for name, message in node.camera_frame(seed=index, x=x + 0.3 * index).items():
                message.header.stamp = stamp_from_ns(stamp)
                node.publish(name, message)
            node.spin_until(lambda before=before: session.snapshot.changes > before)

    if clock:
        node.spin_until(times.get_subscription_count)
    # With /clock also a jump of less than what late messages are allowed.
    length = 10 if clock else 30
    play(100 * 10**9, 0.0, 4)
    play(100 * 10**9 + length * 10**8, 2.0, 2)
    play(100 * 10**9, 5.0, 4)
    newest = [float(r.camera.cam2world[0, 3]) for r in session.memory.frames()][-4:]
    assert newest == pytest.approx([5.0, 5.3, 5.6, 5.9])
    node.spin_until(lambda: "clock: was set back to 10" in node.diagnosis("inputs"))
