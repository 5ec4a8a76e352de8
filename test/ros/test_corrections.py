"""Camera frames that came through TF move along when the localisation jumps."""

import contextlib

import pytest
import torch
from std_msgs.msg import Header

from mirage_ros.ros.conversions import pose_to_stamped, stamp_from_ns
from mirage_ros.ros.patience import TransformPendingError

pytestmark = pytest.mark.slow


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
