"""Which camera frames new poses are meant for."""

from types import SimpleNamespace

import pytest

from mirage_ros.ros.loop_closure import frames_near

SECOND = 10**9


def record(frame, seconds, kind="observation"):
    return SimpleNamespace(id=frame, stamp=round(seconds * SECOND), kind=kind)


def test_stamps_name_the_nearest_camera_frames_within_the_slop():
    records = [record(3, 1.0), record(7, 2.0), record(8, 2.01), record(9, 5.0), record(10, 2.0, "imagination")]
    stamps = [round(seconds * SECOND) for seconds in (8.0, 2.012, 1.015)]
    assert frames_near(records, stamps, slop=0.02) == {3: 2, 8: 1}
    assert frames_near(records, stamps[:1], slop=0.02) == {}


def test_frames_of_two_cameras_are_not_told_apart_by_a_stamp():
    with pytest.raises(ValueError, match="of the frames 1 and 2; call repose with ids"):
        frames_near([record(1, 1.0), record(2, 1.0)], [SECOND], slop=0.02)
