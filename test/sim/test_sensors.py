"""Each fault does what it says, grows with its strength, and leaves alone what it is not about."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mirage_ros.geometry import pinhole
from mirage_ros.rgbd import RgbdFrame
from mirage_ros.sim.sensors import FAULTS, OF_COLOUR, OF_DEPTH, SENSORS, check_sensor, sensed


@pytest.fixture
def frame() -> RgbdFrame:
    """A grey wall 3 m away with stripes, farther on the right, a box 1 m away in the middle, sky above."""
    rgb = np.full((128, 192, 3), 120, np.uint8)
    rgb[:, ::8] = 200
    depth = np.full((128, 192), 3.07, np.float32)
    depth[:, 150:] = 5.5
    depth[48:96, 72:120], rgb[48:96, 72:120] = 1.0, (160, 90, 60)
    depth[:16] = np.inf
    camera = pinhole(128, 192, focal=160.0, cam2world=torch.eye(4, dtype=torch.float64))
    return RgbdFrame(rgb, depth, camera)


def change(frame: RgbdFrame, fault: str, strength: float) -> tuple[float, float, float]:
    """How much colour, depth and pose change: mean values, share of pixels, metres and radians."""
    other = sensed(frame, (fault,), strength, np.random.default_rng(0))
    colour = np.abs(other.rgb.astype(float) - frame.rgb).mean()
    depth = np.abs(np.nan_to_num(other.depth, posinf=50) - np.nan_to_num(frame.depth, posinf=50)).mean()
    return colour, depth, float((other.camera.cam2world - frame.camera.cam2world).abs().sum())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_touches_its_own_part_and_grows(frame, fault):
    changes = np.array([change(frame, fault, strength) for strength in (0.0, 0.5, 1.0, 2.0)])
    kind = 0 if fault in OF_COLOUR else 1 if fault in OF_DEPTH else 2
    assert not changes[0].any()
    assert changes[2:, kind].all()
    assert changes[3, kind] > changes[1, kind]
    assert not np.delete(changes, kind, axis=1).any()


def test_the_pose_is_a_centimetre_and_half_a_degree_off(frame):
    moved = sensed(frame, ("pose",), 1.0, np.random.default_rng(3)).camera.cam2world
    assert float(moved[:3, 3].norm()) == pytest.approx(0.01, rel=1e-6)
    angle = torch.arccos((moved[:3, :3].diagonal().sum() - 1) / 2)
    assert float(torch.rad2deg(angle)) == pytest.approx(0.5, rel=1e-4)


def test_what_was_near_grows_and_far_things_and_holes_are_not_measured(frame):
    grown = sensed(frame, ("bleed",), 3.0, np.random.default_rng(0)).depth
    assert (grown == 1).sum() > (frame.depth == 1).sum()
    cut = sensed(frame, ("range",), 2.0, np.random.default_rng(0)).depth
    assert (cut[(frame.depth > 3) & (frame.depth < 9)] == 0).all()
    holed = sensed(frame, ("holes",), 1.0, np.random.default_rng(0)).depth
    assert 0.03 < (holed[frame.depth < 10] == 0).mean() < 0.4
    for depth in (grown, cut, holed):
        assert np.isposinf(depth[:16]).all()


@pytest.mark.parametrize("sensor", sorted(SENSORS))
def test_a_sensor_gives_a_frame_of_the_same_kind_and_the_same_one_each_time(frame, sensor):
    first, second = (sensed(frame, check_sensor(sensor, 1.0), 1.0, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first.rgb, second.rgb)
    assert np.array_equal(first.depth, second.depth)
    assert (first.depth >= 0).all()
    assert (first.rgb != frame.rgb).any()


def test_what_is_no_sensor_is_refused(frame):
    with pytest.raises(ValueError, match="sensor: expected one of structured-light, .*, got 'lidar'"):
        check_sensor("lidar", 1.0)
    with pytest.raises(ValueError, match="strength: expected a number from 0 to 10, got -1"):
        check_sensor("blur", -1)
    with pytest.raises(ValueError, match="faults: expected some of exposure, .*, got 'stereo'"):
        sensed(frame, "stereo", 1.0, np.random.default_rng(0))
