"""Poses of camera frames from TF are waited for, and checked as all others are."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.ros.conversions import camera_to_info, depth_from_metres, numpy_to_image, stamp_from_ns
from mirage_ros.ros.observing import Observing
from mirage_ros.ros.parameters import MirageParameters, ObservationParameters
from mirage_ros.ros.waiting import TransformPendingError
from mirage_ros.ros.work_queue import BusyError, Worker

# Localisation that never jumps.
STEADY = SimpleNamespace(look=lambda place: None, place=lambda pose, stamp: pose, note=lambda stamp: None)
NOW = 1_700_000_000 * 10**9


@pytest.fixture
def robot():
    """An observing node whose TF says what the test says; frames that were written are kept."""
    observation = ObservationParameters(pose="tf", depth="estimated", rate=0.0)
    worker, written = Worker(), []
    robot = SimpleNamespace(now=NOW, pose=torch.eye(4, dtype=torch.float64), written=written)

    def transform(target, source, stamp, name):
        if robot.pose is None:
            raise TransformPendingError("image: no transform", f"{source} -> {target}")
        return robot.pose

    frames = SimpleNamespace(camera_frame="", transform=transform)
    events = robot.events = {}
    clock = SimpleNamespace(create_jump_callback=lambda *how, **more: None)
    context = SimpleNamespace(
        parameters=MirageParameters(observation=observation, tf_tolerance=0.2),
        session=SimpleNamespace(observe=lambda frame: written.append(frame) or 1),
        worker=worker,
        health=SimpleNamespace(watch=lambda *work: None, event=events.__setitem__),
        now=lambda: robot.now,
        node=SimpleNamespace(get_clock=lambda: clock),
    )
    robot.observing, robot.context, robot.frames = Observing(context, frames, STEADY), context, frames

    def show(stamp):
        header = Header(stamp=stamp_from_ns(stamp), frame_id="camera")
        robot.observing.add("camera_info", camera_to_info(pinhole(40, 60, focal=50.0), header))
        robot.observing.add("image", numpy_to_image(np.zeros((40, 60, 3), np.uint8), "rgb8", header))
        worker.call(lambda: None).result(10)

    robot.show = show
    yield robot
    worker.close()


def test_a_pose_in_tf_is_used_as_it_is(robot):
    robot.pose[0, 3] = 500.1234567891234
    robot.show(NOW)
    assert torch.equal(robot.written[0].camera.cam2world, robot.pose)


def test_a_pose_in_tf_that_is_too_far_away_is_refused(robot):
    robot.pose[0, 3] = 1001.0
    with pytest.raises(ValueError, match=r"TF: expected within 1000 m .*imagine.max_distance.*, got 1001 m"):
        robot.show(NOW)
    robot.pose[0, 3] = 1.0
    robot.show(NOW + 1)
    assert [frame.stamp for frame in robot.written] == [NOW + 1]


def test_a_transform_is_waited_for_a_moment(robot):
    robot.pose = None
    robot.show(NOW)
    assert not robot.written
    # However old the stamps of a recording are, and however young: the wait is from the image's arrival.
    robot.now += 10**12
    robot.observing.pump()
    time.sleep(0.25)
    with pytest.raises(ValueError, match="no transform"):
        robot.observing.pump()
    assert robot.events == {"tf camera -> map": "image: no transform"}


def test_the_place_of_unregistered_depth_is_waited_for_and_then_refused_in_words(robot):
    robot.context.parameters = MirageParameters(
        observation=ObservationParameters(pose="origin", depth="topic", rate=0.0), tf_tolerance=0.2
    )
    observing = robot.observing = Observing(robot.context, robot.frames, STEADY)

    def show(stamp):
        header = Header(stamp=stamp_from_ns(stamp), frame_id="depth_camera")
        observing.add("depth/camera_info", camera_to_info(pinhole(40, 60, focal=50.0), header))
        observing.add("depth", depth_from_metres(np.full((40, 60), 2.0, np.float32), header=header))
        robot.show(stamp)

    robot.pose = None
    show(NOW)
    assert not robot.written
    # TF comes a little late: the frame is still there.
    robot.pose = torch.eye(4, dtype=torch.float64)
    observing.pump()
    robot.context.worker.call(lambda: None).result(10)
    assert [frame.stamp for frame in robot.written] == [NOW]
    robot.pose = None
    show(NOW + 1)
    time.sleep(0.25)
    with pytest.raises(ValueError, match="no transform") as refused:
        observing.pump()
    # One that waits for transforms would try the message again, whose frame is gone.
    assert not isinstance(refused.value, TransformPendingError)
    assert list(robot.events) == ["tf depth_camera -> camera"]


def test_a_request_outlives_a_queue_that_is_full(robot, monkeypatch):
    request = robot.observing.observe_next()

    def full(*_, **__):
        raise BusyError("calls: 64 wait already")

    with monkeypatch.context() as patched:
        patched.setattr(robot.context.worker, "call", full)
        with pytest.raises(BusyError):
            robot.show(NOW)
    robot.show(NOW + 1)
    assert request.result(10) == 1


def test_an_image_of_the_future_sets_no_clock(robot):
    """It is refused; those after it are not of a time before."""
    robot.frames.restart = lambda: None
    robot.show(NOW)
    with pytest.raises(ValueError, match=r"image.header.stamp: expected at most 5 s ahead of now .* got 60.0 s"):
        robot.show(NOW + 60 * 10**9)
    robot.show(NOW + 10**8)
    assert "clock" not in robot.events
    assert [frame.stamp for frame in robot.written] == [NOW, NOW + 10**8]
