"""Bringing messages of one stamp together."""

import pytest
from builtin_interfaces.msg import Time
from std_msgs.msg import Header

from mirage_ros.ros.synchroniser import StampSynchroniser


class Message:
    def __init__(self, second):
        self.header = Header(stamp=Time(sec=second))


def test_a_set_is_complete_when_every_topic_has_the_stamp():
    synchroniser = StampSynchroniser(["image", "depth"])
    image, depth = Message(1), Message(1)
    assert synchroniser.add("image", image) is None
    assert synchroniser.add("depth", Message(2)) is None
    assert synchroniser.add("depth", depth) == {"image": image, "depth": depth}
    assert synchroniser.dropped == 0


def test_overtaken_sets_are_dropped_and_counted():
    synchroniser = StampSynchroniser(["image", "depth"])
    synchroniser.add("image", Message(1))
    synchroniser.add("image", Message(2))
    assert synchroniser.add("depth", Message(2)) is not None
    assert synchroniser.dropped == 1
    assert synchroniser.add("depth", Message(1)) is None


def test_the_queue_is_bounded():
    synchroniser = StampSynchroniser(["image", "depth"], size=3)
    for second in range(10):
        synchroniser.add("image", Message(second))
    assert synchroniser.dropped == 7
    assert synchroniser.add("depth", Message(6)) is None
    assert synchroniser.add("depth", Message(9)) is not None


def test_a_clock_that_jumps_back_does_not_block_it():
    synchroniser = StampSynchroniser(["image", "depth"], size=3)
    for second in range(100, 110):
        synchroniser.add("image", Message(second))
    synchroniser.add("image", Message(1))
    assert synchroniser.add("depth", Message(1)) is not None


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match="topics: expected"):
        StampSynchroniser([])
    with pytest.raises(ValueError, match="size: expected"):
        StampSynchroniser(["image"], size=0)
    with pytest.raises(ValueError, match="topic: expected"):
        StampSynchroniser(["image"]).add("depth", Message(1))
