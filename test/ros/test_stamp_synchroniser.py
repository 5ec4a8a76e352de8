"""Messages that belong together by their stamps: equal, near, sent once, of several cameras, after a jump back."""

from types import SimpleNamespace

import pytest

from mirage_ros.ros.conversions import stamp_from_ns
from mirage_ros.ros.stamp_synchroniser import CAMERAS, KEPT_PATIENCE, StampSynchroniser

MS = 10**6


def message(milliseconds, frame="camera"):
    return SimpleNamespace(header=SimpleNamespace(stamp=stamp_from_ns(milliseconds * MS), frame_id=frame))


def ready(synchroniser, now=0.0):
    return [parts for parts, _ in synchroniser.complete(now)]


def test_a_set_is_complete_when_every_topic_has_the_stamp():
    synchroniser = StampSynchroniser(["image", "depth"])
    image, depth = message(1), message(1)
    synchroniser.add("image", image, 0.0)
    synchroniser.add("depth", message(2), 0.0)
    assert not ready(synchroniser)
    synchroniser.add("depth", depth, 0.0)
    assert ready(synchroniser) == [{"image": image, "depth": depth}]
    assert synchroniser.dropped == 0


def test_the_nearest_within_the_slop_is_taken_once_nothing_nearer_can_come():
    synchroniser = StampSynchroniser(["image", "depth"], slop=0.02)
    before, after = message(985), message(1010)
    synchroniser.add("depth", before, 0.0)
    synchroniser.add("image", message(1000), 0.0)
    # A nearer one may be on its way.
    assert not ready(synchroniser, 0.01)
    synchroniser.add("depth", after, 0.01)
    assert ready(synchroniser, 0.01)[0]["depth"] is after
    synchroniser.add("image", message(1025), 1.0)
    # Nothing comes any more: after as long as the slop what there is will do.
    assert ready(synchroniser, 1.03)[0]["depth"] is after


def test_equal_stamps_win_over_near_ones_and_far_ones_never_match():
    synchroniser = StampSynchroniser(["image", "depth"], slop=0.02)
    exact = message(1000)
    for each in (message(995), exact, message(1005)):
        synchroniser.add("depth", each, 0.0)
    synchroniser.add("image", message(1000), 0.0)
    assert ready(synchroniser)[0]["depth"] is exact
    synchroniser.add("image", message(1500), 0.0)
    assert not ready(synchroniser, 10.0)


def test_camera_info_that_is_sent_once_holds_for_all_images_of_its_frame():
    synchroniser = StampSynchroniser(["image", "camera_info"], slop=0.02)
    info = message(0)
    synchroniser.add("camera_info", info, 0.0)
    for index in range(1, 30):
        synchroniser.add("image", message(100 * index), 0.0)
        assert not ready(synchroniser, 0.0)
        assert ready(synchroniser, KEPT_PATIENCE * 2)[0]["camera_info"] is info
    synchroniser.add("image", message(9000, "other"), 0.0)
    assert not ready(synchroniser, 10.0)


@pytest.mark.parametrize(
    "order", ["image left, image right, info right, info left", "image left, info left, image right, info right"]
)
def test_cameras_that_share_topics_keep_their_own_messages(order):
    synchroniser, sets = StampSynchroniser(["image", "camera_info"]), []
    infos = {name: message(1, name) for name in ("left", "right")}
    for kind, name in (step.split() for step in order.split(", ")):
        topic, shown = ("image", message(1, name)) if kind == "image" else ("camera_info", infos[name])
        synchroniser.add(topic, shown, 0.0)
        sets += ready(synchroniser)
    assert len(sets) == 2
    assert synchroniser.dropped == 0
    assert all(parts["camera_info"] is infos[parts["image"].header.frame_id] for parts in sets)


@pytest.mark.parametrize("depth_frame", ["{}", "{}_depth"])
def test_cameras_that_share_topics_have_clocks_and_queues_of_their_own(depth_frame):
    """One stamps by the wall, the other since it was switched on: neither makes the other's images old."""
    synchroniser, later = StampSynchroniser(["image", "depth"], size=3, slop=0.02), 10**9

    def show(topic, stamp, frame):
        synchroniser.add(topic, message(stamp, frame if topic == "image" else depth_frame.format(frame)), 0.0)
        return [parts["image"].header.frame_id for parts in ready(synchroniser)]

    # One waits for its depth, or its depth for it, while the other goes on for longer than a queue.
    show("image", 100, "boot")
    show("depth", 200, "boot")
    for index in range(5):
        show("image", later + 100 * index, "wall")
        assert show("depth", later + 100 * index, "wall") == ["wall"]
    assert show("depth", 100, "boot") == ["boot"]
    assert show("image", 200, "boot") == ["boot"]
    # One without any depth does not crowd out the other.
    show("image", 300, "boot")
    for index in range(5, 10):
        show("image", later + 100 * index, "wall")
    assert show("depth", 300, "boot") == ["boot"]
    assert synchroniser.dropped == 2
    # What has passed by the one's clock has not passed by the other's.
    show("depth", 395, "boot")
    show("depth", later + 2000, "wall")
    assert not show("image", 400, "boot")
    assert show("depth", 401, "boot") == ["boot"]


def test_overtaken_images_are_dropped_and_counted():
    synchroniser = StampSynchroniser(["image", "depth"])
    synchroniser.add("image", message(1), 0.0)
    synchroniser.add("image", message(2), 0.0)
    synchroniser.add("depth", message(2), 0.0)
    assert len(ready(synchroniser)) == 1
    assert synchroniser.dropped == 1
    synchroniser.add("depth", message(1), 0.0)
    assert not ready(synchroniser)


def test_the_queue_is_bounded():
    synchroniser = StampSynchroniser(["image", "depth"], size=3)
    for index in range(10):
        synchroniser.add("image", message(index), 0.0)
    assert synchroniser.dropped == 7
    synchroniser.add("depth", message(6), 0.0)
    assert not ready(synchroniser)
    synchroniser.add("depth", message(9), 0.0)
    assert len(ready(synchroniser)) == 1


def test_the_queues_of_many_cameras_are_bounded_together():
    synchroniser = StampSynchroniser(["image", "depth"], size=3)
    for index in range(100):
        synchroniser.add("image", message(index, f"camera{index}"), 0.0)
    assert 0 < 100 - synchroniser.dropped <= 3 * CAMERAS


def test_a_clock_that_was_set_back_is_that_of_its_camera():
    synchroniser = StampSynchroniser(["image", "depth"])
    for frame, stamp in (("wall", 10**9), ("boot", 9000)):
        synchroniser.add("image", message(stamp, frame), 0.0)
    synchroniser.forget_after(200 * MS, "boot")
    for frame, stamp in (("wall", 10**9), ("boot", 9000)):
        synchroniser.add("depth", message(stamp, frame), 0.0)
    assert [parts["image"].header.frame_id for parts in ready(synchroniser)] == ["wall"]


def test_what_is_of_later_than_a_clock_that_was_set_back_is_forgotten():
    synchroniser = StampSynchroniser(["image", "depth"], slop=0.02)
    for stamp in (100, 9000):
        synchroniser.add("image", message(stamp), 0.0)
    synchroniser.forget_after(200 * MS)
    synchroniser.add("depth", message(9000), 0.0)
    synchroniser.forget_after(200 * MS)
    synchroniser.add("depth", message(100), 0.0)
    assert len(ready(synchroniser)) == 1
    assert synchroniser.dropped == 0


def test_topics_that_were_not_announced_are_refused():
    with pytest.raises(ValueError, match="topic: expected"):
        StampSynchroniser(["image"]).add("depth", message(1), 0.0)
