"""The camera's poses between those that came."""

import numpy as np
import pytest
import torch
from geometry_msgs.msg import Pose

from mirage_ros.ros.conversions import pose_from_msg
from mirage_ros.ros.pose_buffer import PoseBuffer

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

    def test_nothing_is_interpolated_over_a_long_gap_unless_the_camera_stood_still(self):
        buffer = PoseBuffer(max_gap=1.0)
        for seconds, x in ((0, 0.0), (20, 0.001), (40, 3.0)):
            buffer.add(NOW + seconds * SECOND, at(x))
        assert buffer.at(NOW + 10 * SECOND)[0, 3] < 0.001
        with pytest.raises(ValueError, match=r"at most 1 s apart \(observation.max_gap\).* got none from"):
            buffer.at(NOW + 30 * SECOND)
        torch.testing.assert_close(buffer.at(NOW + 40 * SECOND), at(3.0))
