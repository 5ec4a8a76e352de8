"""The simulated camera as a process: what it publishes, what it obeys, what it refuses."""

import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from geometry_msgs.msg import PoseStamped, Twist
from std_msgs.msg import Header

from mirage_ros.demo.camera_receiver import SimCameraReceiver
from mirage_ros.poses import optical_to_body
from mirage_ros.ros.conversions import pose_to_msg
from mirage_ros.ros.executable import executable, parameter_arguments
from mirage_ros.sim.paths import plan_path
from mirage_ros.sim.renderer import Renderer
from mirage_ros.sim.scene import build_scene

SMALL = {"width": 96, "height": 64, "rate": 10.0}
# Starting a process on a busy machine.
TIMEOUT = 120.0


@pytest.fixture
def camera(ros):
    """Starts the node with parameters and gives a function that waits for the next frame."""

    def start(namespace="", **parameters):
        arguments = ["-r", f"__ns:={namespace}"] if namespace else []
        ros.start("sim_camera", {**SMALL, **parameters}, *arguments)
        receiver = SimCameraReceiver(ros.node("tester"), namespace)
        return lambda: receiver.next(ros.executor, TIMEOUT)

    return start


def test_it_publishes_what_the_scene_looks_like(camera):
    next_frame = camera(seed=4, moving=0, path_length=20)
    scene = build_scene(4, moving=0)
    path = plan_path(scene, 20, 4)
    with Renderer(scene, 64, 96) as renderer:
        for _ in range(3):
            frame = next_frame()
            pose = frame.camera.cam2world
            assert (path.double() - pose).abs().amax(dim=(1, 2)).min() < 1e-5
            expected = renderer.render(pose.float())
            assert np.abs(frame.rgb.astype(int) - expected.rgb).mean() < 0.5
            np.testing.assert_allclose(frame.depth, expected.depth, rtol=1e-3)
            torch.testing.assert_close(frame.camera.intrinsics, renderer.camera(pose).intrinsics.double())


def test_stamps_follow_the_rate_and_the_clock(ros):
    from rosgraph_msgs.msg import Clock

    ros.start("sim_camera", {**SMALL, "publish_clock": True})
    node = ros.node("tester")
    clocks = []
    node.create_subscription(Clock, "/clock", lambda m: clocks.append(m.clock.sec * 10**9 + m.clock.nanosec), 10)
    receiver = SimCameraReceiver(node)
    stamps = [receiver.next(ros.executor, TIMEOUT).stamp for _ in range(4)]
    assert set(np.diff(stamps)) == {100_000_000}
    ros.spin_until(lambda: stamps[-1] in clocks)
    assert max(stamps) < 60 * 10**9


@pytest.mark.parametrize("publish_clock", [False, True])
def test_it_lives_on_with_use_sim_time(camera, publish_clock):
    """Many launch files set use_sim_time for every node, also for the one that makes the time."""
    next_frame = camera(use_sim_time=True, publish_clock=publish_clock)
    assert [next_frame().rgb.shape for _ in range(2)] == [(64, 96, 3)] * 2


def test_best_effort_images_arrive_complete(camera):
    next_frame = camera(reliability="best_effort")
    assert [next_frame().depth.shape for _ in range(3)] == [(64, 96)] * 3


def test_a_rate_beyond_its_powers_is_said_and_does_not_slow_it_down(ros, camera):
    next_frame = camera(motion="hold", width=640, height=480, rate=120.0, command_timeout=5.0, seed=2)
    node = ros.node("driver")
    publisher = node.create_publisher(Twist, "cmd_vel", 10)
    ros.spin_until(publisher.get_subscription_count)
    next_frame()
    twist = Twist()
    twist.angular.z = 0.5
    publisher.publish(twist)
    frames = [next_frame()]
    while frames[-1].stamp - frames[0].stamp < 2 * 10**9:
        frames.append(next_frame())
    headings = [optical_to_body(frame.camera.cam2world) for frame in frames]
    yaws = np.unwrap([math.atan2(body[1, 0], body[0, 0]) for body in headings])
    seconds = (frames[-1].stamp - frames[0].stamp) / 1e9
    assert (yaws[-1] - yaws[0]) / seconds == pytest.approx(0.5, rel=0.25)
    assert "more than the 0.008 s of the rate" in (ros.logs / "sim_camera.log").read_text()


def test_it_obeys_velocity_commands_and_stops_without_them(ros, camera):
    next_frame = camera(motion="hold", command_timeout=0.3)
    node = ros.node("driver")
    publisher = node.create_publisher(Twist, "cmd_vel", 10)
    ros.spin_until(publisher.get_subscription_count)
    before = optical_to_body(next_frame().camera.cam2world)
    twist = Twist()
    twist.angular.z = 0.5
    for _ in range(8):
        publisher.publish(twist)
        next_frame()
    time.sleep(0.6)
    for _ in range(10):
        after = optical_to_body(next_frame().camera.cam2world)
    yaw = math.atan2(after[1, 0], after[0, 0]) - math.atan2(before[1, 0], before[0, 0])
    assert 0.2 < math.remainder(yaw, 2 * math.pi) < 0.8
    torch.testing.assert_close(after[:3, 3], before[:3, 3])
    assert torch.equal(optical_to_body(next_frame().camera.cam2world), after)


def test_it_obeys_pose_commands_and_refuses_bad_ones(ros, camera):
    next_frame = camera(seed=2, motion="hold")
    node = ros.node("driver")
    publisher = node.create_publisher(PoseStamped, "cmd_pose", 10)
    ros.spin_until(publisher.get_subscription_count)
    start = next_frame().camera.cam2world
    target = plan_path(build_scene(2), 10, 77)[5].double()
    good = PoseStamped(header=Header(frame_id="map"), pose=pose_to_msg(target))
    elsewhere = PoseStamped(header=Header(frame_id="odom"), pose=pose_to_msg(target))
    outside = PoseStamped(pose=pose_to_msg(target))
    outside.pose.position.x = 100.0
    zero = PoseStamped(pose=pose_to_msg(target))
    zero.pose.orientation.w = zero.pose.orientation.x = zero.pose.orientation.y = zero.pose.orientation.z = 0.0
    for bad in (elsewhere, outside, zero):
        publisher.publish(bad)
    for _ in range(3):
        assert torch.equal(next_frame().camera.cam2world, start)
    log = ros.logs / "sim_camera.log"
    ros.spin_until(lambda: log.read_text().count("ignored") == 3)
    for text in ("expected 'map', got 'odom'", "is outside the scene or too close to something", "unit length"):
        assert text in log.read_text()
    publisher.publish(good)
    ros.spin_until(lambda: (next_frame().camera.cam2world - target).abs().max() < 1e-6)


def test_namespaces_and_frames(ros, camera):
    next_frame = camera(namespace="/robot1", world_frame="odom", camera_frame="eye")
    messages = {}
    from sensor_msgs.msg import Image

    node = ros.node("listener")
    node.create_subscription(Image, "/robot1/image", lambda m: messages.setdefault("image", m), 10)
    node.create_subscription(PoseStamped, "/robot1/true_pose", lambda m: messages.setdefault("pose", m), 10)
    next_frame()
    ros.spin_until(lambda: len(messages) == 2)
    assert messages["image"].header.frame_id == "eye"
    assert messages["pose"].header.frame_id == "odom"


def test_depth_in_millimetres(camera):
    a, b = camera(depth_encoding="16UC1", moving=0), build_scene(0, moving=0)
    frame = a()
    with Renderer(b, 64, 96) as renderer:
        expected = renderer.render(frame.camera.cam2world.float()).depth
    np.testing.assert_allclose(frame.depth, expected, atol=0.002)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"family": "caves"}, "parameter family: expected one of rooms, halls, flats, warehouses, got 'caves'"),
        ({"width": 3}, "parameter width: expected int from 16 to 4096, got 3"),
        ({"sed": 3}, "parameter sed: expected one of camera_frame, "),
        ({"rate": "fast"}, "parameter rate: expected float from 0.1 to 120.0, got 'fast'"),
    ],
)
def test_wrong_parameters_end_it_with_a_reason(ros, parameters, message):
    command = [sys.executable, str(executable("sim_camera")), *parameter_arguments(parameters)]
    result = subprocess.run(
        command, env={**os.environ, **ros.environment}, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_it_ends_at_an_interrupt_without_a_trace(ros):
    # A rate it cannot keep: the interrupt then falls into a callback.
    process = ros.start("sim_camera", {**SMALL, "rate": 120.0})
    receiver = SimCameraReceiver(ros.node("tester"))
    receiver.next(ros.executor, TIMEOUT)
    process.send_signal(signal.SIGINT)
    status = process.wait(20)
    log = (ros.logs / "sim_camera.log").read_text()
    assert status == 0, log
    assert "Traceback" not in log
