"""Camera frames that came through TF move along when the localisation jumps, others when poses come for them."""

import contextlib
import logging
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from std_msgs.msg import Header

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.ros.conversions import pose_to_stamped, stamp_from_ns
from mirage_ros.ros.corrections import Corrections
from mirage_ros.ros.model_session import ModelSession
from mirage_ros.ros.parameters import MemoryParameters, MirageParameters
from mirage_ros.ros.status import Health
from mirage_ros.ros.waiting import TransformPendingError
from mirage_ros.ros.work_queue import BusyError, Worker


def moved(metres):
    pose = torch.eye(4, dtype=torch.float64)
    pose[0, 3] = metres
    return pose


@pytest.fixture
def desk():
    """Corrections beside a worker with room for two calls, a link that the test sets, and a memory of two frames."""
    memory = MemoryParameters(max_bytes=4 << 20)
    parameters = MirageParameters(preset="test", random_weights=True, device="cpu", memory=memory, threads=1)
    session, threads = ModelSession(parameters), torch.get_num_threads()
    rgb = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    for stamp in (1, 2):
        camera = pinhole(64, 96, vertical_fov=0.9, cam2world=moved(stamp))
        session.observe(RgbdFrame(rgb, np.full((64, 96), 2.0, np.float32), camera, stamp * 10**9))
    worker, logger = Worker(max_calls=2), logging.getLogger("corrections")
    logger.warning = lambda message, **_: None
    node = SimpleNamespace(get_logger=lambda: logger)
    context = SimpleNamespace(
        node=node, parameters=parameters, session=session, worker=worker, health=Health(node, lambda: parameters)
    )
    desk = SimpleNamespace(worker=worker, health=context.health, ended=0, link=moved(0.0))

    def give_up():
        desk.ended += 1

    def settle():
        # What the worker found is taken up by the next look, and then done.
        for _ in range(2):
            worker.call(lambda: None).result(60)
            desk.corrections.look(torch.zeros(3))
        worker.call(lambda: None).result(60)

    desk.corrections = Corrections(context, SimpleNamespace(has_tf=True, transform=lambda *_: desk.link), give_up)
    desk.settle = settle
    desk.places = lambda: [round(float(each.camera.cam2world[0, 3]), 6) for each in session.memory.frames()]
    yield desk
    worker.close()
    torch.set_num_threads(threads)


def test_poses_that_the_memory_has_already_end_nobodys_work(desk):
    stamps = [10**9, 2 * 10**9]
    desk.corrections.repose(torch.stack([moved(1.0005), moved(2)]), stamps)
    desk.settle()
    assert (desk.ended, desk.places()) == (0, [1, 2])
    # Of two messages that come while the worker is busy, each moves what it names.
    gate, running = threading.Event(), threading.Event()
    desk.worker.call(lambda: (running.set(), gate.wait()))
    assert running.wait(60)
    desk.corrections.repose(moved(1.5)[None], stamps[:1])
    desk.corrections.repose(moved(2.5)[None], stamps[1:])
    gate.set()
    desk.settle()
    assert (desk.ended, desk.places()) == (1, [1.5, 2.5])
    desk.corrections.repose(moved(0)[None], [9 * 10**9])
    desk.settle()
    assert desk.health.refused == {"repose/frames": 1}
    assert desk.ended == 1


def test_a_jump_that_finds_the_queue_full_is_made_up_for(desk):
    desk.corrections.look(torch.zeros(3))
    desk.corrections.note(10**9)
    gate, running = threading.Event(), threading.Event()
    desk.worker.call(lambda: (running.set(), gate.wait()))
    assert running.wait(60)
    for _ in range(2):
        desk.worker.call(lambda: None)
    desk.link = moved(3)
    with pytest.raises(BusyError):
        desk.corrections.look(torch.zeros(3))
    assert desk.ended == 0
    gate.set()
    desk.worker.settle()
    assert desk.corrections.look(torch.zeros(3)).equal(moved(3))
    desk.settle()
    assert (desk.ended, desk.places()) == (1, [4, 2])


@pytest.mark.slow
@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("by", ["tf", "topic"])
def test_a_jump_of_the_localisation_does_not_double_the_scene(tf, new_node, by, follow):
    """A robot stands before a wall, and looks at it again once its place is known better, by .5 m and .2 rad."""
    options = {"observation.pose": by, "observation.jump": 0.1 if follow else 0.0}
    robot = tf(new_node(f"jump_{by}_{follow}", **options).start())
    session, wrong = robot.node.node.configured.context.session, tf.at(0.4, 0.3, yaw=0.2)
    robot.mount()
    robot.send("odom", "base_link", tf.at(), 0, static=True)

    def look(seed, link):
        # The link as it was before and after the picture, whose stamp lies between.
        stamp = robot.now()

        def known():
            for shift in (-(10**6), 10**6):
                robot.send("map", "odom", link, stamp + shift)
            robot.node.spin(0.05)
            with contextlib.suppress(TransformPendingError):
                return robot.node.node.configured.stage.active.frames.transform("map", "odom", stamp, "tf") is not None

        robot.node.spin_until(known)
        frame = robot.node.camera_frame(seed=seed)
        del frame["camera_pose"]
        for message in frame.values():
            message.header.stamp = stamp_from_ns(stamp)
        if by == "topic":
            for shift in (-(10**6), 10**6):
                header = Header(stamp=stamp_from_ns(stamp + shift), frame_id="odom")
                robot.node.publish("camera_pose", pose_to_stamped(tf.camera, header))
        for name, message in frame.items():
            robot.node.publish(name, message)
        robot.node.spin_until(lambda: stamp in robot.seen)

    # Drift that goes on in small steps is no jump: what was seen before stays.
    look(1, tf.at(-0.02) @ wrong)
    look(2, wrong)
    first = [record.camera.cam2world for record in session.memory.frames()]
    torch.testing.assert_close(first[0], tf.at(-0.02) @ wrong @ tf.camera)
    look(3, tf.at())
    elements = session.memory.elements().positions
    # The wall is 2 m ahead of the camera, which looks along x.
    off = float((elements[:, 0] - 2.0).abs().max())
    assert off < 0.06 if follow else off > 0.3
    place = session.memory.frames()[0].camera.cam2world
    if follow:
        torch.testing.assert_close(place, torch.linalg.inv(wrong) @ first[0], atol=1e-6, rtol=0)
    else:
        torch.testing.assert_close(place, first[0])
