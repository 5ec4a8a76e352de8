import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.memory import LatentMemory
from mirage_ros.perception.pipeline import DecodedFrames, JointDepth, NoFilter, SensorDepth


def frames(first=0, joint=None, count=2):
    camera = pinhole(4, 6, focal=5.0, cam2world=torch.eye(4).repeat(count, 1, 1))
    return DecodedFrames(torch.zeros(count, 3, 4, 6), camera, first, joint)


MEMORY = LatentMemory(4)


def test_sensor_depth_is_that_of_the_frames_place_in_the_trajectory():
    depth = torch.arange(1.0, 6.0)[:, None, None].expand(5, 4, 6)
    given = SensorDepth(depth).estimate(frames(first=2), MEMORY).depth
    assert given[:, 0, 0].tolist() == [3.0, 4.0]
    with pytest.raises(ValueError, match="depth: expected 4x6 for 2 frames from 4 on"):
        SensorDepth(depth).estimate(frames(first=4), MEMORY)


def test_sky_is_too_far_for_joint_depth():
    joint = torch.tensor([2.0, 30.0, torch.nan])[:, None, None].expand(3, 4, 6)
    depth = JointDepth().estimate(frames(joint=joint, count=3), MEMORY).depth
    assert (depth[0] == 2).all()
    assert depth[1].isposinf().all()
    assert depth[2].isnan().all()
    with pytest.raises(ValueError, match="preset with depth channels"):
        JointDepth().estimate(frames(), MEMORY)


def test_without_a_filter_everything_is_kept():
    estimate = SensorDepth(torch.ones(2, 4, 6)).estimate(frames(), MEMORY)
    assert NoFilter().filter(frames(), estimate, MEMORY).keep.all()
